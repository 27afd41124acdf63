/** What an overlay network and its endpoints are made of in the kernel. Pure. */
import { familyOf, type Ip } from '../../address/ip.ts';
import { macFromIpv4, macFromSeed, type Mac } from '../../address/mac.ts';
import { mac } from '../../address/mac.ts';
import { addressOf, familyOfPrefix } from '../../address/prefix.ts';
import type { HostSettings } from '../../cnm/driver.ts';
import type {
  EndpointSpec,
  JoinInfo,
  NetworkSpec,
  NetworkWithPresence,
  StaticRoute,
} from '../../cnm/model.ts';
import type { Facts } from '../../kernel/facts.ts';
import type { LinkAdd, Mark, NetnsPath, Plan, Step } from '../../kernel/step.ts';
import { gatewaysOf, uplinkRules, uplinkSteps } from './egress.ts';
import { encryptionOf, encryptionSteps } from './encryption.ts';
import { endpointOptions } from './endpoint-options.ts';
import { bridgeMac, netnsNameOf, vethNamesOf } from './names.ts';
import { OPTION, type OverlayOptions, parseOptions, SWARM } from './options.ts';
import { addressesOf, assertInRange, type Segment, segmentOf, segmentsOf } from './segments.ts';
import { otherNodes, type Underlay, underlayOf } from './underlay.ts';

/** Every destination that the tunnel has learned nothing of. */
export const ANY_MAC = mac('00:00:00:00:00:00');

/** The network's namespace with a bridge and a tunnel for each segment; tunnels first up, bridges last. */
export function presencePlan(network: NetworkSpec, facts: Facts, host: HostSettings): Plan {
  const options = parseOptions(network);
  const segments = segmentsOf(network, options);
  const underlay = underlayOf(options, facts.host, host, network.ipv6.length > 0 ? 6 : 4);
  const netns = `${host.netnsDir}/${netnsNameOf(network.id)}`;
  const keys = options.encrypted ? encryptionOf(host, facts) : undefined;
  const { port } = options;
  return [
    ...(keys === undefined
      ? []
      : segments.flatMap(({ vni }) =>
          encryptionSteps({ vni, port, ...underlay, remotes: hostsOf(network, host, underlay) }, keys),
        )),
    ...uplinkRules(network, options, segments),
    { do: 'netns.add', path: netns },
    ...forwarding(network, netns, options.egress === 'gateway' || segments.length > 1),
    ...segments.flatMap((segment) => segmentSteps(network, segment, netns, options, underlay)),
    ...uplinkSteps(network, options, segments, facts.host, { netns, mtu: underlay.mtu }),
  ];
}

/** Those that it has keys for. */
function hostsOf(
  { agreement }: NetworkSpec,
  host: HostSettings,
  { local, remotes }: Pick<Underlay, 'local' | 'remotes'>,
): readonly Ip[] {
  if (agreement === undefined) return remotes;
  const others = (host.remotes ?? []).filter((at) => at !== local && familyOf(at) === familyOf(local));
  return [...new Set(others)].sort();
}

/** Between the segments, or to the uplink, in the namespace alone. */
function forwarding(network: NetworkSpec, netns: NetnsPath, routes: boolean): readonly Step[] {
  if (!routes) return [];
  const on = (key: string): Step => ({ do: 'sysctl.set', netns, key, value: '1', keep: true });
  return [
    ...(network.ipv4.length > 0 ? [on('net.ipv4.ip_forward')] : []),
    ...(network.ipv6.length > 0 ? [on('net.ipv6.conf.all.forwarding')] : []),
  ];
}

function segmentSteps(
  network: NetworkSpec,
  { vni, bridge, tunnel, subnets }: Segment,
  netns: NetnsPath,
  options: OverlayOptions,
  { local, remotes, mtu }: Underlay,
): Plan {
  const mark: Mark = { network: network.id };
  // Where the hosts tell each other of endpoints, nothing that a packet says is believed.
  const learning = network.agreement === undefined;
  const bound = learning ? {} : { learning };
  const copies = copiesTo(network, remotes);
  const gateways = subnets.flatMap(({ gateway }) => (gateway === undefined ? [] : [gateway]));
  return [
    {
      do: 'link.add',
      netns,
      name: bridge,
      mark,
      link: { kind: 'bridge' },
      mtu,
      mac: bridgeMac(local, vni, bridge),
      linkLocal: network.ipv6.length > 0,
    },
    ...(network.ipv6.length > 0 ? ipv6Settings(netns, bridge) : []),
    ...gateways.map((prefix): Step => ({ do: 'addr.add', netns, link: bridge, prefix })),
    {
      do: 'link.add',
      netns,
      name: tunnel,
      mark,
      link:
        options.vtep === 'userspace'
          ? { kind: 'tun' }
          : { kind: 'vxlan', vni, local, port: options.port, learning },
      mtu,
      mac: macFromSeed(`${local} ${vni} ${tunnel}`),
      linkLocal: false,
    },
    // The gateway is on every host, and each answers for itself alone: nobody asks the other hosts for it.
    { do: 'link.master', netns, link: tunnel, master: bridge, suppress: true },
    ...(options.vtep === 'userspace'
      ? [
          {
            do: 'vtep.run' as const,
            netns,
            link: tunnel,
            vni,
            local,
            port: options.port,
            peers: copies,
            ...bound,
          },
        ]
      : replication(netns, tunnel, copies)),
    { do: 'link.up', netns, link: tunnel },
    { do: 'link.up', netns, link: bridge },
  ];
}

/**
 * What a presence becomes when its hosts are others: each that is gone has no more keys, each that has come gets them; and of a swarm's nodes
 * it gets copies of what everybody is to have. Keys are those of now. All else stays as it was planned, for endpoints stand on it.
 */
export function followNodes(network: NetworkWithPresence, host: HostSettings): Plan {
  const { presence = [], options } = network;
  const isSwarms = options[OPTION.peers] === SWARM;
  const listed = presence.flatMap((step) => (step.do === 'xfrm.policy.add' ? [step.dst] : []));
  const remotes = (local: Ip) => (isSwarms ? otherNodes(host, local) : [...new Set(listed)]);
  const tunnels = new Map(
    presence.flatMap((step) =>
      step.do === 'link.add' && step.link.kind === 'vxlan' ? [[step.name, step.link.local] as const] : [],
    ),
  );
  const [own] = [
    ...tunnels.values(),
    ...presence.flatMap((step) => (step.do === 'vtep.run' ? [step.local] : [])),
  ];
  const keys = host.encryption;
  const copies = (local: Ip) => copiesTo(network, otherNodes(host, local));
  return presence.flatMap((step): Plan => {
    if (keys !== undefined && own !== undefined) {
      if (step.do === 'xfrm.state.add' || step.do === 'xfrm.policy.add') return [];
      if (step.do === 'encrypted.guard')
        return encryptionSteps(
          { ...step, local: own, remotes: hostsOf(network, host, { local: own, remotes: remotes(own) }) },
          keys,
        );
    }
    if (!isSwarms) return [step];
    if (step.do === 'fdb.add') return [];
    if (step.do === 'vtep.run') return [{ ...step, peers: copies(step.local) }];
    if (step.do !== 'link.up') return [step];
    const local = tunnels.get(step.link);
    return local === undefined ? [step] : [...replication(step.netns, step.link, copies(local)), step];
  });
}

/** With an agreement a host gets copies when its record says that it is on the network. */
function copiesTo({ agreement }: NetworkSpec, remotes: readonly Ip[]): readonly Ip[] {
  return agreement === undefined ? remotes : [];
}

/** RFC 7348 section 4.2 sends what everybody is to hear to a multicast group; here each host gets a copy. */
function replication(netns: NetnsPath | undefined, link: string, remotes: readonly Ip[]): Plan {
  return remotes.map((dst) => ({ do: 'fdb.add', ...(netns && { netns }), link, mac: ANY_MAC, dst }));
}

/** A container must not make itself the router's router; and nobody else has the bridge's link-local address: see drivers/bridge/plan.ts. */
function ipv6Settings(netns: NetnsPath, bridge: string): readonly Step[] {
  const own = (key: string, value: string): Step => ({
    do: 'sysctl.set',
    netns,
    key: `net.ipv6.conf.${bridge}.${key}`,
    value,
    keep: true,
  });
  return [own('disable_ipv6', '0'), own('accept_ra', '0'), own('accept_dad', '0')];
}

/**
 * A veth pair: one end a port of its segment's bridge, in the network's namespace; the other waits on the host for Docker, or for our own
 * sandbox. Its addresses are announced on this host and to the others: who has learned that they are elsewhere learns better, at once.
 */
export function endpointPlan(
  network: NetworkWithPresence,
  endpoint: EndpointSpec & { readonly mac: Mac },
): Plan {
  const options = parseOptions(network);
  endpointOptions(endpoint);
  const { bridge, tunnel } = segmentOf(segmentsOf(network, options), endpoint);
  assertInRange(options, endpoint);
  const { netns, mtu } = presenceOf(network, bridge);
  const { host, container } = vethNamesOf(endpoint.id);
  const addresses = addressesOf(endpoint).map(addressOf);
  const announce = (link: string): Step => ({
    do: 'neigh.announce',
    netns,
    link,
    addresses,
    mac: endpoint.mac,
  });
  return [
    {
      do: 'link.add',
      netns,
      name: host,
      mark: { network: network.id, endpoint: endpoint.id },
      link: { kind: 'veth', peer: { name: container, mac: endpoint.mac, home: true } },
      linkLocal: false,
      mtu,
    },
    { do: 'link.master', netns, link: host, master: bridge },
    { do: 'link.up', netns, link: host },
    // The bridge keeps from the tunnel what is announced on it, because of `suppress`.
    ...(addresses.length === 0 ? [] : [announce(bridge), announce(tunnel)]),
  ];
}

/** As it was planned when this host joined: what the MTU below was then. */
function presenceOf(
  { presence = [], id }: NetworkWithPresence,
  bridge: string,
): { readonly netns: NetnsPath; readonly mtu: number } {
  const link = presence.find(
    (step): step is LinkAdd => step.do === 'link.add' && step.name === bridge && step.netns !== undefined,
  );
  if (link?.netns === undefined || link.mtu === undefined)
    throw new Error(`network ${id} has no presence with ${bridge}`);
  return { netns: link.netns, mtu: link.mtu };
}

/**
 * No default gateway but with an uplink: Docker then gives the container docker_gwbridge as its way out, as it does with its own overlay. The
 * other segments are reached by the own one's gateway.
 */
export function joinInfo(network: NetworkSpec, endpoint: EndpointSpec): JoinInfo {
  const options = parseOptions(network);
  const segments = segmentsOf(network, options);
  const own = segmentOf(segments, endpoint);
  return {
    srcName: vethNamesOf(endpoint.id).container,
    dstPrefix: options.ifacePrefix,
    ...gatewaysOf(options, own, endpoint),
    routes: segments.filter((segment) => segment !== own).flatMap((other) => routesTo(other, own, endpoint)),
    disableGatewayService: network.internal,
  };
}

function routesTo(other: Segment, own: Segment, endpoint: EndpointSpec): readonly StaticRoute[] {
  const families = addressesOf(endpoint).map(familyOfPrefix);
  return other.subnets.flatMap(({ pool }) => {
    const family = familyOfPrefix(pool);
    const router = own.subnets.find((subnet) => familyOfPrefix(subnet.pool) === family)?.gateway;
    if (router === undefined || !families.includes(family)) return [];
    return [{ destination: pool, nextHop: addressOf(router) }];
  });
}

/** One MAC per address, on whatever host it is: neighbours' caches stay right when a container moves, or an address is reused. */
export function macOf({ id, address, addressV6 }: EndpointSpec, network: NetworkSpec): Mac {
  if (address !== undefined) return macFromIpv4(addressOf(address));
  const { vnis } = parseOptions(network);
  return macFromSeed(addressV6 === undefined ? id : `${vnis.join(',')} ${addressOf(addressV6)}`);
}
