/** The options of `docker network create -d cnm-overlay -o …`, under Docker's own names (libnetwork.md §3) where Docker has them. */
import { familyOf, parseIp, type Ip } from '../../address/ip.ts';
import { hasHostBits, isMulticast, networkOf, parsePrefix, type Prefix } from '../../address/prefix.ts';
import { DNS_OPTIONS, dnsPlace } from '../../cnm/dns-options.ts';
import { CnmError } from '../../cnm/errors.ts';
import type { NetworkSpec } from '../../cnm/model.ts';
import {
  addressValue,
  booleanValue,
  choiceValue,
  interfacePrefixValue,
  invalidValue,
  mtuValue,
  quote,
} from '../../cnm/option-values.ts';
import { isVni, VNI_LIMIT, VXLAN_PORT } from './vxlan.ts';

const VTEPS = ['kernel', 'userspace'] as const;
const EGRESSES = ['docker', 'gateway'] as const;

export interface OverlayOptions {
  /** One for each segment, in the order of its subnets. */
  readonly vnis: readonly number[];
  /**
   * The hosts of the network, perhaps this one among them, all of one family; those that Swarm tells of; or none. With an agreement the
   * cluster's records say where endpoints are, in a swarm too.
   */
  readonly peers: readonly Ip[] | typeof SWARM;
  /** UDP, of all its hosts. */
  readonly port: number;
  /** This host's own address towards the peers; undefined = found out. */
  readonly advertise: Ip | undefined;
  /** Bytes, of the network below, as Docker's overlay has it; undefined = read from the links to the peers. */
  readonly underlayMtu: number | undefined;
  /** The parts of the subnets whose addresses are given on this host; `any`: the user sees to it that no address is given twice. */
  readonly ranges: readonly Prefix[] | 'any';
  readonly ifacePrefix: string;
  /** Who puts frames into datagrams: Linux's own VXLAN device, or a thread of the daemon. */
  readonly vtep: (typeof VTEPS)[number];
  readonly encrypted: boolean;
  /** The containers' way out: Docker's bridge for that, where there is Docker; or the router of each subnet on their host. */
  readonly egress: (typeof EGRESSES)[number];
}

/** Of `peers`: the nodes of the swarm. */
export const SWARM = 'swarm';

export const OPTION = {
  vni: 'vni',
  vniList: 'com.docker.network.driver.overlay.vxlanid_list',
  name: 'name',
  peers: 'peers',
  port: 'port',
  advertise: 'advertise',
  ranges: 'ip-range',
  mtu: 'com.docker.network.driver.mtu',
  ifacePrefix: 'com.docker.network.container_iface_prefix',
  vtep: 'vtep',
  encrypted: 'encrypted',
  egress: 'egress',
} as const;

/** Known to Docker itself for every driver, and acted on by dockerd: accepted here, not ours to judge. */
const DOCKERS_OWN = new Set([
  'com.docker.network.advertise_addr_nmsgs',
  'com.docker.network.advertise_addr_ms',
  'com.docker.network.enable_ipv4',
  'com.docker.network.enable_ipv6',
]);

/** With what its hosts have agreed on. @throws CnmError `option-invalid`, naming option, value and what would be right. */
export function parseOptions(network: Pick<NetworkSpec, 'options' | 'agreement'>): OverlayOptions {
  const { agreement } = network;
  const { given, ...options } = givenOptions(network.options);
  if (agreement === undefined)
    return {
      ...options,
      peers: needed(given.peers, NEEDED.peers),
      vnis: needed(given.vnis, NEEDED.vni),
      ranges: needed(given.ranges, NEEDED.ranges),
    };
  const peers = given.peers === SWARM ? SWARM : [];
  return { ...options, vnis: agreement.numbers, peers, ranges: given.ranges ?? 'any' };
}

/** What the user wrote, before it is known what the network's hosts have agreed on. */
export interface GivenOptions extends Omit<OverlayOptions, 'vnis' | 'peers' | 'ranges'> {
  /** By which the hosts of a cluster know the network for the same. */
  readonly name: string | undefined;
  readonly given: {
    readonly vnis: readonly number[] | undefined;
    readonly peers: OverlayOptions['peers'] | undefined;
    readonly ranges: readonly Prefix[] | 'any' | undefined;
  };
}

const NEEDED = {
  vni: `${OPTION.vni}: the number of the network, the same on all its hosts and no other network's there, from 0 to ${VNI_LIMIT - 1}`,
  peers:
    `${OPTION.peers}: the addresses of the network's hosts, separated by commas; the same list on each of them, for it may name the host itself. ` +
    `With cnmd --cluster on all of them it needs none`,
  ranges:
    `${OPTION.ranges} with a list of peers: the part of each subnet whose addresses this host gives, which no other host may have, ` +
    `as --ip-range says it to the IPAM driver; or "any", when you give every address yourself`,
} as const;

function needed<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new CnmError('option-invalid', `cnm-overlay needs ${what}`);
  return value;
}

/** @throws CnmError `option-invalid`, naming option, value and what would be right. */
export function givenOptions(options: Readonly<Record<string, string>>): GivenOptions {
  for (const name of Object.keys(options)) assertKnown(name);
  const of = (name: keyof typeof OPTION) => options[OPTION[name]];
  dnsPlace(options);
  const peers = peersValue(of('peers'));
  return {
    name: nameValue(of('name')),
    given: { vnis: vnisValue(of('vni'), of('vniList')), peers, ranges: rangesValue(of('ranges')) },
    port: portValue(of('port')),
    advertise: advertiseValue(of('advertise'), peers),
    underlayMtu: mtuValue(OPTION.mtu, of('mtu')),
    ifacePrefix: interfacePrefixValue(OPTION.ifacePrefix, of('ifacePrefix')),
    // Docker's way is to give it no value: `--opt encrypted`.
    encrypted: of('encrypted') === '' || booleanValue(OPTION.encrypted, of('encrypted'), false),
    vtep: choiceValue(OPTION.vtep, of('vtep'), VTEPS, 'kernel'),
    egress: choiceValue(OPTION.egress, of('egress'), EGRESSES, 'docker'),
  };
}

/** A mistyped option that is silently ignored is found at 3 a.m.; so an unknown one is refused. */
function assertKnown(name: string): void {
  const ours: readonly string[] = [...Object.values(OPTION), ...DNS_OPTIONS];
  if (ours.includes(name) || DOCKERS_OWN.has(name)) return;
  throw new CnmError(
    'option-invalid',
    `cnm-overlay does not know the option ${quote(name)}; it knows ${ours.join(', ')}`,
  );
}

/** Ours or Docker's name for the same list. */
function vnisValue(own: string | undefined, dockers: string | undefined): readonly number[] | undefined {
  if (own !== undefined && dockers !== undefined && own !== dockers)
    throw new CnmError(
      'option-invalid',
      `${OPTION.vni} ${quote(own)} and ${OPTION.vniList} ${quote(dockers)} differ: give one of the two`,
    );
  const [name, text] = own === undefined ? [OPTION.vniList, dockers] : [OPTION.vni, own];
  if (text === undefined) return undefined;
  const right = `a VNI from 0 to ${VNI_LIMIT - 1} for each subnet, separated by commas, none twice`;
  const vnis = text.split(',').map((one) => (/^\d{1,8}$/.test(one) ? Number(one) : NaN));
  if (!vnis.every(isVni) || hasTwice(vnis)) throw invalidValue(name, text, right);
  return vnis;
}

/** Of a record that every host reads, and of messages: what a network of Docker's may be called. */
function nameValue(text: string | undefined): string | undefined {
  if (text === undefined || /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/.test(text)) return text;
  throw invalidValue(
    OPTION.name,
    text,
    'a name of letters, digits and _.-, at most 128, the same on all hosts',
  );
}

function peersValue(text: string | undefined): OverlayOptions['peers'] | undefined {
  if (text === undefined || text === SWARM) return text;
  const peers = text.split(',').map((one) => parseIp(one));
  const known = peers.filter((peer) => peer !== undefined);
  const right = "addresses of hosts separated by commas, as 192.0.2.1,192.0.2.2: hosts' own, none twice";
  if (known.length < peers.length || known.some(isNoHost) || hasTwice(known))
    throw invalidValue(OPTION.peers, text, right);
  if (new Set(known.map(familyOf)).size > 1)
    throw invalidValue(OPTION.peers, text, 'addresses of one family: a tunnel is IPv4 or IPv6');
  return known;
}

/** Unspecified, loopback, multicast, broadcast, and link-local IPv6, which means nothing without an interface. */
function isNoHost(address: Ip): boolean {
  return isMulticast(address) || /^(?:0\.|127\.|255\.255\.255\.255$|::1?$|fe[89ab].:)/.test(address);
}

function advertiseValue(text: string | undefined, peers: OverlayOptions['peers'] = []): Ip | undefined {
  const [first] = peers === SWARM ? [] : peers;
  const address = addressValue(OPTION.advertise, text, first && familyOf(first));
  if (address !== undefined && isNoHost(address))
    throw invalidValue(OPTION.advertise, text ?? '', 'an address of this host that the peers reach');
  return address;
}

function portValue(text: string | undefined): number {
  if (text === undefined || text === '') return VXLAN_PORT;
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port >= 1 && port <= 65535) return port;
  throw invalidValue(OPTION.port, text, `a UDP port from 1 to 65535 (${VXLAN_PORT} is VXLAN's own)`);
}

function rangesValue(text: string | undefined): readonly Prefix[] | 'any' | undefined {
  if (text === undefined || text === 'any') return text;
  const right = 'ranges as 10.1.0.64/26 without host bits, one of each subnet, separated by commas; or any';
  return text.split(',').map((one) => {
    const range = parsePrefix(one);
    if (range === undefined) throw invalidValue(OPTION.ranges, text, right);
    if (hasHostBits(range))
      throw invalidValue(OPTION.ranges, text, `ranges without host bits: ${networkOf(range)} for ${range}`);
    return range;
  });
}

function hasTwice(values: readonly unknown[]): boolean {
  return new Set(values).size < values.length;
}
