import t from 'tap';
import { ip } from '../../address/ip.ts';
import { mac } from '../../address/mac.ts';
import { prefix } from '../../address/prefix.ts';
import type { RemoteEndpoint, RemoteHost } from '../../cnm/control.ts';
import type { NetworkSpec, Subnet } from '../../cnm/model.ts';
import { describe } from '../../kernel/describe.ts';
import { fakeKernel } from '../../kernel/fake.ts';
import { overlay } from './index.ts';

const subnet = (pool: string): Subnet => ({
  addressSpace: 'LocalDefault',
  pool: prefix(pool),
  gateway: prefix(pool.replace('.0/', '.1/').replace('::/', '::1/')),
  aux: {},
});

const spec = (changes: Partial<NetworkSpec> = {}): NetworkSpec => ({
  id: '0123456789abcdef'.repeat(4),
  driver: 'cnm-overlay',
  origin: 'docker',
  options: {},
  internal: false,
  enableIpv4: true,
  enableIpv6: true,
  // In whatever order Docker hands them over.
  ipv4: [subnet('11.1.1.0/24'), subnet('10.1.1.0/24')],
  ipv6: [subnet('fd00:a::/64'), subnet('fd00:b::/64')],
  agreement: {
    ...{ plane: 'cluster', id: 'a1', name: 'x', numbers: [7001, 7002] },
    shared: ['10.1.1.0/24', '11.1.1.0/24', 'fd00:a::/64', 'fd00:b::/64'].map(prefix),
  },
  ...changes,
});

const HOST = { netnsDir: '/run/cnm/netns' };

async function present(network: NetworkSpec) {
  const kernel = fakeKernel({
    links: [{ name: 'eth0', addresses: [prefix('192.0.2.1/24'), prefix('2001:db8::1/64')] }],
    routes: [{ to: prefix('0.0.0.0/0'), via: ip('192.0.2.254'), link: 'eth0' }],
  });
  const facts = await kernel.facts();
  overlay.network(network, facts, []);
  return { ...network, presence: overlay.presence?.(network, facts, HOST) ?? [] };
}

const host: RemoteHost = { kind: 'host', id: 'b2', name: 'h2', at: ip('192.0.2.2'), details: {} };
const endpoint: RemoteEndpoint = {
  ...{ kind: 'endpoint', id: 'e1', host: 'b2', at: ip('192.0.2.2'), mac: mac('02:42:0b:01:01:05') },
  addresses: [prefix('11.1.1.5/24'), prefix('fd00:b::5/64')],
  ...{ generation: 1, names: [], ports: [] },
};

t.test('what its hosts have to agree on', (t) => {
  t.match(overlay.sharing?.terms(spec({ options: { port: '7777' }, internal: true })), {
    name: '10.1.1.0/24, 11.1.1.0/24, fd00:a::/64, fd00:b::/64',
    equal: { port: '7777', internal: 'yes' },
    numbers: { count: 2, given: undefined },
  });
  t.match(overlay.sharing?.terms(spec({ options: { name: 'prod', vni: '1,2' } })), {
    name: 'prod',
    numbers: { count: 2, given: [1, 2] },
  });
  t.equal(
    overlay.sharing?.terms(spec({ options: { peers: '192.0.2.2' } })),
    undefined,
    'a list needs no records',
  );
  t.throws(() => overlay.sharing?.terms(spec({ options: { name: 'no\u001b' } })), {
    message: /name cannot be/,
  });
  t.end();
});

t.test('a tunnel that learns nothing, and floods to nobody by itself', async (t) => {
  for (const vtep of ['kernel', 'userspace']) {
    const network = await present(spec({ options: { vtep } }));
    const plan = network.presence.map(describe).join('\n');
    t.match(plan, /id 7001 local 192\.0\.2\.1 (dstport 4789|port 4789) nolearning/, vtep);
    t.notMatch(plan, 'bridge fdb');
    t.match(overlay.sharing?.place(network), { at: '192.0.2.1', details: { vtep, mtu: '1450' } });
  }
});

t.test('entries for a host, and for an endpoint on its segment', async (t) => {
  const network = await present(spec());
  const entries = (remote: RemoteHost | RemoteEndpoint) =>
    (overlay.sharing?.remote(network, remote) ?? []).map((step) =>
      describe(step).replace('nsenter --net=/run/cnm/netns/ov-0123456789ab ', ''),
    );
  t.same(entries(host), [
    'bridge fdb append 00:00:00:00:00:00 dev vx0 dst 192.0.2.2',
    'bridge fdb append 00:00:00:00:00:00 dev vx1 dst 192.0.2.2',
  ]);
  t.same(entries({ ...host, at: ip('192.0.2.1') }), [], 'nobody floods to itself');
  t.same(entries(endpoint), [
    'bridge fdb append 02:42:0b:01:01:05 dev vx1 dst 192.0.2.2',
    'bridge fdb replace 02:42:0b:01:01:05 dev vx1 master static',
    'ip neigh replace 11.1.1.5 lladdr 02:42:0b:01:01:05 dev br1 nud permanent',
    'ip neigh replace fd00:b::5 lladdr 02:42:0b:01:01:05 dev br1 nud permanent',
  ]);
  t.same(entries({ ...endpoint, addresses: [prefix('10.9.9.9/24')] }), [], 'on no segment');
  t.same(entries({ ...endpoint, at: ip('2001:db8::2') }), [], 'a host of the other family');
  const gateway = entries({ ...endpoint, addresses: [prefix('11.1.1.1/24')] });
  t.notMatch(gateway.join(), 'neigh', 'a host’s own gateway is nobody else’s');
});

t.test('a network of a swarm: its hosts by records, its address by what Docker told', async (t) => {
  const options = { peers: 'swarm', vni: '7001,7002', 'ip-range': 'any' };
  t.match(overlay.sharing?.terms(spec({ options })), {
    name: '0123456789abcdef'.repeat(4),
    numbers: { given: [7001, 7002] },
  });
  for (const vtep of ['kernel', 'userspace']) {
    const kernel = fakeKernel({
      links: [{ name: 'eth1', addresses: [prefix('198.51.100.1/24')] }],
      routes: [{ to: prefix('198.51.100.0/24'), link: 'eth1' }],
    });
    const network = spec({ options: { ...options, vtep } });
    const host = { ...HOST, nodes: ['198.51.100.1', '198.51.100.2'].map((one) => ip(one)) };
    const presence = overlay.presence?.(network, await kernel.facts(), host) ?? [];
    const plan = presence.map(describe).join('\n');
    t.match(plan, /id 7001 local 198\.51\.100\.1 .*nolearning/, vtep);
    t.notMatch(plan, '198.51.100.2', 'a node that is not on it gets nothing');
    const more = { ...host, nodes: [...host.nodes, ip('198.51.100.3')] };
    t.same(overlay.follow?.({ ...network, presence }, more), presence, 'nor one that comes');
  }
});

t.test('addresses that may be given twice are refused', async (t) => {
  const agreement = { plane: 'cluster', id: 'a1', name: 'x', numbers: [7001, 7002], shared: [] };
  await t.rejects(present(spec({ agreement })), {
    message: /10\.1\.1\.0\/24|11\.1\.1\.0\/24.*space=cnm-global/,
  });
  await present(spec({ agreement, options: { 'ip-range': 'any' } }));
});
