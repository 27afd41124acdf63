/** Subnets for networks whose user named none. */
import { ipFromValue, ipValue } from '../address/ip.ts';
import { familyOfPrefix, firstOf, lastOf, lengthOf, prefix, prefixOf } from '../address/prefix.ts';
import type { Prefix } from '../address/prefix.ts';
import { Intervals } from './intervals.ts';

/** As in Docker's `default-address-pools`: subnets of length `size` are cut out of `base`. */
export interface DefaultPool {
  readonly base: Prefix;
  readonly size: number;
}

/** Docker's own bases (libnetwork/ipamutils), cut into /24 so that they are enough for 4,096 networks. */
export const LOCAL_POOLS: readonly DefaultPool[] = [
  '172.17.0.0/16',
  '172.18.0.0/16',
  '172.19.0.0/16',
  '172.20.0.0/14',
  '172.24.0.0/14',
  '172.28.0.0/14',
  '192.168.0.0/16',
].map((base) => ({ base: prefix(base), size: 24 }));

export const GLOBAL_POOLS: readonly DefaultPool[] = [{ base: prefix('10.0.0.0/8'), size: 24 }];

/** @throws RangeError for a pool that no subnet can be cut out of. */
export function checkDefaultPools(pools: readonly DefaultPool[]): void {
  for (const { base, size } of pools) {
    prefixOf(firstOf(base), size);
    if (size < lengthOf(base)) {
      throw new RangeError(
        `Subnets of length ${size} do not fit in ${base}: size must be at least ${lengthOf(base)}`,
      );
    }
  }
}

/** A random /48 of fd00::/8 (RFC 4193 §3.2), of which each network gets a /64. */
export function randomUla(random: (size: number) => Uint8Array): Prefix {
  const globalId = random(5).reduce((value, byte) => (value << 8n) | BigInt(byte), 0n);
  return prefixOf(ipFromValue(6, (0xfdn << 120n) | (globalId << 80n)), 48);
}

/**
 * The host's prefixes of a family as intervals. Those of length 0 and 1 are left out: they are default routes, /1 being how
 * VPNs write them, and would leave nothing to choose.
 */
export function intervalsOf(prefixes: readonly Prefix[], family: 4 | 6): Intervals {
  const intervals = new Intervals();
  for (const p of prefixes) {
    if (familyOfPrefix(p) === family && lengthOf(p) > 1)
      intervals.add(ipValue(firstOf(p)), ipValue(lastOf(p)));
  }
  return intervals;
}

/** The lowest subnet, in the order of `pools`, that meets none of `avoid`; its length is `length` when that is given. */
export function freeSubnet(
  pools: readonly DefaultPool[],
  avoid: readonly Intervals[],
  length?: number,
): Prefix | undefined {
  for (const { base, size } of pools) {
    const found = freeSubnetOf(base, length ?? size, avoid);
    if (found !== undefined) return found;
  }
  return undefined;
}

function freeSubnetOf(base: Prefix, length: number, avoid: readonly Intervals[]): Prefix | undefined {
  const family = familyOfPrefix(base);
  if (length < lengthOf(base)) return undefined;
  const size = 1n << BigInt((family === 4 ? 32 : 128) - length);
  const end = ipValue(lastOf(base));
  let first = ipValue(firstOf(base));
  while (first <= end) {
    const met = highestMet(avoid, first, first + size - 1n);
    if (met === undefined) return prefixOf(ipFromValue(family, first), length);
    first = (met / size + 1n) * size;
  }
  return undefined;
}

/** Where the intervals end that `first` to `last` meets. */
function highestMet(avoid: readonly Intervals[], first: bigint, last: bigint): bigint | undefined {
  const ends = avoid.map((intervals) => intervals.overlapping(first, last)?.last);
  return ends.reduce((a, b) => (a === undefined || (b !== undefined && b > a) ? b : a), undefined);
}
