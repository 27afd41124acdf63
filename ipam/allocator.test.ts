/** Random walks print their seed; CNM_SEED repeats one. */
import { randomInt } from 'node:crypto';
import t from 'tap';
import { Allocator, segments } from './allocator.ts';
import type { Span } from './spans.ts';

/** Mulberry32: small, and the same on every machine for the same seed. */
function seeded(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let word = Math.imul(state ^ (state >>> 15), state | 1);
    word ^= word + Math.imul(word ^ (word >>> 7), word | 61);
    return Math.floor((((word ^ (word >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

/** The same in the plainest words: lists, looked through from one end to the other. */
class Model {
  readonly used = new Set<bigint>();
  readonly resting: { readonly offset: bigint; readonly at: number }[] = [];
  readonly #bounds: readonly Span[];
  constructor(bounds: readonly Span[]) {
    this.#bounds = bounds;
  }

  next(from?: bigint): bigint | undefined {
    for (const { first, last } of this.#bounds) {
      for (let offset = first; offset <= last; offset++) {
        if ((from === undefined || offset > from) && !this.used.has(offset) && !this.#rests(offset))
          return offset;
      }
    }
    if (from !== undefined) return this.next();
    return this.resting.find(({ offset }) => this.#mayChoose(offset))?.offset;
  }

  take(offset: bigint): void {
    this.forget(offset);
    this.used.add(offset);
  }

  free(offset: bigint, at: number): void {
    this.used.delete(offset);
    const later = this.resting.findIndex((one) => one.at > at);
    this.resting.splice(later < 0 ? this.resting.length : later, 0, { offset, at });
  }

  forget(offset: bigint): void {
    this.used.delete(offset);
    const place = this.resting.findIndex((one) => one.offset === offset);
    if (place >= 0) this.resting.splice(place, 1);
  }

  #rests(offset: bigint): boolean {
    return this.resting.some((one) => one.offset === offset);
  }

  #mayChoose(offset: bigint): boolean {
    return this.#bounds.some(({ first, last }) => first <= offset && offset <= last);
  }
}

/** What was wrong, or undefined. */
function walk(seed: number, bits: number, bounds: readonly Span[], operations: number): string | undefined {
  const random = seeded(seed);
  const allocator = new Allocator(bits);
  const choices = segments(bounds);
  allocator.open(choices);
  const model = new Model(bounds);
  for (let time = 0, last = 0n; time < operations; time++) {
    const serial = random(4) === 0;
    const wanted = serial ? model.next(last) : model.next();
    const found = serial ? allocator.nextAfter(choices, last) : allocator.next(choices);
    if (found !== wanted) return `operation ${time}: ${String(found)} and not ${String(wanted)}`;
    const held = [...model.used];
    const one = held[random(Math.max(held.length, 1))];
    const what = random(10);
    if (found !== undefined && what < 6) {
      allocator.take(found);
      model.take(found);
      if (serial) last = found;
    } else if (one !== undefined && what < 9) {
      // At times the clock goes back.
      const at = random(50) === 0 ? time - 20 : time;
      allocator.free(one, at);
      model.free(one, at);
    } else {
      const oldest = model.resting[0];
      if (oldest === undefined) continue;
      allocator.forget(oldest.offset);
      model.forget(oldest.offset);
    }
  }
  return undefined;
}

t.test('tens of thousands of random steps, against a model', (t) => {
  const seed = Number(process.env['CNM_SEED'] ?? randomInt(2 ** 31));
  t.comment(`CNM_SEED=${seed}`);
  const huge = 1n << 128n;
  const pools: readonly (readonly [bits: number, bounds: readonly Span[]])[] = [
    [0, [{ first: 0n, last: 0n }]],
    [1, [{ first: 0n, last: 1n }]],
    [5, [{ first: 1n, last: 30n }]],
    [
      8,
      [
        { first: 1n, last: 9n },
        { first: 20n, last: 31n },
        { first: 250n, last: 254n },
      ],
    ],
    [24, [{ first: 1n, last: (1n << 24n) - 2n }]],
    [64, [{ first: (1n << 64n) - 40n, last: (1n << 64n) - 1n }]],
    [128, [{ first: huge - 1030n, last: huge - 1n }]],
  ];
  for (const [index, [bits, bounds]] of pools.entries()) {
    t.equal(walk(seed + index, bits, bounds, 6000), undefined, `${bits} bits, seed ${seed + index}`);
  }
  t.end();
});

t.test('what has been free for the longest time comes first, after what was never used', (t) => {
  const allocator = new Allocator(3);
  const choices = segments([{ first: 1n, last: 6n }]);
  allocator.open(choices);
  const take = () => {
    const offset = allocator.next(choices);
    if (offset !== undefined) allocator.take(offset);
    return offset;
  };
  t.same([take(), take(), take()], [1n, 2n, 3n]);
  allocator.free(2n, 10);
  allocator.free(1n, 11);
  t.same([take(), take(), take()], [4n, 5n, 6n], 'a freed one is not the next while others are left');
  t.same([take(), take(), take()], [2n, 1n, undefined], 'a full pool gives what it has');
  t.end();
});
