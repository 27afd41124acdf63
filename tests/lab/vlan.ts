/**
 * Wires with VLANs on them, for hosts whose NIC is a trunk. They take a kernel with `8021q` and the bridge's VLAN filtering: a test file
 * that has them says `// lab: vm 8021q`. What crosses a wire, tags and all, is seen by `tcpdump -e` at either end.
 */
import type { Host } from './host.ts';
import type { Attachment, Lab } from './lab.ts';

/** A port of a switch. */
export interface Port extends Attachment {
  /** The VLAN of a machine that knows nothing of VLANs: its frames have no tag. */
  readonly access?: number;
  /** VLANs whose frames are tagged here. */
  readonly trunk?: readonly number[];
}

/**
 * A switch that keeps VLANs apart:
 *
 *     h eth1 ── trunk 100, 200 ─┬─ access 100 ── eth0 a
 *                               └─ access 200 ── eth0 b
 *
 * @returns The names of its ports, in their order, in the world's namespace: where to listen.
 */
export async function vlanSwitch(lab: Lab, ...ports: readonly Port[]): Promise<readonly string[]> {
  const segment = await lab.segment();
  // Without the default VLAN, in which everybody would be.
  await lab.world.ip(`link set ${segment} type bridge vlan_filtering 1 vlan_default_pvid 0`);
  const names: string[] = [];
  for (const port of ports) {
    const name = await lab.attach(segment, port);
    const allow = (vid: number, flags = '') => `bridge vlan add dev ${name} vid ${vid} ${flags}`;
    const access = port.access === undefined ? [] : [allow(port.access, 'pvid untagged')];
    const lines = [...access, ...(port.trunk ?? []).map((vid) => allow(vid))];
    await lab.world.net('sh', '-ec', lines.join('\n'));
    names.push(name);
  }
  return names;
}

/** A sub-interface of a trunk. */
export interface Vlan {
  /** From the wire inwards: `[100]`, or `[10, 100]` for 100 inside of 10. */
  readonly tags: readonly number[];
  /** Of the outer tag. Default 802.1Q. */
  readonly protocol?: '802.1Q' | '802.1ad';
  /** With prefix length. */
  readonly addresses?: readonly string[];
}

/**
 * A machine on the other end of a cable that is on every one of these VLANs:
 *
 *     h eth1 ── eth0 peer ─┬─ eth0.100      10.100.0.2/24
 *                          └─ eth0.10 ── eth0.10.100
 */
export async function trunkPeer(lab: Lab, end: Attachment, ...vlans: readonly Vlan[]): Promise<Host> {
  const peer = await lab.peer({ name: `${end.host.name}-${end.link}`, uplink: false });
  await lab.link(end, { host: peer, link: 'eth0', ...(end.mtu !== undefined && { mtu: end.mtu }) });
  for (const vlan of vlans) await subInterface(peer, 'eth0', vlan);
  return peer;
}

/** Makes what of it is missing, and sets it up. @returns Its name, `eth0.10.100`. */
export async function subInterface(
  host: Host,
  parent: string,
  { tags, protocol = '802.1Q', addresses = [] }: Vlan,
): Promise<string> {
  let name = parent;
  const lines: string[] = [];
  for (const [depth, tag] of tags.entries()) {
    const below = name;
    name = `${below}.${tag}`;
    const type = `type vlan protocol ${depth === 0 ? protocol : '802.1Q'} id ${tag}`;
    lines.push(
      `[ -e /proc/sys/net/ipv4/conf/${name} ] || ip link add link ${below} name ${name} ${type}`,
      `ip link set ${name} up`,
    );
  }
  lines.push(...addresses.map((address) => `ip address add ${address} dev ${name}`));
  await host.net('sh', '-ec', lines.join('\n'));
  return name;
}
