/**
 * The way out of an overlay network without docker_gwbridge (`egress=gateway`): a veth pair between the network's namespace and the host's.
 * Pure.
 *
 * The host never routes a subnet of an overlay: two networks may have the same, and the host's own surroundings, too. It knows each subnet
 * by another prefix of the same length, its outside, which is no other network's and nobody's on the wire; the namespace translates between the
 * two, one for one. So a published port leads to an address that is one container's, whatever the network below is, nothing in the
 * namespace depends on which ports there are, and what the host does is what it does for a bridge.
 */
import { createHash } from 'node:crypto';
import { familyOf, type Ip, ipFromValue, ipValue } from '../../address/ip.ts';
import { macFromSeed } from '../../address/mac.ts';
import {
  addressOf,
  contains,
  familyOfPrefix,
  lengthOf,
  networkOf,
  overlaps,
  prefix,
  type Prefix,
  prefixOf,
} from '../../address/prefix.ts';
import { CnmError } from '../../cnm/errors.ts';
import { familiesOf } from '../../cnm/families.ts';
import type { EndpointSpec, NetworkSpec, NetworkWithPresence } from '../../cnm/model.ts';
import type { NetnsFacts } from '../../kernel/facts.ts';
import type { Mark, NetnsPath, NftElement, Plan, Step, UplinkTranslate } from '../../kernel/step.ts';
import { UPLINK, uplinkNameOf } from './names.ts';
import { OPTION, type OverlayOptions } from './options.ts';
import type { Segment } from './segments.ts';
import { ownIpv6, setting } from './settings.ts';

/** The two ends of the pair, and what the subnets are called on the host. */
interface Uplink {
  readonly families: readonly (4 | 6)[];
  readonly near: Readonly<Record<4 | 6, Ip>>;
  readonly far: Readonly<Record<4 | 6, Ip>>;
  readonly pairs: UplinkTranslate['pairs'];
}

/** @throws CnmError `option-invalid` for a network that has no way out, or a subnet without a gateway to go by. */
export function assertEgressFits(
  { internal }: Pick<NetworkSpec, 'internal'>,
  { egress }: OverlayOptions,
  segments: readonly Segment[],
): void {
  if (egress !== 'gateway') return;
  if (internal)
    throw new CnmError(
      'option-invalid',
      `${OPTION.egress}=gateway is a way out, and --internal forbids one: leave one of the two away`,
    );
  for (const { pool, gateway } of segments.flatMap(({ subnets }) => subnets)) {
    if (gateway === undefined)
      throw new CnmError(
        'option-invalid',
        `${OPTION.egress}=gateway needs a gateway, and subnet ${pool} has none`,
      );
    if (lengthOf(pool) < SHORTEST[familyOfPrefix(pool)])
      throw new CnmError(
        'option-invalid',
        `${OPTION.egress}=gateway cannot translate subnet ${pool}: it must be /${SHORTEST[familyOfPrefix(pool)]} or smaller`,
      );
  }
}

/** What the host needs for any uplink, as long as there is the network: forwarding. */
export function hostSwitches(network: NetworkSpec, { egress }: OverlayOptions): Plan {
  if (egress !== 'gateway') return [];
  return familiesOf(network).flatMap((family) =>
    family === 4
      ? [on('net.ipv4.ip_forward')]
      : [on('net.ipv6.conf.default.forwarding'), on('net.ipv6.conf.all.forwarding')],
  );
}

/** What an uplink adds to a host, besides the namespace: before it. The firewall first, so that nothing ever passes unfiltered. */
export function uplinkRules(
  network: NetworkSpec,
  options: OverlayOptions,
  segments: readonly Segment[],
): Plan {
  if (options.egress !== 'gateway') return [];
  const link = uplinkNameOf(network.id);
  const element = (set: NftElement['set'], ...key: string[]): NftElement => ({ do: 'nft.element', set, key });
  return [
    element('bridges', link),
    element('same_bridge', link, link),
    element('hairpin', link, link),
    ...familiesOf(network).map((family) => element(`masquerade${family}`, link)),
    ...poolsOf(segments).map((pool) => element(`alike${familyOfPrefix(pool)}`, pool, link)),
  ];
}

/** To come after the namespace and its bridges. */
export function uplinkSteps(
  network: NetworkSpec,
  options: OverlayOptions,
  segments: readonly Segment[],
  host: NetnsFacts,
  { netns, mtu }: { readonly netns: NetnsPath; readonly mtu: number },
): Plan {
  if (options.egress !== 'gateway') return [];
  const mark: Mark = { network: network.id };
  const link = uplinkNameOf(network.id);
  const { families, near, far, pairs } = uplinkOf(network, segments, host);
  return [
    {
      do: 'link.add',
      netns,
      name: UPLINK,
      mark,
      link: { kind: 'veth', peer: { name: link, mac: macFromSeed(`${network.id} ${link}`), home: true } },
      mtu,
      mac: macFromSeed(`${network.id} ${UPLINK}`),
      // A router asks for its neighbours by such an address (ndisc_solicit()).
      linkLocal: families.includes(6),
    },
    // The only neighbour of each end is the other.
    ...(families.includes(6) ? [...ownIpv6(UPLINK, netns), ...ownIpv6(link)] : []),
    ...families.flatMap((family): readonly Step[] => [
      { do: 'addr.add', netns, link: UPLINK, prefix: pairPrefix(near[family]) },
      { do: 'addr.add', link, prefix: pairPrefix(far[family]) },
    ]),
    {
      do: 'uplink.translate',
      netns,
      link: UPLINK,
      pairs,
    },
    { do: 'forward.accept', bridge: link, mark },
    { do: 'link.up', netns, link: UPLINK },
    { do: 'link.up', link },
    ...families.map((family): Step => ({
      do: 'route.add',
      netns,
      to: DEFAULT_ROUTE[family],
      via: far[family],
      link: UPLINK,
    })),
    ...pairs.map(({ outside }): Step => ({
      do: 'route.add',
      to: outside,
      via: near[familyOfPrefix(outside)],
      link,
    })),
  ];
}

/** Where a container finds the world: its segment's router on this host. Nothing where Docker gives it another way. */
export function gatewaysOf(
  { egress }: OverlayOptions,
  { subnets }: Segment,
  { address, addressV6 }: Pick<EndpointSpec, 'address' | 'addressV6'>,
): { readonly gateway?: Ip; readonly gatewayV6?: Ip } {
  if (egress !== 'gateway') return {};
  const of = (family: 4 | 6): Ip | undefined => {
    const found = subnets.find(({ pool }) => familyOfPrefix(pool) === family)?.gateway;
    return found && addressOf(found);
  };
  const gateway = address && of(4);
  const gatewayV6 = addressV6 && of(6);
  return { ...(gateway && { gateway }), ...(gatewayV6 && { gatewayV6 }) };
}

/** The address by which the host knows a container of the network, as its presence has it. */
export function outsideOf({ presence = [], id }: NetworkWithPresence, address: Ip): Ip {
  const pairs = presence.flatMap((step) => (step.do === 'uplink.translate' ? step.pairs : []));
  const pair = pairs.find(({ inside }) => contains(inside, address));
  if (pair === undefined) throw new Error(`network ${id} has no uplink for ${address}`);
  const offset = ipValue(address) - ipValue(addressOf(pair.inside));
  return ipFromValue(familyOf(address), ipValue(addressOf(pair.outside)) + offset);
}

/** Reserved addresses of IPv4 (RFC 1112 section 4), which no wire has, of which there are enough for subnets of any size; and unique local ones (RFC 4193). */
const OUTSIDE = { 4: prefix('240.0.0.0/4'), 6: prefix('fd00::/8') } as const;
/** For the pair's own addresses, out of the above. The last eighth of a sixteenth is left out: it ends with the broadcast address of all. */
const PAIRS = { 4: prefix('240.0.0.0/8'), 6: prefix('fd00::/16') } as const;
const BROADCAST = prefix('255.0.0.0/8');
/** Of subnets. */
const SHORTEST = { 4: 8, 6: 16 } as const;
const DEFAULT_ROUTE = { 4: prefix('0.0.0.0/0'), 6: prefix('::/0') } as const;

/** The same for the same network and host, as long as nobody else has it. */
function uplinkOf(network: NetworkSpec, segments: readonly Segment[], host: NetnsFacts): Uplink {
  const pools = poolsOf(segments);
  const taken = [
    ...pools,
    ...host.addresses.map((one) => networkOf(one.prefix)),
    ...host.routes.map(({ to }) => to).filter((to) => lengthOf(to) >= SHORTEST[familyOfPrefix(to)]),
  ];
  const claim = (room: Prefix, length: number, what: string, spared: readonly Prefix[]): Prefix => {
    const found = freePrefix(`${network.id} ${what}`, room, length, [...taken, ...spared]);
    taken.push(found);
    return found;
  };
  const ends = { 4: claim(PAIRS[4], 31, 'uplink', []), 6: claim(PAIRS[6], 127, 'uplink', []) };
  const pairs = pools.map((inside) => {
    const family = familyOfPrefix(inside);
    const spared = family === 4 ? [PAIRS[4], BROADCAST] : [PAIRS[6]];
    return { inside, outside: claim(OUTSIDE[family], lengthOf(inside), inside, spared) };
  });
  const second = (one: Prefix) => ipFromValue(familyOfPrefix(one), ipValue(addressOf(one)) + 1n);
  return {
    families: familiesOf(network),
    far: { 4: addressOf(ends[4]), 6: addressOf(ends[6]) },
    near: { 4: second(ends[4]), 6: second(ends[6]) },
    pairs,
  };
}

/** How often another place is looked at: where one of three is taken, so many all taken would be a wonder. */
const ATTEMPTS = 256;

function freePrefix(seed: string, room: Prefix, length: number, taken: readonly Prefix[]): Prefix {
  const family = familyOfPrefix(room);
  const bits = BigInt(family === 4 ? 32 : 128);
  const open = bits - BigInt(lengthOf(room));
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    const digest = createHash('sha256').update(`${seed} ${attempt}`).digest('hex');
    const drawn = BigInt(`0x${digest}`) & ((1n << open) - 1n);
    const found = networkOf(prefixOf(ipFromValue(family, ipValue(addressOf(room)) | drawn), length));
    if (!taken.some((one) => familyOfPrefix(one) === family && overlaps(one, found))) return found;
  }
  throw new CnmError(
    'network-conflict',
    `${OPTION.egress}=gateway finds no free /${length} in ${room} for this host's side of the network: its routes take them all; see ip route`,
  );
}

function poolsOf(segments: readonly Segment[]): readonly Prefix[] {
  return segments.flatMap(({ subnets }) => subnets.map(({ pool }) => networkOf(pool)));
}

function pairPrefix(address: Ip): Prefix {
  return prefixOf(address, familyOf(address) === 4 ? 31 : 127);
}

/** Switched on for the host when a network first needs it, as Docker does, and left on: others may have come to depend on it. */
function on(key: string): Step {
  return setting(key, '1');
}
