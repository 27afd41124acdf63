/** Of the addresses that a host holds, which are free, and how long since. Pure. */
import { ipFromValue } from '../../address/ip.ts';
import { familyOfPrefix } from '../../address/prefix.ts';
import type { Pool } from '../pool.ts';
import { blockOf } from './block.ts';
import type { Span } from '../spans.ts';

export interface FreeOnes {
  /** Never used here, as far as is remembered. */
  readonly fresh: readonly bigint[];
  readonly rested: readonly bigint[];
  readonly resting: readonly bigint[];
}

/** Each in order. */
export function freeOf(pool: Pool, spans: readonly Span[], restedBy: number): FreeOnes {
  const fresh: bigint[] = [];
  const rested: bigint[] = [];
  const resting: bigint[] = [];
  const family = familyOfPrefix(pool.prefix);
  for (const { first, last } of spans) {
    for (let value = first; value <= last; value++) {
      const address = ipFromValue(family, value);
      if (pool.leases.has(address)) continue;
      const former = pool.formers.get(address);
      if (former === undefined) fresh.push(value);
      else if (former.freed <= restedBy) rested.push(value);
      else resting.push(value);
    }
  }
  return { fresh, rested, resting };
}

/** What is free above what is needed soon: the highest that were never used, or else of those that have rested. */
export function surplus({ fresh, rested }: FreeOnes, keep: number): readonly bigint[] {
  if (fresh.length > 2 * keep) return fresh.slice(keep);
  return fresh.length === 0 && rested.length > 2 * keep ? rested.slice(keep) : [];
}

/** Half of all that is not needed here, the best of it. */
export function half({ fresh, rested, resting }: FreeOnes, needed: number): readonly bigint[] {
  const all = [...resting, ...rested, ...fresh];
  const count = Math.ceil(Math.max(0, all.length - needed) / 2);
  return all.slice(all.length - count);
}

/** The blocks that have some of them. */
export function blocksOf(pool: Pool['prefix'], spans: readonly Span[]): readonly Span[] {
  const found = new Map<bigint, Span>();
  for (const { first, last } of spans) {
    for (let value = first; value <= last;) {
      const block = blockOf(pool, value);
      found.set(block.first, block);
      value = block.last + 1n;
    }
  }
  return [...found.values()];
}
