/**
 * The cluster store with a real etcd, beside what its double is held to (store/cluster-suite.ts).
 *
 *     client ── path (can be cut) ── etcd, one member, on loopback
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { Membership } from '../../cnm/cluster/membership.ts';
import { silent } from '../../cnm/log.ts';
import type { ClusterStore } from '../../store/cluster.ts';
import { clusterSuite, follow, good } from '../../store/cluster-suite.ts';
import { openEtcd } from '../../store/etcd.ts';
import { until } from '../lab/command.ts';
import { Path, startEtcd } from './etcd-server.ts';

const server = await startEtcd(t);
let worlds = 0;
/** Where an answer is to come: longer than a disk that others keep busy lets etcd wait. What is refused is so at once. */
const DEADLINE = 30_000;

/** A root of keys for each case: one etcd serves them all. */
async function world() {
  const root = `/test${worlds++}/`;
  const paths = new Map<ClusterStore, Path>();
  const spare: Path[] = [];
  for (let n = 0; n < 4; n++) {
    const path = new Path(server.port);
    await path.open();
    t.teardown(() => path.cut());
    spare.push(path);
  }
  return {
    open() {
      const path = spare.pop();
      if (path === undefined) throw new Error('more clients than paths');
      const store = openEtcd({ members: [path.member], root, deadline: DEADLINE });
      paths.set(store, path);
      return store;
    },
    cut: async (client: ClusterStore) => paths.get(client)?.cut(),
    heal: async (client: ClusterStore) => paths.get(client)?.heal(),
    compact: () => server.compact(),
    pass: async (seconds: number) => {
      await sleep(seconds * 1000);
    },
  };
}

await t.test('the cluster suite', (t) => clusterSuite(t, world));

await t.test(
  'etcd is killed and comes back: what was answered is there, watches and leases go on',
  async (t) => {
    const store = openEtcd({ members: [server.member], root: '/kill/', deadline: DEADLINE });
    t.teardown(() => store.close());
    const { lease } = good(await store.lease(30));
    const { revision } = good(await store.transact([], [{ put: 'w/1', value: 1, lease }]));
    const seen = follow(store, 'w/');
    await seen.until(() => seen.state.size === 1);
    await server.kill();
    await seen.until(() => seen.interrupted);
    t.match(await store.get('w/1'), { ok: false, reason: 'unreachable', uncertain: false });
    t.match(await store.transact([], [{ put: 'w/1', value: 0 }]), {
      ok: false,
      reason: 'unreachable',
      message: /^etcd:\/\/127\.0\.0\.1:\d+ does not answer/,
      // Nobody listens there: it never left this host.
      uncertain: false,
    });
    await server.start();
    const next = await until('etcd to answer again', 20_000, async () => {
      const answer = await store.transact([{ key: 'w/1', revision }], [{ put: 'w/2', value: 2 }]);
      return answer.ok ? answer : undefined;
    });
    t.equal(next.done, true);
    await seen.until(() => seen.state.has('w/2'));
    t.equal(seen.events.filter(({ kind }) => kind === 'snapshot').length, 1, 'it went on where it was');
    t.equal(lease.lost.aborted, false);
    seen.close();
  },
);

await t.test(
  'the record of a host that is there, deleted or written over by hand, is there again',
  async (t) => {
    const [mine, other] = ['', ''].map(() =>
      openEtcd({ members: [server.member], root: '/member/', deadline: 3000 }),
    );
    if (mine === undefined || other === undefined) return;
    t.teardown(() => Promise.all([mine.close(), other.close()]));
    const key = 'overlay/host/one';
    let changes = 0;
    const onChange = () => void (changes += 1);
    const membership = new Membership({
      ...{ cluster: mine, me: 'one', key, record: { name: 'h1', boot: 'b1' } },
      ...{ ttl: 15, retry: 100, log: silent, onChange },
    });
    membership.start();
    const lease = await until('it to be there', 20_000, () => membership.lease);
    const entry = async () => good(await other.get(key)).entry;
    for (const change of [{ delete: key }, { put: key, value: 'nonsense' }]) {
      await other.transact([], [change]);
      await until(
        'it to be there again',
        20_000,
        async () => (await entry())?.lease === lease.id || undefined,
      );
    }
    const { revision, value } = (await entry()) ?? {};
    t.same(value, { name: 'h1', boot: 'b1' });
    await until('it to be said', 20_000, () => changes === 3 || undefined);
    t.equal(membership.lease?.id, lease.id);
    t.equal((await entry())?.revision, revision, 'and not once more');
    await membership.close(true);
    t.equal(await entry(), undefined);
  },
);

await t.test('a silent network: answers in time, and the watch notices', async (t) => {
  const path = new Path(server.port);
  await path.open();
  t.teardown(() => path.cut());
  const store = openEtcd({ members: [path.member], root: '/silent/', deadline: 1000 });
  t.teardown(() => store.close());
  const lease = await until('a lease', 20_000, async () => {
    const answer = await store.lease(2);
    return answer.ok ? answer.lease : undefined;
  });
  const seen = follow(store, 'w/');
  await seen.until(() => seen.events.length === 1);
  await path.cut('silent');
  const answer = await store.transact([], [{ put: 'w/1', value: 1 }]);
  t.match(answer, { ok: false, reason: 'unreachable', uncertain: true });
  await until('the lease to be lost', 20_000, () => lease.lost.aborted || undefined);
  await seen.until(() => seen.interrupted);
  await path.heal();
  await until('it to answer', 20_000, async () => {
    const healed = await store.transact([], [{ put: 'w/2', value: 2 }]);
    return healed.ok || undefined;
  });
  await seen.until(() => seen.state.has('w/2'));
  t.notOk(seen.state.has('w/1'));
  seen.close();
});

await t.test('of several members, those that are gone are passed over', async (t) => {
  const gone = new Path(server.port);
  await gone.open();
  const dead = gone.member;
  await gone.cut();
  const silent = new Path(server.port);
  await silent.open();
  await silent.cut('silent');
  t.teardown(() => silent.cut());
  const members = [dead, silent.member, server.member];
  const store = openEtcd({ members, root: '/members/', deadline: 10_000 });
  t.teardown(() => store.close());
  t.equal(good(await store.transact([{ key: 'k', is: 'absent' }], [{ put: 'k', value: 1 }])).done, true);
  t.equal(good(await store.get('k')).entry?.value, 1);
  const { lease } = good(await store.lease(5));
  t.ok(lease.ttlSeconds >= 5);
  await lease.release();
});
