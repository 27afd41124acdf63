/** Which addresses a pool gives, and in what order. Pure: offsets count from the pool's first address. */
import type { Ip } from '../address/ip.ts';
import { ipValue } from '../address/ip.ts';
import { broadcastOf, contains, familyOfPrefix, firstOf, lastOf, lengthOf } from '../address/prefix.ts';
import type { Prefix } from '../address/prefix.ts';
import type { NumberSet } from './range.ts';

export interface Bounds {
  readonly first: bigint;
  readonly last: bigint;
}

/**
 * Why nobody may have this address of the pool, in words that complete "ADDRESS is"; undefined when one may.
 * A /31 has neither network nor broadcast address (RFC 3021), a /127 no anycast address (RFC 6164), and a single address is
 * its own.
 */
export function unusable(pool: Prefix, address: Ip): string | undefined {
  if (!contains(pool, address)) return `not in ${pool}`;
  if (address === broadcastOf(pool)) return `the broadcast address of ${pool}`;
  if (address !== firstOf(pool)) return undefined;
  if (familyOfPrefix(pool) === 4) return lengthOf(pool) <= 30 ? `the network address of ${pool}` : undefined;
  return lengthOf(pool) <= 126 ? `the subnet-router anycast address of ${pool} (RFC 4291 §2.6.1)` : undefined;
}

/** What may be chosen: the range, or the whole pool, without the pool's ends that nobody may have. */
export function dynamicBounds(pool: Prefix, range: Prefix = pool): Bounds {
  const base = ipValue(firstOf(pool));
  const first = ipValue(firstOf(range)) - base;
  const last = ipValue(lastOf(range)) - base;
  return {
    first: unusable(pool, firstOf(range)) === undefined ? first : first + 1n,
    last: unusable(pool, lastOf(range)) === undefined ? last : last - 1n,
  };
}

/** The lowest free one; with `after`, the next free one after it, going round (Docker's serial option). */
export function chooseOffset(taken: NumberSet, { first, last }: Bounds, after?: bigint): bigint | undefined {
  if (after === undefined || after < first) return taken.nextFree(first, last);
  return taken.nextFree(after + 1n, last) ?? taken.nextFree(first, last);
}
