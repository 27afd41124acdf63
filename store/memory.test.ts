import t from 'tap';
import { memoryStore } from './memory.ts';
import { storeSuite } from './suite.ts';

await t.test('the store suite', (t) => storeSuite(t, () => Promise.resolve(memoryStore())));

t.test('starts from given records, copied', async (t) => {
  const initial = { 'a/1': { n: [1] } };
  const store = memoryStore(initial);
  initial['a/1'].n.push(2);
  t.same(store.list('a/'), [['a/1', { n: [1] }]]);
  await store.write([{ delete: 'a/1' }]);
  t.same(store.list(''), []);
  t.throws(() => memoryStore({ bad: NaN }), { name: 'StoreError', errno: 'EINVAL' });
});
