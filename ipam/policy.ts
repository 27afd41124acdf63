/** Which addresses of a pool may be given. Pure: offsets count from the pool's first address. */
import type { Ip } from '../address/ip.ts';
import { ipValue } from '../address/ip.ts';
import { broadcastOf, contains, familyOfPrefix, firstOf, lastOf, lengthOf } from '../address/prefix.ts';
import type { Prefix } from '../address/prefix.ts';
import { joined, type Span, without } from './spans.ts';

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

/**
 * What may be chosen: the range, or the whole pool, without the pool's ends that nobody may have and without what is
 * reserved (numbers of addresses). In order, and none empty.
 */
export function dynamicBounds(
  pool: Prefix,
  range: Prefix = pool,
  reserved: readonly Span[] = [],
): readonly Span[] {
  const base = ipValue(firstOf(pool));
  const first = ipValue(firstOf(range)) - base;
  const last = ipValue(lastOf(range)) - base;
  const whole = {
    first: unusable(pool, firstOf(range)) === undefined ? first : first + 1n,
    last: unusable(pool, lastOf(range)) === undefined ? last : last - 1n,
  };
  const cuts = reserved.map((one) => ({ first: one.first - base, last: one.last - base }));
  return without([whole], joined(cuts));
}
