/** What every Store must do; each implementation's test runs it. */
import type { Test } from 'tap';
import type { Store } from './store.ts';

export async function storeSuite(t: Test, open: () => Promise<Store>): Promise<void> {
  for (const [name, run] of Object.entries(CASES)) {
    await t.test(name, async (t) => {
      const store = await open();
      t.teardown(() => store.close());
      await run(t, store);
    });
  }
}

const CASES: Readonly<Record<string, (t: Test, store: Store) => Promise<void>>> = {
  'puts, replaces, deletes and lists in key order': async (t, store) => {
    t.equal(store.get('a'), undefined);
    await store.write([
      { put: 'n/b', value: { x: [1, 'two', null, true] } },
      { put: 'n/a', value: 1 },
      { put: 'na', value: 'other' },
      { put: 'n/é', value: '𝄞' },
      { put: 'n/10', value: 10 },
    ]);
    t.same(store.get('n/b'), { x: [1, 'two', null, true] });
    t.same(
      store.list('n/').map(([key]) => key),
      ['n/10', 'n/a', 'n/b', 'n/é'],
    );
    t.equal(store.list('').length, 5);
    await store.write([{ put: 'n/a', value: 2 }, { delete: 'n/b' }, { delete: 'never there' }]);
    t.same(store.list('n/'), [
      ['n/10', 10],
      ['n/a', 2],
      ['n/é', '𝄞'],
    ]);
    t.same(store.list('z'), []);
    t.same(store.notices, []);
  },

  'later changes of one write win': async (t, store) => {
    await store.write([
      { put: 'k', value: 1 },
      { put: 'k', value: 2 },
      { put: 'gone', value: 1 },
      { delete: 'gone' },
    ]);
    await store.write([{ delete: 'k' }, { put: 'k', value: 3 }]);
    t.same(store.list(''), [['k', 3]]);
    await store.write([]);
  },

  'what is read is a copy, and so is what was put': async (t, store) => {
    const value = { list: [1] };
    const written = store.write([{ put: 'k', value }]);
    value.list.push(2);
    await written;
    (store.get('k') as typeof value).list.push(3);
    (store.list('k')[0]?.[1] as typeof value).list.push(4);
    t.same(store.get('k'), { list: [1] });
  },

  'a write is seen once it is durable, and writes keep their order': async (t, store) => {
    const first = store.write([{ put: 'k', value: 1 }]);
    const second = store.write([{ put: 'k', value: 2 }]);
    t.equal(store.get('k'), undefined);
    await Promise.all([first, second]);
    t.equal(store.get('k'), 2);
  },

  'what JSON would change is refused with its key, whole, and alone': async (t, store) => {
    const cycle: { self?: unknown } = {};
    cycle.self = cycle;
    let deep: unknown = 1;
    for (let i = 0; i < 100_000; i++) deep = [deep];
    const bad: unknown[] = [
      undefined,
      NaN,
      -Infinity,
      1n,
      Symbol('s'),
      () => 1,
      new Map(),
      new Date(0),
      cycle,
      deep,
    ];
    for (const value of [...bad, [undefined], { a: { b: NaN } }, new Uint8Array(1)]) {
      const good = store.write([{ put: 'good', value: 1 }]);
      const refused = store.write([
        { put: 'half', value: 1 },
        { put: 'bad', value },
      ]);
      await t.rejects(refused, { name: 'StoreError', errno: 'EINVAL', message: /"bad"/ });
      await good;
    }
    await t.rejects(store.write([{ put: '', value: 1 }]), { name: 'StoreError', errno: 'EINVAL' });
    await t.rejects(store.write([{ put: '\ud800', value: 1 }]), { name: 'StoreError', errno: 'EINVAL' });
    await store.write([{ put: 'optional', value: { present: 1, absent: undefined } }]);
    await store.write([{ put: 'surrogate', value: 'x\ud800y\0z' }]);
    t.same(store.list(''), [
      ['good', 1],
      ['optional', { present: 1 }],
      ['surrogate', 'x\ud800y\0z'],
    ]);
  },

  'many keys: the list is that of a sorted map': async (t, store) => {
    const model = new Map<string, number>();
    // A linear congruential walk, so that every run has the same keys.
    let random = 7;
    for (let round = 0; round < 60; round++) {
      const changes = Array.from({ length: 100 }, () => {
        random = (Math.imul(random, 1_103_515_245) + 12_345) >>> 0;
        const key = `k${(random >>> 8) % 3000}`;
        if ((random >>> 20) % 7 < 2) {
          model.delete(key);
          return { delete: key };
        }
        model.set(key, random);
        return { put: key, value: random };
      });
      await store.write(changes);
    }
    const sorted = [...model].sort(([a], [b]) => (a < b ? -1 : 1));
    t.ok(sorted.length > 1500);
    t.same(store.list(''), sorted);
    t.same(
      store.list('k12'),
      sorted.filter(([key]) => key.startsWith('k12')),
    );
    const middle = sorted.slice(300, -300);
    await store.write(middle.map(([key]) => ({ delete: key })));
    t.same(store.list(''), [...sorted.slice(0, 300), ...sorted.slice(-300)]);
    await store.write([...middle].reverse().map(([put, value]) => ({ put, value })));
    t.same(store.list(''), sorted);
    await store.write(sorted.map(([key]) => ({ delete: key })));
    t.same(store.list(''), []);
  },

  'close waits for the writes before it and refuses those after': async (t, store) => {
    const written = store.write([{ put: 'k', value: 1 }]);
    await store.close();
    await written;
    t.equal(store.get('k'), 1);
    await t.rejects(store.write([{ put: 'k', value: 2 }]), { name: 'StoreError', errno: 'EBADF' });
    await store.close();
  },
};
