/**
 * What a fake kernel consists of: network namespaces and the links in them, with the rules of the real one that a plan
 * can run into. Every errno here was seen from Linux 6.18 (`ip link`, `ip addr`) or is cited.
 */
import type { Ip } from '../address/ip.ts';
import type { Mac } from '../address/mac.ts';
import type { Prefix } from '../address/prefix.ts';
import type { EntryStep } from './entry.ts';
import type { LinkFact, VxlanFact } from './facts.ts';
import { KernelError } from './kernel.ts';
import { checkName } from './link-name.ts';
import type { LinkKind, MacvlanMode, Mark, NetnsPath, QdiscSet, VlanProtocol } from './step.ts';

export interface FakeRoute {
  readonly to: Prefix;
  readonly via?: Ip;
  readonly link?: FakeLink;
  readonly ours: boolean;
}

/** A link knows where it is, so that a veth end finds its peer wherever somebody has moved it. */
export interface FakeLink {
  name: string;
  index: number;
  netns: FakeNetns;
  kind?: string;
  mtu: number;
  mac?: Mac;
  up: boolean;
  linkLocal: boolean;
  promisc?: boolean;
  nic?: NonNullable<LinkFact['nic']>;
  mark?: Mark;
  master?: FakeLink;
  /** Of the port that it is; without a master they mean nothing. */
  port?: { readonly isolated: boolean; readonly hairpin: boolean; readonly suppress: boolean };
  peer?: FakeLink;
  bucket?: Omit<QdiscSet, 'do' | 'link'>;
  redirectedTo?: FakeLink;
  vxlan?: VxlanFact;
  /** Permanent ones, of its own and of its bridge's table, by slotOf(). */
  readonly entries: Map<string, EntryStep>;
  /** Of a macvlan or VLAN link. */
  parent?: FakeLink;
  macvlanMode?: MacvlanMode;
  vlan?: { readonly id: number; readonly protocol: VlanProtocol };
  /** The macvlan and VLAN links on this one, wherever they are. */
  readonly children: Set<FakeLink>;
  readonly addresses: Set<Prefix>;
  /** Those of `addresses` that we added; told apart on a stranger's link. */
  readonly ownAddresses: Set<Prefix>;
  /** Values of `net.{ipv4,ipv6}.{conf,neigh}.<this link>.*` that were set, by `ipv6.conf.accept_ra`: they move and die with the link. */
  readonly sysctls: Map<string, string>;
}

/** `path` is undefined for the daemon's own namespace. `ours`: made by a `netns.add`. */
export interface FakeNetns {
  readonly path: NetnsPath | undefined;
  readonly ours: boolean;
  readonly links: Map<string, FakeLink>;
  readonly routes: FakeRoute[];
  readonly sysctls: Map<string, string>;
  /** By translationName(). */
  translation?: string;
  readonly nextIndex: () => number;
}

/** A link that was there before us, or that someone else makes. */
export interface StrangerLink {
  readonly name: string;
  readonly kind?: string;
  readonly mtu?: number;
  readonly mac?: Mac;
  /** Default true. */
  readonly up?: boolean;
  readonly master?: string;
  readonly addresses?: readonly Prefix[];
  readonly promisc?: boolean;
  readonly nic?: NonNullable<LinkFact['nic']>;
  /** A macvlan or VLAN link, with what it is on. */
  readonly link?: LinkKind;
  /** A mark makes it a leftover of ours rather than a stranger's. */
  readonly mark?: Mark;
}

export function fakeNetns(path: NetnsPath | undefined, ours: boolean, nextIndex: () => number): FakeNetns {
  const netns: FakeNetns = { path, ours, links: new Map(), routes: [], sysctls: new Map(), nextIndex };
  const lo = addLink(netns, { name: 'lo', mtu: 65536, up: true });
  lo.addresses.add('127.0.0.1/8' as Prefix).add('::1/128' as Prefix);
  return netns;
}

/**
 * Put a new link into a namespace.
 * @throws KernelError EINVAL for a name that the kernel would not take, EEXIST when it is taken.
 */
export function addLink(
  netns: FakeNetns,
  link: {
    name: string;
    mtu: number;
    up: boolean;
    kind?: string;
    mac?: Mac;
    mark?: Mark;
    linkLocal?: boolean;
    vxlan?: VxlanFact;
    promisc?: boolean;
    nic?: NonNullable<LinkFact['nic']>;
  },
): FakeLink {
  checkName(link.name);
  checkMtu(link.name, link.mtu);
  checkMac(link.name, link.mac);
  if (netns.links.has(link.name)) throw new KernelError(`link add ${link.name}`, 'EEXIST');
  const made: FakeLink = {
    linkLocal: true,
    ...link,
    index: netns.nextIndex(),
    netns,
    children: new Set(),
    addresses: new Set(),
    ownAddresses: new Set(),
    sysctls: new Map(),
    entries: new Map(),
  };
  netns.links.set(link.name, made);
  return made;
}

/** ETH_MIN_MTU 68 and ETH_MAX_MTU 65535 for bridges and veths; `lo` has 65536. */
export function checkMtu(name: string, mtu: number): void {
  if (mtu >= 68 && mtu <= (name === 'lo' ? 65536 : 65535)) return;
  throw new KernelError(`link ${name} mtu ${mtu}`, 'EINVAL', 'mtu is 68 to 65535');
}

/** is_valid_ether_addr(): a group address is no interface's address. */
export function checkMac(name: string, mac: Mac | undefined): void {
  if (mac === undefined || (Number.parseInt(mac.slice(0, 2), 16) & 1) === 0) return;
  throw new KernelError(`link ${name} address ${mac}`, 'EADDRNOTAVAIL');
}

/** Take a link away, with what dies with it: the veth's other end, the links on it, the ports' membership, addresses and routes. */
export function removeLink(link: FakeLink): void {
  detach(link);
  link.parent?.children.delete(link);
  for (const child of [...link.children]) removeLink(child);
  link.netns.links.delete(link.name);
  for (const other of link.netns.links.values()) {
    if (other.master === link) leaveMaster(other);
    // Its action stays, and has nowhere to send to (mirred_device_event()).
    if (other.redirectedTo === link) delete other.redirectedTo;
  }
  const { peer } = link;
  if (peer === undefined) return;
  delete link.peer;
  delete peer.peer;
  removeLink(peer);
}

/** What a link loses when it leaves its namespace: dev_change_net_namespace() closes it, and addresses and routes go. */
function detach(link: FakeLink): void {
  leaveMaster(link);
  link.addresses.clear();
  link.ownAddresses.clear();
  const { routes } = link.netns;
  for (let i = routes.length - 1; i >= 0; i -= 1) if (routes[i]?.link === link) routes.splice(i, 1);
}

/** What the bridge's table had of the port goes (br_fdb_delete_by_port()). */
export function leaveMaster(link: FakeLink): void {
  delete link.master;
  for (const [slot, { do: kind }] of link.entries) if (kind === 'fdb.port') link.entries.delete(slot);
}

/** @throws KernelError EEXIST when `to` has a link of that name, EINVAL for a bad name; then nothing has changed. */
export function moveLink(link: FakeLink, to: FakeNetns, as: string): void {
  checkName(as);
  if (link.netns === to && link.name === as) return;
  if (to.links.has(as)) throw new KernelError(`link ${link.name} move as ${as}`, 'EEXIST');
  if (link.netns !== to) {
    detach(link);
    link.up = false;
  }
  link.netns.links.delete(link.name);
  link.netns = to;
  link.name = as;
  to.links.set(as, link);
}

/** The end of a namespace: virtual links in it are deleted; physical ones go back to the first namespace (default_device_exit_net()). */
export function emptyNetns(netns: FakeNetns, host: FakeNetns): void {
  for (const link of [...netns.links.values()]) {
    if (link.kind === undefined && link.name !== 'lo') moveLink(link, host, freeName(host, link.name));
    else removeLink(link);
  }
}

function freeName(netns: FakeNetns, name: string): string {
  if (!netns.links.has(name)) return name;
  for (let n = 0; ; n += 1) if (!netns.links.has(`dev${n}`)) return `dev${n}`;
}

/** Make `link` a port of `master`, as br_add_if() does: it leaves the bridge that it was in. */
export function enslave(link: FakeLink, master: FakeLink): void {
  const operation = `link set ${link.name} master ${master.name}`;
  // rtnetlink's do_set_master(): a device without ndo_add_slave takes no ports.
  if (master.kind !== 'bridge') throw new KernelError(operation, 'EOPNOTSUPP');
  if (link.kind === 'bridge')
    throw new KernelError(operation, 'ELOOP', 'Can not enslave a bridge to a bridge');
  if (link.name === 'lo') throw new KernelError(operation, 'EINVAL');
  link.master = master;
}

/** Where the value of a sysctl stands: its map and the key in it. Undefined: there is no such sysctl. */
export function sysctlSlot(
  netns: FakeNetns,
  key: string,
): { values: Map<string, string>; key: string; initial: string } | undefined {
  const perLink = /^net\.(ipv[46])\.(conf|neigh)\.([^.]+)\.(\w+)$/.exec(key);
  if (perLink === null) {
    const initial = INITIAL[key];
    return netns.sysctls.has(key) || initial !== undefined
      ? { values: netns.sysctls, key, initial: initial ?? '' }
      : undefined;
  }
  const [, family = '', table = '', name = '', leaf = ''] = perLink;
  const initial = INITIAL_PER_LINK[leaf] ?? '0';
  if (name === 'all' || name === 'default') return { values: netns.sysctls, key, initial };
  // A `/` in the key stands for a dot in the interface name (sysctl(8)).
  const link = netns.links.get(name.replaceAll('/', '.'));
  return link && { values: link.sysctls, key: `${family}.${table}.${leaf}`, initial };
}

const INITIAL: Readonly<Record<string, string>> = {
  'net.ipv4.ip_forward': '0',
  'net.bridge.bridge-nf-call-iptables': '1',
  'net.bridge.bridge-nf-call-ip6tables': '1',
};
const INITIAL_PER_LINK: Readonly<Record<string, string>> = { accept_ra: '1', send_redirects: '1' };
