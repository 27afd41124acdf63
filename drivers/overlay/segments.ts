/**
 * A network's segments: each is one layer 2 with one VNI, one subnet, or one of each family. The subnets are counted in ascending order,
 * because Docker's command hands them over in any (libnetwork.md §4.2), and every host must give the same VNI to the same. Pure.
 */
import { compareIp } from '../../address/ip.ts';
import {
  addressOf,
  contains,
  covers,
  familyOfPrefix,
  isMulticast,
  lengthOf,
  overlaps,
  type Prefix,
} from '../../address/prefix.ts';
import { CnmError } from '../../cnm/errors.ts';
import type { EndpointSpec, NetworkSpec, Subnet } from '../../cnm/model.ts';
import { segmentNamesOf } from './names.ts';
import type { OverlayOptions } from './options.ts';

export interface Segment {
  readonly vni: number;
  readonly subnets: readonly Subnet[];
  readonly bridge: string;
  readonly tunnel: string;
}

/** @throws CnmError `address-invalid` or `option-invalid`. */
export function segmentsOf(network: NetworkSpec, { vnis, ranges }: OverlayOptions): readonly Segment[] {
  const { ipv4, ipv6 } = subnetsOf(network);
  const segments = Math.max(ipv4.length, ipv6.length);
  if (vnis.length !== segments)
    throw new CnmError(
      'option-invalid',
      `vni has ${vnis.length} numbers (${vnis.join(',')}) for ${segments} subnets (${poolsOf(ipv4.length > 0 ? ipv4 : ipv6)}): one for each is needed`,
    );
  if (ranges !== 'any') assertRanges(ranges, [...ipv4, ...ipv6]);
  return vnis.map((vni, number) => ({
    vni,
    subnets: [ipv4[number], ipv6[number]].filter((subnet) => subnet !== undefined),
    ...segmentNamesOf(number),
  }));
}

/** In ascending order. @throws CnmError `address-invalid`. */
export function subnetsOf(network: NetworkSpec): {
  readonly ipv4: readonly Subnet[];
  readonly ipv6: readonly Subnet[];
} {
  const [ipv4, ipv6] = [ascending(network.ipv4), ascending(network.ipv6)];
  assertSubnets(ipv4, ipv6);
  return { ipv4, ipv6 };
}

/**
 * The segment that an endpoint's addresses lie in; one without addresses is on the first.
 * @throws CnmError `address-invalid` when there is none, or not one for both.
 */
export function segmentOf(
  segments: readonly Segment[],
  endpoint: Pick<EndpointSpec, 'address' | 'addressV6'>,
): Segment {
  const found = addressesOf(endpoint).map((address) => {
    const segment = segments.find(({ subnets }) => subnets.some(({ pool }) => isIn(pool, address)));
    if (segment !== undefined) return segment;
    throw new CnmError(
      'address-invalid',
      `Address ${address} is not inside the network's subnets ${poolsOf(segments.flatMap(({ subnets }) => subnets))}`,
    );
  });
  const [first = segments[0], second = first] = found;
  if (first === undefined) throw new CnmError('address-invalid', 'The network has no subnet');
  if (first !== second)
    throw new CnmError(
      'address-invalid',
      `Addresses ${addressesOf(endpoint).join(' and ')} lie in two segments of the network: an IPv6 subnet goes with the IPv4 subnet of its place in ascending order; ` +
        `choose them with --ip and --ip6`,
    );
  return first;
}

/** @throws CnmError `address-invalid` when another host may have given the address too. */
export function assertInRange({ ranges }: OverlayOptions, endpoint: EndpointSpec): void {
  if (ranges === 'any') return;
  for (const address of addressesOf(endpoint)) {
    if (ranges.some((range) => isIn(range, address))) continue;
    throw new CnmError(
      'address-invalid',
      `Address ${address} is not one of this host's (ip-range ${ranges.join(',')}), and another host may give it too: ` +
        `create the network with --ip-range as well, or with -o ip-range=any when you give every address yourself`,
    );
  }
}

export function addressesOf({
  address,
  addressV6,
}: Pick<EndpointSpec, 'address' | 'addressV6'>): readonly Prefix[] {
  return [address, addressV6].filter((own) => own !== undefined);
}

function isIn(pool: Prefix, address: Prefix): boolean {
  return familyOfPrefix(pool) === familyOfPrefix(address) && contains(pool, addressOf(address));
}

function ascending(subnets: readonly Subnet[]): readonly Subnet[] {
  return subnets.toSorted((a, b) => compareIp(addressOf(a.pool), addressOf(b.pool)));
}

function assertSubnets(ipv4: readonly Subnet[], ipv6: readonly Subnet[]): void {
  if (ipv4.length === 0 && ipv6.length === 0)
    throw new CnmError('address-invalid', 'cnm-overlay needs IPv4 or IPv6: the network has neither');
  if (ipv4.length > 0 && ipv6.length > 0 && ipv4.length !== ipv6.length)
    throw new CnmError(
      'address-invalid',
      `cnm-overlay pairs subnets of the two families: there are ${ipv4.length} of IPv4 (${poolsOf(ipv4)}) and ${ipv6.length} of IPv6 (${poolsOf(ipv6)})`,
    );
  for (const subnets of [ipv4, ipv6]) {
    for (const [number, { pool }] of subnets.entries()) {
      assertPool(pool);
      const next = subnets[number + 1];
      if (next !== undefined && overlaps(pool, next.pool))
        throw new CnmError(
          'address-invalid',
          `Subnets ${pool} and ${next.pool} of the network overlap: choose two that do not`,
        );
    }
  }
}

/** `--ipam-driver null` sends 0.0.0.0/0 in the address space "null" (libnetwork.md §0.1). */
function assertPool(pool: Prefix): void {
  if (lengthOf(pool) === 0)
    throw new CnmError(
      'address-invalid',
      `cnm-overlay needs a subnet, not ${pool}: the null IPAM driver gives no addresses; use --ipam-driver default or cnm-ipam`,
    );
  if (isMulticast(pool))
    throw new CnmError('address-invalid', `${pool} is a multicast range; a network needs unicast addresses`);
}

function assertRanges(ranges: readonly Prefix[], subnets: readonly Subnet[]): void {
  const inside = ({ pool }: Subnet, range: Prefix): boolean =>
    familyOfPrefix(pool) === familyOfPrefix(range) && covers(pool, range);
  const stray = ranges.find((range) => !subnets.some((subnet) => inside(subnet, range)));
  if (stray !== undefined)
    throw new CnmError(
      'option-invalid',
      `ip-range ${stray} is not inside the network's subnets ${poolsOf(subnets)}`,
    );
  for (const subnet of subnets) {
    const own = ranges.filter((range) => inside(subnet, range));
    if (own.length === 1) continue;
    throw new CnmError(
      'option-invalid',
      `ip-range ${ranges.join(',')} has ${own.length} parts of subnet ${subnet.pool}: it must have one, which is this host's alone`,
    );
  }
}

function poolsOf(subnets: readonly Subnet[]): string {
  return subnets.map(({ pool }) => pool).join(', ');
}
