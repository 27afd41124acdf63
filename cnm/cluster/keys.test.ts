/** Records that another program, or somebody by hand, may have written. */
import t from 'tap';
import { FakeCluster } from '../../store/cluster-fake.ts';
import { converge, Host } from '../../tests/plane-double.ts';
import { until } from '../../tests/until.ts';
import { decodeRemote } from './keys.ts';

const good = {
  ...{ at: '192.0.2.9', mac: '02:42:0a:01:00:09', addresses: ['10.1.0.9/24'], generation: 9 },
  ...{ names: ['web'], ports: ['80/tcp'] },
};

t.test('what no endpoint can have is not written by us', (t) => {
  t.match(decodeRemote('h/e', good), { kind: 'endpoint', generation: 9 });
  for (const mac of ['00:00:00:00:00:00', '01:00:5e:00:00:01', 'ff:ff:ff:ff:ff:ff'])
    t.equal(decodeRemote('h/e', { ...good, mac }), undefined, mac);
  for (const generation of [Infinity, 1e300, 1.5, -1, 2 ** 53])
    t.equal(decodeRemote('h/e', { ...good, generation }), undefined, String(generation));
  t.end();
});

t.test('a generation of nobody’s does not keep a host’s own endpoints from the others', async (t) => {
  const server = new FakeCluster();
  const hosts = [1, 2].map((number) => new Host(server, number));
  const [one, two] = hosts;
  if (one === undefined || two === undefined) return;
  for (const host of hosts) await host.join('n');
  await converge(hosts, ['n']);
  const place = server.entries('overlay/on/').find(({ key }) => key.endsWith('/host2'));
  t.ok(place);
  const key = `${place?.key.replace('host2', 'host9') ?? ''}/e9`;
  await two.client.transact([], [{ put: key, value: { ...good, generation: 1e300 } }]);
  one.put('n', 'later', '10.1.0.7/24');
  await until('two to hear of it', () => two.view('n').includes('later'));
  await until('one to have heard', () => one.plane.generation() > server.revision - 3);
  one.put('n', 'last', '10.1.0.8/24');
  await until('two to hear of it', () => two.view('n').includes('last'));
  const [generation] = server
    .entries('overlay/on/')
    .flatMap(({ key, value }) => (key.endsWith('/last') ? [(value as typeof good).generation] : []));
  t.ok((generation ?? Infinity) < 1000, String(generation));
  for (const host of hosts) await host.plane.close();
});
