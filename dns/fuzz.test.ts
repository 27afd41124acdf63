import t from 'tap';
import { fuzz, noise } from './fuzz.ts';

t.test('hostile packets do no harm (the long run: node dns/fuzz.ts)', (t) => {
  const { answered, faults } = fuzz(30_000, 4711);
  t.same(faults, []);
  t.ok(answered > 10_000, 'many of them are almost right');
  t.end();
});

t.test('the same seed, the same packets', (t) => {
  t.same([...noise(100, 3)], [...noise(100, 3)]);
  t.notSame([...noise(100, 3)], [...noise(100, 4)]);
  t.end();
});
