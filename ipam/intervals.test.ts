import fc from 'fast-check';
import t from 'tap';
import { Intervals } from './intervals.ts';

t.test('against a plain set of numbers', (t) => {
  const number = fc.integer({ min: 1, max: 60 });
  const interval = fc.tuple(number, fc.integer({ min: 0, max: 8 }));
  fc.assert(
    fc.property(fc.array(interval), fc.array(interval), fc.array(interval), (added, disjoint, queries) => {
      const intervals = new Intervals();
      const model = new Set<number>();
      const cover = (first: number, last: number) => {
        for (let n = first; n <= last; n++) model.add(n);
        intervals.add(BigInt(first), BigInt(last));
      };
      for (const [first, length] of added) cover(first, first + length);
      // Then some that meet nothing, so that they may be taken out again, every other one.
      let keep = false;
      for (const [first, length] of disjoint) {
        const numbers = Array.from({ length: length + 1 }, (_, i) => first + i);
        if (numbers.some((n) => model.has(n))) continue;
        cover(first, first + length);
        keep = !keep;
        if (keep) continue;
        intervals.delete(BigInt(first), BigInt(first + length));
        for (const n of numbers) model.delete(n);
      }
      return queries.every(([first, length]) => {
        const met = intervals.overlapping(BigInt(first), BigInt(first + length));
        const expected = Array.from({ length: length + 1 }, (_, i) => first + i).find((n) => model.has(n));
        if (met === undefined || expected === undefined) return met === expected;
        let [low, high] = [expected, expected];
        while (model.has(low - 1)) low--;
        while (model.has(high + 1)) high++;
        return met.first === BigInt(low) && met.last === BigInt(high);
      });
    }),
    { numRuns: 1000 },
  );
  t.end();
});
