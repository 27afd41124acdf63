/* Records of a cnm on a fake kernel, and what Docker tells of containers, as the zone then has them. */
import t from 'tap';
import { ip } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import { createCnm } from '../cnm/index.ts';
import type { Cnm, EngineContainer } from '../cnm/cnm.ts';
import type { NetworkSpec } from '../cnm/model.ts';
import { bridge } from '../drivers/bridge/index.ts';
import type { Plan } from '../kernel/step.ts';
import { fakeKernel } from '../kernel/fake.ts';
import { memoryStore } from '../store/memory.ts';
import { gatewaysOf } from './doors.ts';
import { Feed } from './feed.ts';
import { keyOf } from './name.ts';
import { Zone } from './zone.ts';

const id = (letter: string) => letter.repeat(64);
const NETWORK: NetworkSpec = {
  id: id('a'),
  driver: 'cnm-bridge',
  origin: 'docker',
  options: { 'dns.servers': '10.0.0.53, 192.0.2.1#5353' },
  internal: false,
  enableIpv4: true,
  enableIpv6: false,
  ipv4: [{ addressSpace: 'x', pool: prefix('10.1.0.0/24'), gateway: prefix('10.1.0.1/24'), aux: {} }],
  ipv6: [],
};

interface World {
  readonly cnm: Cnm;
  readonly zone: Zone;
  readonly feed: Feed;
  readonly warnings: readonly string[];
  /** Ids of the endpoints that a name means. */
  readonly who: (name: string) => readonly string[];
}

function world(): World {
  const warnings: string[] = [];
  const quiet = () => undefined;
  const log = {
    debug: quiet,
    info: quiet,
    error: quiet,
    warn: (fields: object) => warnings.push(JSON.stringify(fields)),
  };
  const cnm = createCnm({
    kernel: fakeKernel(),
    store: memoryStore(),
    drivers: [bridge],
    log,
    runDir: '/run/cnm',
  });
  const zone = new Zone();
  const lease = { address: ip('10.1.0.9'), purpose: 'endpoint' as const, name: 'leased' };
  const pool = { poolId: 'p', space: 's', pool: prefix('10.1.0.0/24'), users: 1, leases: [lease] };
  const feed = new Feed({ cnm, zone, log, ipam: { pools: () => [pool] } });
  feed.load();
  cnm.watch((change) => {
    feed.change(change);
  });
  const who = (name: string) =>
    (zone.find(zone.hostView(), keyOf(name))?.members ?? []).map(({ host }) => host.id.slice(0, 2)).sort();
  return { cnm, zone, feed, warnings, who };
}

const container = (
  letter: string,
  endpoint: string,
  more: Partial<EngineContainer> = {},
): EngineContainer => ({
  id: id(letter),
  name: `name-${letter}`,
  hostname: `host-${letter}`,
  endpoints: [{ id: id(endpoint), network: NETWORK.id, aliases: ['svc'] }],
  ports: ['80/tcp', '53/udp', 'nonsense'],
  ...more,
});

async function joined({ cnm }: World, letter: string, address: string): Promise<void> {
  await cnm.createEndpoint({
    id: id(letter),
    network: NETWORK.id,
    address: prefix(`${address}/24`),
    options: {},
    ports: [],
  });
  await cnm.join(NETWORK.id, id(letter), `/var/run/docker/netns/${letter}`);
}

t.test('a container of Docker’s, from its endpoint to its end', async (t) => {
  const w = world();
  await w.cnm.createNetwork(NETWORK);
  w.feed.hear({ what: 'all', networks: [{ id: NETWORK.id, name: 'demo' }], containers: [] });
  await w.cnm.createEndpoint({
    id: id('e'),
    network: NETWORK.id,
    address: prefix('10.1.0.2/24'),
    options: {},
    ports: [],
  });
  w.feed.hear({ what: 'container', container: container('c', 'e') });
  t.same(w.who('name-c'), [], 'not before it has joined');
  await w.cnm.join(NETWORK.id, id('e'), '/var/run/docker/netns/e');
  for (const name of ['name-c', 'svc', 'host-c', 'cccccccccccc', 'name-c.demo'])
    t.same(w.who(name), ['ee'], name);
  t.match(w.zone.findAddress(w.zone.hostView(), ip('10.1.0.2'))?.member.host.ports, [
    { proto: 'tcp', port: 80 },
    { proto: 'udp', port: 53 },
  ]);
  t.same(w.zone.network(NETWORK.id)?.network.upstreams, ['10.0.0.53', '192.0.2.1#5353']);
  w.feed.hear({ what: 'container', container: container('c', 'e', { name: 'renamed' }) });
  t.same([w.who('name-c'), w.who('renamed')], [[], ['ee']]);
  w.feed.hear({ what: 'stopping', id: id('c') });
  t.same([w.who('renamed'), w.who('svc')], [[], []], 'it leaves at once');
  t.equal(w.zone.findAddress(w.zone.hostView(), ip('10.1.0.2')), undefined);
  w.feed.hear({ what: 'container', container: container('c', 'e') });
  t.same(w.who('svc'), ['ee'], 'it did not end after all');
  await w.cnm.leave(NETWORK.id, id('e'));
  t.same(w.who('svc'), []);
  await w.cnm.deleteEndpoint(NETWORK.id, id('e'));
  await w.cnm.deleteNetwork(NETWORK.id);
  t.same(w.zone.networks(), []);
});

t.test('what Docker no longer lists has no names', async (t) => {
  const w = world();
  await w.cnm.createNetwork(NETWORK);
  await joined(w, 'e', '10.1.0.2');
  await joined(w, 'f', '10.1.0.3');
  const networks = [{ id: NETWORK.id, name: 'demo' }];
  w.feed.hear({ what: 'all', networks, containers: [container('c', 'e'), container('d', 'f')] });
  t.same(w.who('svc'), ['ee', 'ff']);
  w.feed.hear({ what: 'gone', id: id('d') });
  t.same(w.who('svc'), ['ee']);
  w.feed.hear({ what: 'all', networks, containers: [] });
  t.same(w.who('svc'), []);
});

t.test('before Docker tells, the name of its lease', async (t) => {
  const w = world();
  await w.cnm.createNetwork(NETWORK);
  await joined(w, 'e', '10.1.0.9');
  t.same(w.who('leased'), ['ee']);
  w.feed.hear({ what: 'container', container: container('c', 'e') });
  t.same([w.who('leased'), w.who('name-c')], [[], ['ee']]);
});

t.test('a sandbox of ours: its name, aliases and short id', async (t) => {
  const w = world();
  await w.cnm.createNetwork({ ...NETWORK, origin: 'cnm', name: 'lab' });
  const sandbox = await w.cnm.createSandbox('web');
  await w.cnm.joinSandbox('web', {
    id: id('e'),
    network: NETWORK.id,
    name: 'web',
    aliases: ['api', 'not a name'],
    address: prefix('10.1.0.2/24'),
    options: {},
    ports: [],
  });
  for (const name of ['web', 'api', 'web.lab', sandbox.id.slice(0, 12)]) t.same(w.who(name), ['ee'], name);
  t.match(w.warnings, [/"not a name"/], 'told once');
  t.same(
    w.zone.viewOf(sandbox.id).networks.map((one) => one.id),
    [NETWORK.id],
  );
  await w.cnm.leaveSandbox('web', NETWORK.id);
  t.same(w.who('web'), []);
});

t.test('the gateways that a plan leads to the resolver', async (t) => {
  const w = world();
  await w.cnm.createNetwork(NETWORK);
  await w.cnm.createNetwork({
    ...NETWORK,
    id: id('b'),
    options: { dns: 'off' },
    ipv4: [{ addressSpace: 'x', pool: prefix('10.2.0.0/24'), gateway: prefix('10.2.0.1/24'), aux: {} }],
  });
  t.same(w.cnm.networks().map(gatewaysOf), [[{ address: '10.1.0.1', port: 61053 }], []]);
});

t.test('the gateways in a namespace of the network’s own', async (t) => {
  const w = world();
  await w.cnm.createNetwork(NETWORK);
  const [made] = w.cnm.networks();
  const netns = '/run/cnm/netns/ov-1';
  const presence: Plan = [
    { do: 'netns.add', path: netns },
    { do: 'addr.add', netns, link: 'br0', prefix: prefix('10.5.0.1/24') },
    { do: 'addr.add', netns, link: 'br0', prefix: prefix('fe80::1/64') },
    { do: 'addr.add', netns, link: 'br1', prefix: prefix('fd00:5::1/64') },
  ];
  const doors = (options: NetworkSpec['options']) =>
    made === undefined ? [] : gatewaysOf({ ...made, plan: [], presence, options });
  t.same(doors({}), [
    { address: '10.5.0.1', port: 53, netns },
    { address: 'fd00:5::1', port: 53, netns },
  ]);
  t.same(doors({ dns: 'on' }), doors({}));
  t.same(doors({ dns: 'off' }), []);
});

t.test('names of other hosts', async (t) => {
  const w = world();
  const other = (letter: string, name: string, network = NETWORK.id) => ({
    ...{ id: id(letter), network, owner: `h2 ${letter}`, names: [name] },
    ...{ addresses: [ip('10.1.0.77')], ports: [] },
  });
  w.feed.hearOthers({ what: 'all', hosts: [other('e', 'far'), other('f', 'away')] });
  t.same(w.who('far'), [], 'kept while the network is not here');
  await w.cnm.createNetwork(NETWORK);
  t.same([w.who('far'), w.who('away')], [['ee'], ['ff']]);
  w.feed.hear({ what: 'network', id: NETWORK.id, name: 'demo' });
  t.same(w.who('far.demo'), ['ee']);
  w.feed.hearOthers({ what: 'host', host: other('e', 'renamed') });
  t.same([w.who('far'), w.who('renamed')], [[], ['ee']]);
  w.feed.hearOthers({ what: 'gone', network: NETWORK.id, id: id('f') });
  t.same(w.who('away'), []);

  await joined(w, 'c', '10.1.0.9');
  w.feed.hearOthers({ what: 'host', host: other('c', 'stale') });
  t.same([w.who('stale'), w.who('leased')], [[], ['cc']], 'who is here is as the records here have it');
  await w.cnm.leave(NETWORK.id, id('c'));
  await w.cnm.deleteEndpoint(NETWORK.id, id('c'));
  t.same([w.who('stale'), w.who('leased')], [['cc'], []], 'and has moved when he is here no more');

  w.feed.hearOthers({ what: 'all', hosts: [other('e', 'renamed')] });
  t.same([w.who('renamed'), w.who('stale')], [['ee'], []], 'what is not told any more is gone');
});
