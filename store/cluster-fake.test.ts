import t from 'tap';
import { FakeCluster } from './cluster-fake.ts';
import type { FakeClient } from './cluster-fake.ts';
import type { ClusterStore } from './cluster.ts';
import { clusterSuite, good } from './cluster-suite.ts';

await t.test('the cluster suite', (t) =>
  clusterSuite(t, () => {
    const server = new FakeCluster();
    return Promise.resolve({
      open: () => server.client(),
      cut: (client: ClusterStore) => {
        (client as FakeClient).cut();
        return Promise.resolve();
      },
      heal: (client: ClusterStore) => {
        (client as FakeClient).heal();
        return Promise.resolve();
      },
      compact: () => {
        server.compact();
        return Promise.resolve();
      },
      pass: (seconds: number) => {
        server.advance(seconds * 1000);
        return Promise.resolve();
      },
    });
  }),
);

t.test('what becomes of a request is what the test says', async (t) => {
  const server = new FakeCluster();
  const [a, b] = [server.client(), server.client()];
  const put = (value: number) => a.transact([], [{ put: 'k', value }]);
  const valueOf = async () => good(await b.get('k')).entry?.value;
  a.fate = () => 'lost';
  t.match(await put(1), { ok: false, reason: 'unreachable', uncertain: false });
  t.equal(await valueOf(), undefined);
  a.fate = () => 'unanswered';
  t.match(await put(2), { ok: false, reason: 'unreachable', uncertain: true });
  t.equal(await valueOf(), 2);
  a.fate = () => 'late';
  t.match(await put(3), { ok: false, reason: 'unreachable', uncertain: true });
  t.equal(await valueOf(), 2);
  server.deliverLate();
  t.equal(await valueOf(), 3);
});
