/**
 * Which address of a pool comes next. Pure: offsets count from the pool's first address, times are given.
 *
 * Least recently used first: what was never used, from the lowest on, and then what has been free for the longest time. So
 * a client that still knows an address's last holder meets nobody there for as long as the pool has others (moby/libnetwork
 * issue 1945), and a pool that has no others gives what it has.
 */
import { NumberSet } from './range.ts';
import { type Span, within } from './spans.ts';

/** Offsets that may be chosen, and how far they have been looked through. */
export interface Segment extends Span {
  /** Every offset from `first` up to this one, and without it, is in use or at rest. */
  from: bigint;
}

export function segments(bounds: readonly Span[]): readonly Segment[] {
  return bounds.map(({ first, last }) => ({ first, last, from: first }));
}

export class Allocator {
  /** In use or at rest. */
  readonly #touched: NumberSet;
  /** When each was freed, the longest ago first. */
  readonly #resting = new Map<bigint, number>();
  #latest = -Infinity;
  readonly #segments = new Set<readonly Segment[]>();

  /** @param bits How many bits of an address are the pool's own to give: 24 in a /8. */
  constructor(bits: number) {
    this.#touched = new NumberSet(bits);
  }

  /** Those who choose say from where; the same object is given to `next`. */
  open(choices: readonly Segment[]): void {
    this.#segments.add(choices);
  }

  close(choices: readonly Segment[]): void {
    this.#segments.delete(choices);
  }

  /** In use from now on. */
  take(offset: bigint): void {
    if (!this.#resting.delete(offset)) this.#touched.add(offset);
  }

  /** No longer in use: it rests. */
  free(offset: bigint, at: number): void {
    this.#touched.add(offset);
    this.#resting.set(offset, at);
    if (at >= this.#latest) this.#latest = at;
    else this.#sort();
  }

  /** At rest no longer: as if it had never been used. */
  forget(offset: bigint): void {
    this.#resting.delete(offset);
    this.#touched.delete(offset);
    for (const choices of this.#segments) {
      for (const segment of choices) {
        if (segment.first <= offset && offset < segment.from) segment.from = offset;
      }
    }
  }

  /** The least recently used offset that is free; undefined when all are in use. Taken only by `take`. */
  next(choices: readonly Segment[]): bigint | undefined {
    for (const segment of choices) {
      const found = this.#touched.nextFree(segment.from, segment.last);
      segment.from = found ?? segment.last + 1n;
      if (found !== undefined) return found;
    }
    for (const [offset] of this.#resting) if (within(choices, offset)) return offset;
    return undefined;
  }

  /** The next one after `after` that was never used, going round (Docker's serial option); then as `next`. */
  nextAfter(choices: readonly Segment[], after: bigint): bigint | undefined {
    for (const { first, last } of choices) {
      const found = this.#touched.nextFree(after < first ? first : after + 1n, last);
      if (found !== undefined) return found;
    }
    return this.next(choices);
  }

  /** After a clock that was set back, or a step that was undone. */
  #sort(): void {
    const all = [...this.#resting].sort(([, a], [, b]) => a - b);
    this.#resting.clear();
    for (const [offset, at] of all) this.#resting.set(offset, at);
  }
}
