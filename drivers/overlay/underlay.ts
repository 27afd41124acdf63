/** The network below: by which address this host sends to its peers, and how large a frame may be. From facts. Pure. */
import { familyOf, ip, type Ip } from '../../address/ip.ts';
import { addressOf, contains, familyOfPrefix, lengthOf } from '../../address/prefix.ts';
import type { HostSettings } from '../../cnm/driver.ts';
import { CnmError } from '../../cnm/errors.ts';
import type { NetworkWithPresence } from '../../cnm/model.ts';
import type { Facts, NetnsFacts, RouteFact } from '../../kernel/facts.ts';
import { OPTION, type OverlayOptions, parseOptions, SWARM } from './options.ts';

export interface Underlay {
  /** The tunnel's source address. */
  readonly local: Ip;
  /** The other hosts. */
  readonly remotes: readonly Ip[];
  /** What the overlay's own links have, in bytes. */
  readonly mtu: number;
}

/** Outer Ethernet is not counted: the MTU of a link has never counted it. Inner Ethernet 14, VXLAN 8, UDP 8, and IPv4 20 or IPv6 40. */
const IP = { 4: 20, 6: 40 } as const;
const VXLAN = 14 + 8 + 8;

/**
 * What ESP (RFC 4303) adds: SPI and sequence number, an IV and an ICV of 16; and a trailer of two bytes, with what fills up to a block before
 * it. RFC 4106 sections 3.1 and 3.2 have the IV and block of AES-GCM, RFC 3602 section 3 those of AES-CBC.
 */
const ESP = { gcm: { added: 8 + 8 + 16, block: 4 }, cbc: { added: 8 + 16 + 16, block: 16 } } as const;
const ESP_TRAILER = 2;

/** What is left inside, in bytes: of the cipher that takes more, for either may be in use. */
function inside(below: number, family: 4 | 6, encrypted: boolean): number {
  if (!encrypted) return below - IP[family] - VXLAN;
  const { added, block } = ESP.cbc;
  return Math.floor((below - IP[family] - added) / block) * block - ESP_TRAILER - VXLAN;
}

/** How many bytes the network below sees of a packet with `length` inside. @param cipher absent: in the clear */
export function outside(length: number, family: 4 | 6, cipher?: keyof typeof ESP): number {
  if (cipher === undefined) return IP[family] + VXLAN + length;
  const { added, block } = ESP[cipher];
  return IP[family] + added + Math.ceil((VXLAN + length + ESP_TRAILER) / block) * block;
}

const ANY_IPV4 = ip('0.0.0.0');
/** RT_TABLE_MAIN. */
const MAIN_TABLE = 254;
const DEFAULT_MTU = 1500;
/** RFC 791 section 3.2; RFC 8200 section 5, below which Linux has no IPv6 on a link. */
const LEAST = { 4: 68, 6: 1280 } as const;

/**
 * @param others further hosts, which nobody listed: the way to them counts as far as there is one
 * @throws CnmError `option-invalid`, naming the peer without a route, the address that is not here, or the MTU.
 */
export function underlayOf(
  options: OverlayOptions,
  host: NetnsFacts,
  settings: HostSettings,
  inner: 4 | 6,
  others: readonly Ip[] = [],
): Underlay {
  const own = new Set(host.addresses.map(({ prefix }) => addressOf(prefix)));
  const peers = options.peers === SWARM ? nodesOf(settings, own) : options.peers;
  const remotes = peers.filter((peer) => !own.has(peer));
  const links = remotes.map((peer) => linkTo(peer, host));
  const local = localAddress({ ...options, peers }, host, settings, links[0] ?? defaultWay(host));
  if (!own.has(local))
    throw new CnmError(
      'option-invalid',
      `advertise cannot be ${local}: this host has no such address (it has ${[...own].filter((one) => familyOf(one) === familyOf(local)).join(', ')})`,
    );
  const known = others.flatMap((other) => (own.has(other) ? [] : (wayTo(other, host) ?? [])));
  const below = options.underlayMtu ?? mtuBelow([...links, ...known], local, host);
  const mtu = inside(below, familyOf(local), options.encrypted);
  if (mtu < LEAST[inner])
    throw new CnmError(
      'option-invalid',
      `${OPTION.mtu} (mtu) of the network below is ${below}: that leaves ${mtu} bytes for the overlay, and IPv${inner} needs ${LEAST[inner]}`,
    );
  return { local, remotes, mtu };
}

/** The swarm's nodes, in the family in which this one is known. */
function nodesOf({ nodes = [] }: HostSettings, own: ReadonlySet<Ip>): readonly Ip[] {
  const self = nodes.find((node) => own.has(node));
  if (self !== undefined) return nodes.filter((node) => familyOf(node) === familyOf(self));
  throw new CnmError(
    'option-invalid',
    `peers cannot be ${SWARM}: Docker has told of no node of a swarm that is this host (${nodes.join(', ') || 'nor of any other'}); see docker info, and docker swarm init --advertise-addr`,
  );
}

/** The remotes that a network has when it is on the swarm's nodes and `local` is this one. */
export function otherNodes({ nodes = [] }: HostSettings, local: Ip): readonly Ip[] {
  return nodes.filter((node) => node !== local && familyOf(node) === familyOf(local));
}

/**
 * What the network was told, what the daemon was told, the address of ours that is in the list of peers, and at last the one that the
 * kernel would take: of the link to the first peer, or of the default route where nobody is listed, best in the next hop's own subnet
 * (inet_select_addr()).
 */
function localAddress(
  { advertise, peers }: Pick<OverlayOptions, 'advertise'> & { readonly peers: readonly Ip[] },
  { addresses }: NetnsFacts,
  settings: HostSettings,
  first: RouteFact | undefined,
): Ip {
  const [peer] = peers;
  const family = familyOf(
    peer ?? settings.advertise ?? (first === undefined ? ANY_IPV4 : addressOf(first.to)),
  );
  if (advertise !== undefined) return advertise;
  if (settings.advertise !== undefined && familyOf(settings.advertise) === family) return settings.advertise;
  const listed = peers.find((one) => addresses.some(({ prefix }) => addressOf(prefix) === one));
  if (listed !== undefined) return listed;
  const onLink = addresses.filter(
    ({ link, prefix }) =>
      link === first?.link && familyOfPrefix(prefix) === family && !addressOf(prefix).startsWith('fe80:'),
  );
  const next = first?.via ?? peer;
  const found = onLink.find(({ prefix }) => next !== undefined && contains(prefix, next)) ?? onLink[0];
  if (found !== undefined) return addressOf(found.prefix);
  throw new CnmError(
    'option-invalid',
    `This host has no IPv${family} address on ${first?.link ?? 'any link'}, ${peer === undefined ? 'which has no default route' : `the way to peer ${peer}`}: say with -o advertise=ADDRESS, or cnmd --advertise, by which address the peers reach it`,
  );
}

/** Where no peer says which way: IPv4 before IPv6. */
function defaultWay({ routes }: NetnsFacts): RouteFact | undefined {
  const ways = routes.filter(
    ({ to, table, link }) => table === MAIN_TABLE && lengthOf(to) === 0 && link !== undefined,
  );
  return ways.find(({ to }) => familyOfPrefix(to) === 4) ?? ways[0];
}

/** The longest prefix of the main table wins; rules and other tables are the administrator's, who can say `advertise` and the MTU. */
function wayTo(peer: Ip, { routes }: NetnsFacts): RouteFact | undefined {
  const fitting = routes.filter(
    ({ to, table }) => table === MAIN_TABLE && familyOfPrefix(to) === familyOf(peer) && contains(to, peer),
  );
  return fitting.sort((a, b) => lengthOf(b.to) - lengthOf(a.to))[0];
}

function linkTo(peer: Ip, host: NetnsFacts): RouteFact {
  const best = wayTo(peer, host);
  if (best !== undefined) return best;
  throw new CnmError(
    'option-invalid',
    `peers cannot have ${peer}: this host has no route to it; see ip route get ${peer}`,
  );
}

/** The narrowest way; with no other host known, the link of our own address. A route may have an MTU of its own. */
function mtuBelow(ways: readonly RouteFact[], local: Ip, { links, addresses }: NetnsFacts): number {
  const ours = addresses.filter(({ prefix }) => addressOf(prefix) === local);
  const all: readonly Pick<RouteFact, 'link' | 'mtu'>[] = ways.length > 0 ? ways : ours;
  const mtus = all.map(({ link, mtu = Infinity }) =>
    Math.min(mtu, (link === undefined ? undefined : links.get(link)?.mtu) ?? DEFAULT_MTU),
  );
  return Math.min(...mtus, ...(mtus.length === 0 ? [DEFAULT_MTU] : []));
}

/** What a network that is here already could have now; undefined: the user said it, or there is no telling, as while a link is down. */
export function mtuNow(
  network: NetworkWithPresence,
  { host }: Facts,
  settings: HostSettings,
  others: readonly Ip[],
): number | undefined {
  const options = parseOptions(network);
  if (options.underlayMtu !== undefined) return undefined;
  try {
    return underlayOf(options, host, settings, network.ipv6.length > 0 ? 6 : 4, others).mtu;
  } catch (error) {
    if (error instanceof CnmError) return undefined;
    throw error;
  }
}
