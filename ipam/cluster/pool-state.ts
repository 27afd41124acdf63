/** A pool of the cluster as one host knows it: its blocks, and where there is room. */
import { ipValue } from '../../address/ip.ts';
import { familyOfPrefix, firstOf, lengthOf } from '../../address/prefix.ts';
import type { Prefix } from '../../address/prefix.ts';
import type { ClusterEntry } from '../../store/cluster.ts';
import { NumberSet } from '../range.ts';
import {
  EMPTY,
  blockBits,
  blockName,
  blockOf,
  decodeBlock,
  gaps,
  holderOf,
  partsOf,
  spanOf,
} from './block.ts';
import type { Block, Shared } from './block.ts';
import type { PoolRecord } from './keys.ts';
import { common, joined, sizeOfSpans } from '../spans.ts';
import type { Span } from '../spans.ts';

/** Who has an address: a host, several that share it, nobody; or nobody can tell, as the record cannot be read. */
export type Holder = { readonly host: string } | { readonly shared: Shared } | 'nobody' | 'unreadable';

/** Where addresses can be taken from. */
export interface Spot {
  readonly block: Prefix;
  readonly span: Span;
  readonly now: Block;
  /** Of those asked for, what nobody holds. */
  readonly free: readonly Span[];
  /** Whether the block is to be led from now on: nobody does. */
  readonly lead: boolean;
}

export class PoolState {
  readonly pool: Prefix;
  record: PoolRecord | undefined;
  readonly #me: string;
  readonly #bits: bigint;
  /** By the number of the first address; undefined for what cannot be read. */
  readonly #blocks = new Map<bigint, Block | undefined>();
  readonly #leaders = new Map<bigint, string>();
  /** Numbers of blocks, counted from the pool's first: without a gap. */
  readonly #full: NumberSet;
  /** Without a gap, or led by a host. */
  readonly #busy: NumberSet;
  readonly #base: bigint;
  readonly #ownParts = new Map<bigint, readonly Span[]>();
  #own: readonly Span[] | undefined;

  constructor(pool: Prefix, me: string) {
    this.pool = pool;
    this.#me = me;
    this.#bits = BigInt(blockBits(pool));
    this.#base = ipValue(firstOf(pool)) >> this.#bits;
    const numbers = (familyOfPrefix(pool) === 4 ? 32 : 128) - lengthOf(pool) - blockBits(pool);
    this.#full = new NumberSet(numbers);
    this.#busy = new NumberSet(numbers);
  }

  get isEmpty(): boolean {
    return this.record === undefined && this.#blocks.size === 0 && this.#leaders.size === 0;
  }

  /** Whether the host has the pool, or anything of it. */
  isOf(host: string): boolean {
    const blocks = [...this.#blocks.values()];
    const shares = (block: Block) => [...block.shared.values()].some(({ hosts }) => hosts.includes(host));
    return (
      this.record?.hosts.includes(host) === true ||
      blocks.some((block) => block !== undefined && (partsOf(block, host).length > 0 || shares(block)))
    );
  }

  /** What this host holds, without what it shares; in order. */
  get own(): readonly Span[] {
    this.#own ??= joined([...this.#ownParts.values()].flat());
    return this.#own;
  }

  setBlock(name: Prefix, entry: ClusterEntry | undefined): void {
    const span = spanOf(name);
    if (name !== blockName(this.pool, span.first)) return;
    const block = entry && decodeBlock(span, entry.value);
    if (entry === undefined) this.#blocks.delete(span.first);
    else this.#blocks.set(span.first, block);
    const own = block === undefined ? [] : partsOf(block, this.#me);
    if (own.length > 0) this.#ownParts.set(span.first, own);
    else this.#ownParts.delete(span.first);
    this.#own = undefined;
    this.#index(span);
  }

  setBatch(name: Prefix, host: unknown): void {
    const span = spanOf(name);
    if (typeof host === 'string') this.#leaders.set(span.first, host);
    else this.#leaders.delete(span.first);
    this.#index(span);
  }

  leader(span: Span): string | undefined {
    return this.#leaders.get(span.first);
  }

  /** Undefined when it cannot be read. */
  block(span: Span): Block | undefined {
    return this.#blocks.has(span.first) ? this.#blocks.get(span.first) : EMPTY;
  }

  get blocks(): readonly (readonly [Span, Block | undefined])[] {
    return [...this.#blocks].map(([first, block]) => [blockOf(this.pool, first), block]);
  }

  holder(value: bigint): Holder {
    const block = this.block(blockOf(this.pool, value));
    if (block === undefined) return 'unreadable';
    const shared = block.shared.get(value);
    if (shared !== undefined) return { shared };
    const host = holderOf(block, value);
    return host === undefined ? 'nobody' : { host };
  }

  /**
   * Where to take addresses of `bounds`: from a block that this host leads, else one that nobody leads, else (the rest of)
   * one that others lead. Undefined when every address is held.
   * @param skip So many are passed over, for whoever found that another host was quicker.
   */
  spot(bounds: readonly Span[], skip = 0): Spot | undefined {
    for (const [first, host] of this.#leaders) {
      if (host !== this.#me || this.#full.has(this.#number(first))) continue;
      const found = this.#spotIn(first, bounds, false);
      if (found !== undefined) return found;
    }
    return this.#search(this.#busy, bounds, true, skip) ?? this.#search(this.#full, bounds, false, skip);
  }

  /** The gateway that other hosts have, or this one under another range. */
  sharedAs(purpose: Shared['purpose']): readonly bigint[] {
    const found = [...this.#blocks.values()].flatMap((block) => [...(block?.shared ?? [])]);
    return found
      .filter(([, one]) => one.purpose === purpose)
      .map(([at]) => at)
      .sort((a, b) => (a < b ? -1 : 1));
  }

  /** How many addresses each host holds, of `bounds`. */
  held(bounds: readonly Span[]): ReadonlyMap<string, bigint> {
    const held = new Map<string, bigint>();
    for (const block of this.#blocks.values()) {
      for (const part of block?.parts ?? []) {
        const size = sizeOfSpans(common([part], bounds));
        if (size > 0n) held.set(part.host, (held.get(part.host) ?? 0n) + size);
      }
    }
    return held;
  }

  /** Of `bounds`, how many nobody holds. */
  unheld(bounds: readonly Span[]): bigint {
    let free = sizeOfSpans(bounds);
    for (const [first, block] of this.#blocks) {
      const span = blockOf(this.pool, first);
      const inside = common([span], bounds);
      free -= sizeOfSpans(inside) - sizeOfSpans(block === undefined ? [] : common(gaps(block, span), bounds));
    }
    return free;
  }

  #search(taken: NumberSet, bounds: readonly Span[], lead: boolean, skip: number): Spot | undefined {
    let left = skip;
    for (const { first, last } of bounds) {
      const end = this.#number(last);
      let next = taken.nextFree(this.#number(first), end);
      while (next !== undefined) {
        const found = this.#spotIn((this.#base + next) << this.#bits, bounds, lead);
        if (found !== undefined && left-- === 0) return found;
        next = taken.nextFree(next + 1n, end);
      }
    }
    return undefined;
  }

  #spotIn(first: bigint, bounds: readonly Span[], lead: boolean): Spot | undefined {
    const span = blockOf(this.pool, first);
    const now = this.block(span);
    const free = now === undefined ? [] : common(gaps(now, span), bounds);
    if (now === undefined || free.length === 0) return undefined;
    return { block: blockName(this.pool, first), span, now, free, lead };
  }

  #index(span: Span): void {
    const number = this.#number(span.first);
    const block = this.block(span);
    // No address of what cannot be read is to be had.
    const full = block === undefined || gaps(block, span).length === 0;
    mark(this.#full, number, full);
    mark(this.#busy, number, full || this.#leaders.has(span.first));
  }

  #number(value: bigint): bigint {
    return (value >> this.#bits) - this.#base;
  }
}

function mark(set: NumberSet, number: bigint, value: boolean): void {
  if (value) set.add(number);
  else set.delete(number);
}
