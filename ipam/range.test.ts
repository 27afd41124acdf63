import fc from 'fast-check';
import t from 'tap';
import { NumberSet } from './range.ts';

/** The first free one, looked for one by one. */
function plainNextFree(taken: ReadonlySet<bigint>, from: bigint, to: bigint): bigint | undefined {
  for (let n = from; n <= to; n++) if (!taken.has(n)) return n;
  return undefined;
}

t.test('a set of up to 12 bits, against a plain one', (t) => {
  const value = fc.bigInt({ min: 0n, max: 4095n });
  const run = fc.tuple(value, fc.integer({ min: 1, max: 1500 }), fc.boolean());
  fc.assert(
    fc.property(fc.array(run, { maxLength: 12 }), fc.array(fc.tuple(value, value)), (runs, queries) => {
      const set = new NumberSet(12);
      const model = new Set<bigint>();
      for (const [first, length, add] of runs) {
        for (let n = first; n < first + BigInt(length) && n < 4096n; n++) {
          if (add) set.add(n);
          else set.delete(n);
          if (add) model.add(n);
          else model.delete(n);
        }
      }
      return (
        set.size === model.size &&
        queries.every(
          ([a, b]) => set.nextFree(a, b) === plainNextFree(model, a, b) && set.has(a) === model.has(a),
        )
      );
    }),
  );
  t.end();
});

t.test('exact at every width', (t) => {
  for (const bits of [0, 1, 10, 11, 32, 50, 51, 64, 80, 127, 128]) {
    const top = (1n << BigInt(bits)) - 1n;
    const set = new NumberSet(bits);
    t.equal(set.nextFree(0n, top), 0n, `${bits} bits`);
    set.add(top);
    t.equal(set.has(top), true);
    t.equal(set.nextFree(top, top), undefined);
    if (bits < 2) continue;
    t.equal(set.nextFree(top - 1n, top), top - 1n);
    set.add(top - 1n);
    set.add(0n);
    t.equal(set.nextFree(0n, top), bits === 1 ? undefined : 1n);
    t.equal(set.nextFree(top - 1n, top), undefined);
    set.delete(top);
    t.equal(set.nextFree(top - 1n, top), top);
    set.delete(top);
    t.equal(set.size, 2);
  }
  t.end();
});

t.test('full nodes are passed over, and found again', (t) => {
  const set = new NumberSet(64);
  const count = 1024 * 1024 + 5;
  for (let n = 0; n < count; n++) set.add(BigInt(n));
  t.equal(set.nextFree(0n, (1n << 64n) - 1n), BigInt(count));
  t.equal(set.nextFree(17n, 1_000_000n), undefined);
  set.delete(777_777n);
  t.equal(set.nextFree(17n, 1_000_000n), 777_777n);
  t.equal(set.nextFree(777_778n, (1n << 64n) - 1n), BigInt(count));
  set.add(777_777n);
  t.equal(set.nextFree(0n, (1n << 64n) - 1n), BigInt(count));
  t.end();
});

t.test('a full set is searched as fast as an empty one', (t) => {
  const set = new NumberSet(16);
  const chunk = () => {
    const start = performance.now();
    for (let i = 0; i < 4096; i++) {
      const free = set.nextFree(0n, 65_535n);
      if (free !== undefined) set.add(free);
    }
    return performance.now() - start;
  };
  const times = Array.from({ length: 16 }, chunk);
  t.equal(set.size, 65_536);
  // A search that walks over what is taken would take some 16 times as long at the end; the first chunks warm up.
  const [early, late] = [Math.min(...times.slice(1, 5)), Math.min(...times.slice(-4))];
  t.ok(late < 5 * early + 1, `${late} ms at the end, ${early} ms at the start`);
  t.end();
});
