/** A step in the words that a network engineer would type: for logs, dry runs and the doctor. */
import { isAny } from '../address/ip.ts';
import { portsText } from './ports.ts';
import type { LinkAdd, LinkKind, Mark, Step, XfrmStateAdd } from './step.ts';

/** The text of a link's alias, as `ip -d link` shows it. */
export function markText(mark: Mark): string {
  return mark.endpoint === undefined ? `cnm ${mark.network}` : `cnm ${mark.network} ${mark.endpoint}`;
}

export function describe(step: Step): string {
  const inNetns = 'netns' in step ? `nsenter --net=${step.netns} ` : '';
  return inNetns + command(step);
}

function command(step: Step): string {
  switch (step.do) {
    case 'link.add':
      return linkAdd(step);
    case 'link.master':
      return words(
        `ip link set ${step.link} master ${step.master}`,
        step.isolated === true || step.hairpin === true || step.suppress === true
          ? `&& bridge link set dev ${step.link}`
          : undefined,
        step.isolated === true ? 'isolated on' : undefined,
        step.hairpin === true ? 'hairpin on' : undefined,
        step.suppress === true ? 'neigh_suppress on' : undefined,
      );
    case 'link.mtu':
      return `ip link set ${step.link} mtu ${step.mtu}`;
    case 'link.up':
      return `ip link set ${step.link} up`;
    case 'link.promisc':
      return `ip link set ${step.link} promisc on`;
    case 'link.move':
      return `ip link set ${step.link} netns ${step.to} name ${step.as}`;
    case 'addr.add':
      return `ip addr add ${step.prefix} dev ${step.link}`;
    case 'route.add':
      return words('ip route add', step.to, step.via && `via ${step.via}`, step.link && `dev ${step.link}`);
    case 'sysctl.set':
      return `sysctl -w ${step.key}=${step.value}`;
    case 'nft.element':
      return `nft add element inet cnm ${step.set} { ${step.key.join(' . ')}${step.data ? ` : ${step.data.join(' . ')}` : ''} }`;
    case 'forward.accept':
      return `iptables -I DOCKER-USER -i|-o ${step.bridge} -j ACCEPT`;
    case 'port.hold':
      return `hold ${portsText(step)}`;
    case 'conntrack.forget':
      return words(
        `conntrack -D -p ${step.proto}`,
        isAny(step.address) ? undefined : `--orig-dst ${step.address}`,
        `--orig-port-dst ${step.port}${step.portEnd === undefined ? '' : `-${step.portEnd}`}`,
      );
    case 'qdisc.set':
      return `tc qdisc replace dev ${step.link} root tbf rate ${step.rate}bps burst ${step.burst} limit ${step.limit}`;
    case 'ingress.redirect':
      return (
        `tc qdisc add dev ${step.link} ingress; tc filter replace dev ${step.link} ingress protocol all prio 1 ` +
        `handle 800::800 u32 match u32 0 0 action mirred egress redirect dev ${step.to}`
      );
    case 'neigh.announce':
      return `announce ${step.addresses.join(' and ')} at ${step.mac} on ${step.link}`;
    case 'neigh.probe':
      return `probe ${step.addresses.join(' and ')} on ${step.link}`;
    case 'fdb.add':
      return `bridge fdb append ${step.mac} dev ${step.link} dst ${step.dst}`;
    case 'fdb.port':
      return `bridge fdb replace ${step.mac} dev ${step.link} master static`;
    case 'neigh.add':
      return `ip neigh replace ${step.address} lladdr ${step.mac} dev ${step.link} nud permanent`;
    case 'vtep.run':
      return `run a VXLAN endpoint on ${step.link}: id ${step.vni} local ${step.local} port ${step.port} ${step.learning === false ? 'nolearning' : `peers ${step.peers.join(',')}`}`;
    case 'xfrm.state.add':
      return `ip xfrm state add src ${step.src} dst ${step.dst} proto esp spi ${hex(step.spi)} reqid ${hex(step.reqid)} mode transport ${cipherText(step.cipher)}`;
    case 'xfrm.policy.add':
      return (
        `ip xfrm policy add src ${step.src} dst ${step.dst} proto udp dport ${step.port} dir out mark ${hex(step.mark)} ` +
        `tmpl src ${step.src} dst ${step.dst} proto esp reqid ${hex(step.reqid)} mode transport`
      );
    case 'encrypted.guard':
      return `nft add element inet cnm_encrypted networks { ${step.port} . ${step.vni} : ${hex(step.mark)} }`;
    case 'uplink.translate':
      return `nft translate ${step.pairs.map(({ inside, outside }) => `${inside} as ${outside}`).join(', ')} on ${step.link}`;
    case 'netns.add':
      return `ip netns add ${step.path}`;
  }
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}

function linkAdd(step: LinkAdd): string {
  const mtu = step.mtu === undefined ? undefined : `mtu ${step.mtu}`;
  const mac = step.mac && `address ${step.mac}`;
  const arp = step.arp === false ? 'arp off' : undefined;
  const { link } = step;
  const on = link.kind === 'macvlan' || link.kind === 'vlan' ? `link ${link.parent}` : undefined;
  return words('ip link add', on, step.name, mtu, mac, arp, `type ${link.kind}`, settings(link));
}

function settings(link: LinkKind): string | undefined {
  switch (link.kind) {
    case 'veth':
      return `peer name ${link.peer.name}${link.peer.home === true ? ' netns HOME' : ''}`;
    case 'vxlan':
      return `id ${link.vni} local ${link.local} dstport ${link.port} ${link.learning ? 'learning' : 'nolearning'}`;
    case 'macvlan':
      return words(`mode ${link.mode}`, link.promisc === false ? 'nopromisc' : undefined);
    case 'vlan':
      return `protocol ${link.protocol} id ${link.id}`;
    default:
      return undefined;
  }
}

function words(...parts: readonly (string | undefined)[]): string {
  return parts.filter((part) => part !== undefined && part !== '').join(' ');
}

function cipherText(cipher: XfrmStateAdd['cipher']): string {
  return cipher === 'gcm'
    ? "flag esn replay-window 4096 aead 'rfc4106(gcm(aes))' KEY 128"
    : "extra-flag oseq-may-wrap auth-trunc 'hmac(sha256)' KEY 128 enc 'cbc(aes)' KEY";
}
