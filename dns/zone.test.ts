import fc from 'fast-check';
import t from 'tap';
import { ip } from '../address/ip.ts';
import { keyOf } from './name.ts';
import type { ZoneHost } from './record.ts';
import { isTopLevelDomain } from './top-level.ts';
import { Zone } from './zone.ts';

const host = (network: string, id: string, more: Partial<ZoneHost> = {}): ZoneHost => ({
  id,
  network,
  owner: id,
  names: [id],
  addresses: [],
  ports: [],
  ...more,
});
const net = (id: string, name = id) => ({ id, name, internal: false, subnets: [] });
const holders = (zone: Zone, name: string) =>
  (zone.find(zone.hostView(), keyOf(name))?.members ?? []).map((member) => member.host.id).sort();

t.test('an alias stays until its last holder goes, network by network (S02)', (t) => {
  const zone = new Zone();
  zone.putNetwork(net('n1'));
  zone.putNetwork(net('n2'));
  for (const id of ['a', 'b']) zone.putHost(host('n1', id, { names: [id, 'svc'] }));
  zone.putHost(host('n2', 'c', { names: ['c', 'svc'] }));
  t.same(holders(zone, 'svc.n1'), ['a', 'b']);
  t.same(holders(zone, 'svc.n2'), ['c']);
  zone.dropHost('n1', 'a');
  t.same(holders(zone, 'svc.n1'), ['b']);
  zone.putHost(host('n1', 'b', { names: ['b'] }));
  t.same(holders(zone, 'svc.n1'), []);
  t.same(holders(zone, 'svc'), ['c'], 'the other network still knows it');
  t.end();
});

t.test('an address that gets another owner: the newest only (S04)', (t) => {
  const zone = new Zone();
  zone.putNetwork(net('n'));
  const address = ip('10.0.0.2');
  const name = () => zone.findAddress(zone.hostView(), address)?.member.host.id;
  for (const id of ['one', 'two', 'three']) {
    zone.putHost(host('n', id, { addresses: [address] }));
    t.equal(name(), id);
  }
  zone.dropHost('n', 'one');
  t.equal(name(), 'three', 'a late farewell takes nothing from the next owner');
  zone.dropHost('n', 'three');
  t.equal(name(), undefined);
  t.end();
});

t.test('names that cannot be are left out and told (D21)', (t) => {
  const zone = new Zone();
  zone.putNetwork(net('n'));
  const bad = ['a b', 'a,b', 'a\nb', 'x'.repeat(64)];
  t.same(zone.putHost(host('n', 'e', { names: ['good', ...bad] })), bad);
  t.same(holders(zone, 'good'), ['e']);
  t.end();
});

t.test('two networks of one name', (t) => {
  const zone = new Zone();
  zone.putNetwork(net('n1', 'same'));
  zone.putNetwork(net('n2', 'same'));
  zone.putHost(host('n1', 'a'));
  zone.putHost(host('n2', 'b'));
  t.same(holders(zone, 'a.same'), ['a']);
  t.same(holders(zone, 'b.same'), ['b']);
  zone.dropNetwork('n1');
  t.same(holders(zone, 'a.same'), []);
  t.same(holders(zone, 'b.same'), ['b']);
  t.same(zone.viewOf('a').networks, []);
  t.end();
});

t.test('top-level domains that people call networks after', (t) => {
  for (const name of ['app', 'dev', 'com', 'io', 'DB']) t.ok(isTopLevelDomain(keyOf(name)), name);
  for (const name of ['n1', 'demo', 'backend', 'my-app', 'app.net1', 'localnet'])
    t.notOk(isTopLevelDomain(keyOf(name)), name);
  t.end();
});

/** The index says what a search through all endpoints would, after whatever changes. */
t.test('is what a list of its endpoints is', (t) => {
  const names = ['a', 'b', 'c.d', 'n1'];
  const change = fc.record({
    drop: fc.boolean(),
    network: fc.constantFrom('n1', 'n2'),
    id: fc.constantFrom('e1', 'e2', 'e3'),
    owner: fc.constantFrom('o1', 'o2'),
    names: fc.uniqueArray(fc.constantFrom(...names), { maxLength: 3 }),
    address: fc.constantFrom('10.0.0.1', '10.0.0.2'),
  });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 30 }), (changes) => {
      const zone = new Zone();
      for (const id of ['n1', 'n2']) zone.putNetwork(net(id));
      const list = new Map<string, ZoneHost>();
      for (const { drop, network, id, owner, names, address } of changes) {
        if (drop) {
          zone.dropHost(network, id);
          list.delete(`${network}/${id}`);
        } else {
          const one = { id, network, owner, names, addresses: [ip(address)], ports: [] };
          zone.putHost(one);
          list.set(`${network}/${id}`, one);
        }
      }
      const hosts = [...list.values()];
      for (const network of ['n1', 'n2']) {
        const view = { networks: [zone.network(network)].filter((one) => one !== undefined) };
        for (const name of names) {
          const expected = hosts
            .filter((one) => one.network === network && one.names.includes(name))
            .map(({ id }) => id);
          const found = zone.find(view, keyOf(name))?.members.map((member) => member.host.id) ?? [];
          t.same(found.toSorted(), expected.toSorted());
        }
      }
      for (const owner of ['o1', 'o2']) {
        const on = new Set(hosts.filter((one) => one.owner === owner).map(({ network }) => network));
        t.same(new Set(zone.viewOf(owner).networks.map(({ id }) => id)), on);
      }
      return true;
    }),
    { numRuns: 60 },
  );
  t.end();
});
