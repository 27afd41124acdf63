/** The control plane over a cluster store in memory: several hosts, whose networks lose requests and are cut, with what each of them is told. */
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import t from 'tap';
import { FakeCluster } from '../../store/cluster-fake.ts';
import { converge, Host, POOL, terms } from '../../tests/plane-double.ts';
import { until } from '../../tests/until.ts';
import type { Terms } from '../control.ts';

t.test('the first host decides, the next ones have the same, and who differs is shown both', async (t) => {
  const server = new FakeCluster();
  const [one, two, three] = [1, 2, 3].map((number) => new Host(server, number));
  if (one === undefined || two === undefined || three === undefined) return;
  const first = await one.plane.agree(terms('uber'), 'join');
  t.same((await two.plane.agree(terms('uber'), 'join')).numbers, first.numbers);
  t.same((await two.plane.agree(terms('uber'), 'join')).numbers, first.numbers, 'again is the same');
  const refused = (more: Partial<Terms>, name = 'uber') => three.plane.agree(terms(name, more), 'join');
  await t.rejects(refused({ equal: { subnets: POOL, port: '7777' } }), {
    code: 'network-conflict',
    message:
      'Network uber has port 4789 on h1, h2, and was to have port 7777 here: give the same on every host, or another name',
  });
  await t.rejects(refused({ numbers: { count: 1, given: [7] } }), {
    message: /has vni \d+ on h1, h2, and was to have vni 7 here/,
  });
  const given = first.numbers;
  await t.rejects(refused({ numbers: { count: 1, given } }, 'other'), {
    message: /VNI \d+ belongs to network uber of the cluster \(on h1, h2\)/,
  });
  t.not((await three.plane.agree(terms('other'), 'join')).numbers[0], given[0], 'one that is free');
  await three.plane.agree(terms('sub', { subnets: [POOL] }), 'join');
  await t.rejects(refused({ subnets: [POOL] }, 'same'), {
    message: /Subnet 10\.1\.0\.0\/24 belongs to network sub/,
  });
  const revision = server.revision;
  await one.plane.agree(terms('never', { subnets: [] }), 'look');
  t.equal(server.revision, revision, 'a look changes nothing');
  t.equal(server.entries('overlay/network/').length, 3);
  one.client.cut();
  await t.rejects(one.plane.agree(terms('cut'), 'join'), { code: 'cluster-unreachable' });
  server.advance(11_000);
  await until('the others to be there', () => three.plane.lease !== undefined);
  await three.plane.forget('host1');
  one.client.heal();
  await until(
    'one to be taken out',
    () => !JSON.stringify(server.entries('overlay/network/')).includes('host1'),
  );
  one.plane.leave(first);
  two.plane.leave(first);
  await until('the last one to take it along', () => server.entries('overlay/network/').length === 2);
  t.equal(server.entries('overlay/vni/').length, 2);
  for (const host of [one, two, three]) await host.plane.close();
});

/** On one network, with an endpoint each, which all know. */
async function three() {
  const server = new FakeCluster();
  const hosts = [new Host(server, 1), new Host(server, 2), new Host(server, 3)] as const;
  for (const host of hosts) {
    await host.join('n');
    host.put('n', `e${host.number}`, `10.1.0.${host.number}/24`);
  }
  await converge(hosts, ['n']);
  return { server, hosts };
}

t.test('one that is cut off keeps what it knows, and is gone for the others with its lease', async (t) => {
  const { server, hosts } = await three();
  const [one, two] = hosts;
  const known = two.view('n');
  two.client.cut();
  server.advance(11_000);
  await until('one to forget it', () => one.view('n') === 'e3@192.0.2.3 host3@192.0.2.3');
  t.equal(two.view('n'), known);
  one.put('n', 'meanwhile', '10.1.0.77/24');
  two.put('n', 'alone', '10.1.0.78/24');
  two.client.heal();
  await converge(hosts, ['n']);
  t.match(one.view('n'), 'alone@192.0.2.2');
  await two.restart();
  await converge(hosts, ['n']);
  for (const host of hosts) await host.plane.close();
  t.equal(
    server.entries('overlay/on/').length,
    8,
    'daemons that stop leave their containers’ records to their leases',
  );
});

t.test(
  'one that is only cut off from the store, or without its daemon, stays known while it answers',
  async (t) => {
    const { server, hosts } = await three();
    const [one, two, other] = hosts;
    one.answers.add('192.0.2.2');
    const known = one.view('n');
    two.client.cut();
    server.advance(11_000);
    await until('three to forget it', () => !other.view('n').includes('e2'));
    t.equal(one.view('n'), known, 'one has it still');
    one.client.cut();
    server.compact();
    await setImmediate();
    one.client.heal();
    await setImmediate();
    t.match(one.view('n'), 'e2@192.0.2.2', 'also after a new beginning');
    two.drop('n', 'e2');
    two.put('n', 'new', '10.1.0.9/24');
    two.client.heal();
    await converge(hosts, ['n']);
    t.notMatch(one.view('n'), 'e2', 'what it does not say again is gone');
    two.client.cut();
    server.advance(11_000);
    one.answers.clear();
    await until('one to forget it', () => !one.view('n').includes('192.0.2.2'));
    for (const host of hosts) await host.plane.close();
  },
);

t.test(
  'a daemon that starts believes a host that is in doubt, too, and knows it before the store answers',
  async (t) => {
    const { server, hosts } = await three();
    const [one, two, other] = hosts;
    one.answers.add('192.0.2.2');
    const known = one.view('n');
    await one.remembered();
    two.client.cut();
    server.advance(11_000);
    await until('three to forget it', () => !other.view('n').includes('e2'));
    await one.restart();
    t.equal(one.view('n'), known, 'at once');
    await until('one to be in the cluster', () => other.view('n').includes('e1'));
    other.put('n', 'next', '10.1.0.30/24');
    await until('one to hear of it', () => one.view('n').includes('next'));
    t.match(one.view('n'), 'e2@192.0.2.2', 'and when the store has answered');
    two.leave('n');
    two.client.heal();
    await converge(hosts, ['n']);
    t.notMatch(
      one.view('n'),
      '192.0.2.2',
      'it is back, and has nothing of the network: so its silence counts',
    );
    one.leave('n');
    await until('nothing to be remembered', () => one.heard === 0);
    for (const host of hosts) await host.plane.close();
  },
);

t.test('while a host did not hear, another one was cut off, and one left', async () => {
  const server = new FakeCluster();
  const hosts = [1, 2, 3, 4].map((number) => new Host(server, number));
  const [one, two, three, four] = hosts;
  if (one === undefined || two === undefined || three === undefined || four === undefined) return;
  for (const host of hosts) {
    await host.join('n');
    host.put('n', `e${host.number}`, `10.1.0.${host.number}/24`);
  }
  await converge(hosts, ['n']);
  for (const number of [2, 3]) one.answers.add(`192.0.2.${number}`);
  one.client.cut();
  two.client.cut();
  three.leave('n');
  server.advance(11_000);
  await until('four to know', () => four.view('n') === '');
  server.compact();
  one.client.heal();
  await until(
    'one to have heard',
    () => one.view('n') === 'e2@192.0.2.2 e4@192.0.2.4 host2@192.0.2.2 host4@192.0.2.4',
  );
  four.leave('n');
  two.answers.clear();
  // Another machine has its address.
  await four.restart(2);
  await four.join('n');
  await until('one to forget it', () => one.view('n') === 'host4@192.0.2.2');
  for (const host of hosts) await host.plane.close();
});

t.test('the store lost everything: all hosts write what they have, and know each other again', async (t) => {
  const server = new FakeCluster();
  const hosts = [1, 2].map((number) => new Host(server, number));
  for (const host of hosts) {
    await host.join('n');
    host.put('n', `e${host.number}`, `10.1.0.${host.number}/24`);
  }
  await converge(hosts, ['n']);
  const before = server.entries('overlay/').map(({ key }) => key);
  const client = server.client();
  for (const key of before) await client.transact([], [{ delete: key }]);
  await client.close();
  for (const host of hosts) host.client.cut();
  server.advance(11_000);
  for (const host of hosts) host.client.heal();
  await converge(hosts, ['n']);
  await until(
    'networks and numbers to be there again',
    () => server.entries('overlay/').length === before.length,
  );
  t.same(
    server.entries('overlay/').map(({ key }) => key),
    before,
  );
  for (const host of hosts) await host.plane.close();
});

/** Two hosts on one network, each with an endpoint. */
async function pair() {
  const server = new FakeCluster();
  const hosts = [1, 2].map((number) => new Host(server, number));
  for (const host of hosts) {
    await host.join('n');
    host.put('n', `e${host.number}`, `10.1.0.${host.number}/24`);
  }
  await converge(hosts, ['n']);
  return { server, hosts };
}

t.test('what somebody takes out of the store, or writes over, is there again', async (t) => {
  const { server, hosts } = await pair();
  const written = server.entries('overlay/on/').map(({ key, value }) => ({ key, value }));
  t.equal(written.length, 4);
  const client = server.client();
  for (const { key } of written) await client.transact([], [{ delete: key }]);
  await until('all to be there again', () => server.entries('overlay/on/').length === 4);
  for (const { key } of written) await client.transact([], [{ put: key, value: 'nonsense' }]);
  const isWritten = () => !server.entries('overlay/on/').some(({ value }) => value === 'nonsense');
  await until('all to be as it was', isWritten);
  t.same(
    server.entries('overlay/on/').map(({ key, value }) => ({ key, value })),
    written,
  );
  await converge(hosts, ['n']);
  for (const host of hosts) await host.plane.close();
});

t.test('the record of a host that is there, taken out of the store by hand', async (t) => {
  const { server, hosts } = await pair();
  const [one, two] = hosts;
  const key = 'overlay/host/host1';
  const written = server.entry(key);
  t.ok(written?.lease);
  const client = server.client();
  const isBack = () => server.entry(key)?.lease === written?.lease;
  for (const change of [{ delete: key }, { put: key, value: 'nonsense' }]) {
    await client.transact([], [change]);
    t.notOk(isBack());
    await until('it to be there again, with its lease', isBack);
    t.same(server.entry(key)?.value, written?.value);
  }
  // With its answer lost, and while the store cannot be reached.
  if (one === undefined || two === undefined) return;
  let asked = 0;
  one.client.fate = (what) => (what === 'change' && asked++ === 0 ? 'unanswered' : 'answered');
  await client.transact([], [{ delete: key }]);
  await until('it to be there again', isBack);
  one.client.cut();
  await client.transact([], [{ delete: key }, { delete: 'overlay/on/x' }]);
  await two.plane.forget('host1');
  t.notMatch(JSON.stringify(server.entries('overlay/network/')), 'host1', 'that was allowed');
  one.client.heal();
  await until('it to be there again', isBack);
  await until('its networks as well', () =>
    JSON.stringify(server.entries('overlay/network/')).includes('host1'),
  );
  await t.rejects(two.plane.forget('host1'), { code: 'request-invalid' });
  await converge(hosts, ['n']);
  // Another machine with this one's state: that one has it, and this one stays out.
  await client.transact([], [{ put: key, value: { name: 'other', boot: 'other' } }]);
  await until('it to say so', () => one.plane.trouble.includes('from another machine (other)'));
  t.equal(one.plane.lease, undefined);
  t.match(server.entry(key)?.value, { boot: 'other' });
  for (const host of hosts) await host.plane.close();
});

t.test('a host that leaves a network and is on it again before the store has heard', async (t) => {
  const { server, hosts } = await pair();
  const [one] = hosts;
  if (one === undefined) return;
  // Where the next one is made while the last words of the former one are under way.
  for (let turns = 0; turns < 12; turns += 1) {
    const next = `next${turns}`;
    await one.reenter('n', turns);
    one.put('n', next, '10.1.0.9/24');
    await converge(hosts, ['n']);
    for (let turn = 0; turn < 20; turn += 1) await setImmediate();
    const mine = server.entries('overlay/on/').filter(({ key }) => key.includes('/host1'));
    t.equal(mine.length, 2, `${turns} turns later: the host, and its endpoint`);
  }
  for (const host of hosts) await host.plane.close();
});

t.test('O17 whatever happens in whatever order: in the end all agree', async () => {
  const names = ['a', 'b', 'c'];
  const host = fc.nat(4);
  const network = fc.constantFrom(...names);
  const act = fc.oneof(
    fc.record({ host, do: fc.constant('join' as const), network }),
    fc.record({ host, do: fc.constant('leave' as const), network }),
    fc.record({ host, do: fc.constant('put' as const), network, id: fc.nat(5) }),
    fc.record({ host, do: fc.constant('drop' as const), network, id: fc.nat(5) }),
    fc.record({
      host,
      do: fc.constantFrom(
        'restart' as const,
        'cut' as const,
        'heal' as const,
        'advance' as const,
        'compact' as const,
        'lose' as const,
      ),
    }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(act, { minLength: 5, maxLength: 40 }), async (acts) => {
      const server = new FakeCluster();
      const hosts = [1, 2, 3, 4, 5].map((number) => new Host(server, number));
      let lost = 0;
      for (const one of acts) {
        const at = hosts[one.host];
        if (at === undefined) continue;
        switch (one.do) {
          case 'join':
            await at.join(one.network).catch(() => undefined);
            break;
          case 'leave':
            at.leave(one.network);
            break;
          case 'put':
            at.put(one.network, `e${at.number}-${one.id}`, `10.1.0.${one.id}/24`);
            break;
          case 'drop':
            at.drop(one.network, `e${at.number}-${one.id}`);
            break;
          case 'restart':
            await at.restart();
            break;
          case 'cut':
            at.client.cut();
            break;
          case 'heal':
            at.client.heal();
            break;
          case 'advance':
            server.advance(4000);
            break;
          case 'compact':
            server.compact();
            break;
          case 'lose':
            // Every third answer of this host's is lost, done or not.
            at.client.fate = () => (++lost % 3 === 0 ? (lost % 2 === 0 ? 'lost' : 'unanswered') : 'answered');
        }
        if (acts.length % 2 === 0) await setImmediate();
      }
      for (const at of hosts) {
        at.client.fate = () => 'answered';
        at.client.heal();
      }
      // What a daemon that was killed had said ends with its lease.
      for (let time = 0; time < 4; time += 1) {
        await setImmediate();
        server.advance(4000);
      }
      await converge(hosts, names);
      const used = names.filter((name) => hosts.some((at) => at.networks.has(name)));
      await until(
        `the networks to be ${used.join()}`,
        () => server.entries('overlay/network/').length === used.length,
      );
      for (const at of hosts) await at.plane.close();
    }),
    { numRuns: 60 },
  );
});
