/** Which networks a host has, by the cluster's records and by its own: brought to agree whatever was lost. */
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { FakeCluster } from '../../store/cluster-fake.ts';
import { Host, terms } from '../../tests/plane-double.ts';
import { until } from '../../tests/until.ts';
import { decodeNetwork } from './keys.ts';

t.test('what was agreed on without an answer, and is no network here, is taken back', async (t) => {
  const server = new FakeCluster();
  const one = new Host(server, 1);
  await until('it to be in the cluster', () => one.plane.lease !== undefined);
  for (let turn = 0; turn < 50; turn += 1) await setImmediate();
  let isLost = false;
  one.client.fate = (what) => {
    if (what === 'read') return isLost ? 'lost' : 'answered';
    isLost = true;
    return 'unanswered';
  };
  await t.rejects(one.plane.agree(terms('n'), 'join'), { code: 'cluster-unreachable' });
  t.equal(server.entries('overlay/network/').length, 1);
  one.client.fate = () => 'answered';
  await until('it to be gone', () => server.entries('overlay/network/').length === 0);
  t.same(server.entries('overlay/vni/'), []);
  await one.plane.close();
});

t.test('a host that cannot be forgotten now is not said to be forgotten', async (t) => {
  const server = new FakeCluster();
  const hosts = [1, 2].map((number) => new Host(server, number));
  const [one, two] = hosts;
  if (one === undefined || two === undefined) return;
  for (const host of hosts) await host.join('n');
  await t.rejects(one.plane.forget('host2'), { code: 'request-invalid', message: /is there: stop cnmd/ });
  two.client.cut();
  server.advance(11_000);
  await until('the other one to be there', () => one.plane.lease !== undefined);
  one.client.cut();
  await t.rejects(one.plane.forget('host2'), { code: 'cluster-unreachable' });
  one.client.heal();
  one.client.fate = (what) => (what === 'read' ? 'answered' : 'lost');
  await t.rejects(one.plane.forget('host2'), { code: 'cluster-unreachable' });
  one.client.fate = () => 'answered';
  t.equal(await one.plane.forget('host2'), true);
  t.equal(await one.plane.forget('host2'), false);
  t.notMatch(JSON.stringify(server.entries('overlay/network/')), 'host2');
  for (const host of hosts) await host.plane.close();
});

t.test('a network that goes while the store is told of all again does not come back there', async (t) => {
  const server = new FakeCluster();
  const one = new Host(server, 1);
  const names = ['a', 'b', 'c'];
  for (const name of names) await one.join(name);
  await until('all to be there', () => server.entries('overlay/on/').length === 3);
  const client = server.client();
  // But for the host's own record: with that it would be told at once.
  for (const { key } of server.entries('overlay/'))
    if (!key.startsWith('overlay/host/')) await client.transact([], [{ delete: key }]);
  one.client.cut();
  server.advance(11_000);
  one.client.heal();
  await until('the first to be there', () => server.entries('overlay/network/').length === 1);
  one.leave('b');
  one.leave('c');
  for (let turn = 0; turn < 50; turn += 1) await setImmediate();
  t.same(
    server.entries('overlay/network/').map(({ value }) => decodeNetwork(value)?.name),
    ['a'],
  );
  await one.plane.close();
});

t.test('the same network on several hosts at once is in nobody’s way', async (t) => {
  const numbered = { ...terms('n'), numbers: { count: 1, given: [77] } };
  for (let delay = 0; delay < 12; delay += 1)
    for (const how of ['join', 'look'] as const) {
      const server = new FakeCluster();
      const hosts = [1, 2, 3].map((number) => new Host(server, number));
      await until('all to be in the cluster', () => hosts.every(({ plane }) => plane.lease !== undefined));
      const agreed = await Promise.all(
        hosts.map(async ({ plane }, at) => {
          for (let turn = 0; turn < at * delay; turn += 1) await Promise.resolve();
          return plane.agree(numbered, at === 0 ? how : 'join');
        }),
      );
      if (agreed.some(({ numbers }) => String(numbers) !== '77')) t.fail(`${how}, ${delay} turns apart`);
      for (const { plane } of hosts) await plane.close();
    }
  t.pass('whatever comes first');
});

t.test(
  'a network’s record that was taken out by hand, without its VNI: it can be had again, and comes back',
  async (t) => {
    const server = new FakeCluster();
    const hosts = [1, 2].map((number) => new Host(server, number));
    const [one, two] = hosts;
    if (one === undefined || two === undefined) return;
    await one.join('n');
    const records = () => server.entries('overlay/network/');
    const takeOut = () =>
      server.client().transact(
        [],
        records().map(({ key }) => ({ delete: key })),
      );
    const [{ value: was } = { value: undefined }] = records();
    await takeOut();
    const looked = await two.plane.agree(terms('n'), 'look');
    t.same(looked.numbers, decodeNetwork(was)?.numbers);
    t.same(records(), []);
    await two.plane.agree(terms('n'), 'join');
    t.match(decodeNetwork(records()[0]?.value), { numbers: looked.numbers, hosts: { host2: /./ } });
    await takeOut();
    one.client.cut();
    server.advance(11_000);
    one.client.heal();
    await until('it to be there', () => JSON.stringify(records()).includes('host1'));
    t.equal(server.entries('overlay/vni/').length, 1);
    for (const { plane } of hosts) await plane.close();
  },
);

/** Two hosts in the cluster with a network, and its record. */
async function pair() {
  const server = new FakeCluster();
  const hosts = [new Host(server, 1), new Host(server, 2)] as const;
  for (const host of hosts) await host.join('n');
  await until('both to be in the cluster', () => hosts.every(({ plane }) => plane.lease !== undefined));
  const record = () => decodeNetwork(server.entries('overlay/network/')[0]?.value);
  const close = async () => {
    for (const { plane } of hosts) await plane.close();
  };
  return { server, one: hosts[0], two: hosts[1], record, close };
}

t.test(
  'the last host takes along what is the network’s, and nothing that another one has by now',
  async (t) => {
    const { server, one, two, close } = await pair();
    const [claim = { key: '' }] = server.entries('overlay/vni/');
    server.transact([], [{ put: claim.key, value: 'another' }]);
    one.leave('n');
    two.leave('n');
    await until('it to be gone', () => server.entries('overlay/network/').length === 0);
    t.match(server.entries('overlay/vni/'), [{ key: claim.key, value: 'another' }]);
    await close();
  },
);

t.test('a host that comes back while it is being forgotten is not', async (t) => {
  const { server, one, two, record, close } = await pair();
  const member = server.entry('overlay/host/host2');
  await two.plane.close();
  server.transact([], [{ delete: 'overlay/host/host2' }]);
  one.client.fate = (what) => {
    if (what === 'change' && server.entry('overlay/host/host2') === undefined)
      server.transact([], [{ put: 'overlay/host/host2', value: member?.value }]);
    return 'answered';
  };
  await t.rejects(one.plane.forget('host2'), { code: 'cluster-unreachable' });
  t.match(record(), { hosts: { host2: 'h2' } });
  await t.rejects(one.plane.forget('host2'), { code: 'request-invalid' });
  await close();
});

t.test('a leave whose answer was lost, and which arrives when the network is here again', async (t) => {
  const { server, record, close } = await pair();
  const three = new Host(server, 3);
  await until('it to be in the cluster', () => three.plane.lease !== undefined);
  const agreement = await three.plane.agree(terms('n'), 'join');
  let changes = 0;
  three.client.fate = (what) => (what === 'change' && (changes += 1) === 1 ? 'late' : 'answered');
  three.plane.leave(agreement);
  await until('it to be under way', () => changes === 1);
  await three.plane.agree(terms('n'), 'join');
  server.deliverLate();
  for (let turn = 0; turn < 20; turn += 1) await setImmediate();
  t.same(Object.keys(record()?.hosts ?? {}).sort(), ['host1', 'host2', 'host3']);
  await three.plane.close();
  await close();
});

t.test('a join whose answer was lost, and which arrives when nobody waits for it any more', async (t) => {
  const { server, one, record, close } = await pair();
  one.leave('n');
  await until('it to have left', () => record()?.hosts['host1'] === undefined);
  const revision = () => server.entries('overlay/network/')[0]?.revision ?? 0;
  const before = revision();
  let changes = 0;
  one.client.fate = (what) => {
    if (what === 'change') changes += 1;
    return changes === 0 ? 'answered' : what === 'change' ? 'late' : 'lost';
  };
  await t.rejects(one.join('n'), { code: 'cluster-unreachable' });
  one.client.fate = () => 'answered';
  await until('the record to be another', () => revision() > before);
  server.deliverLate();
  for (let turn = 0; turn < 20; turn += 1) await setImmediate();
  t.same(Object.keys(record()?.hosts ?? {}), ['host2']);
  await close();
});

t.test('a network that others made anew with another number is not written over', async (t) => {
  const { server, one, record, close } = await pair();
  const [entry] = server.entries('overlay/network/');
  const other = { ...record(), numbers: [77], claims: ['overlay/vni/77'], hosts: { host2: 'h2' } };
  server.transact([], [{ put: entry?.key ?? '', value: other }]);
  one.client.cut();
  server.advance(11_000);
  let reads = 0;
  one.client.heal();
  one.client.fate = (what) => {
    if (what === 'read') reads += 1;
    return 'answered';
  };
  await until('it to have looked', () => reads > 10);
  t.match(record(), { numbers: [77], hosts: { host1: undefined, host2: 'h2' } });
  await close();
});
