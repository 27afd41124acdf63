import t from 'tap';
import { ip } from '../address/ip.ts';
import { mac } from '../address/mac.ts';
import { prefix } from '../address/prefix.ts';
import type { EndpointRecord, NetworkRecord } from '../cnm/model.ts';
import type { PoolView } from '../ipam/ipam.ts';
import { leakedLeases } from './leaks.ts';

const NETWORK: NetworkRecord = {
  id: 'n1',
  name: 'demo',
  driver: 'cnm-bridge',
  origin: 'cnm',
  options: {},
  internal: false,
  enableIpv4: true,
  enableIpv6: true,
  ipv4: [
    {
      addressSpace: 'cnm-local',
      pool: prefix('10.1.0.0/24'),
      gateway: prefix('10.1.0.1/24'),
      aux: { router: prefix('10.1.0.9/24') },
    },
  ],
  ipv6: [{ addressSpace: 'cnm-local', pool: prefix('fd00::/64'), gateway: prefix('fd00::1/64'), aux: {} }],
  pools: ['p4', 'p6'],
  state: 'ready',
  createdAt: '2026-01-01T00:00:00.000Z',
  plan: [],
};

const ENDPOINT: EndpointRecord = {
  id: 'e1',
  network: 'n1',
  name: 'web',
  mac: mac('02:42:0a:01:00:02'),
  address: prefix('10.1.0.2/24'),
  addressV6: prefix('fd00::2/64'),
  options: {},
  ports: [],
  state: 'ready',
  createdAt: '2026-01-01T00:00:00.000Z',
  plan: [],
};

function pool(poolId: string, text: string, leases: readonly string[], owner?: string): PoolView {
  return {
    poolId,
    space: 'cnm-local',
    pool: prefix(text),
    users: 1,
    ...(owner !== undefined && { owner }),
    options: {},
    usage: { choosable: 0n, reserved: 0n, used: leases.length, free: 0n, resting: 0 },
    leases: leases.map((address) => ({ address: ip(address), purpose: 'endpoint' })),
    formers: [],
  };
}

t.test('gateways, auxiliary addresses and endpoints account for leases; the rest leaks', (t) => {
  const pools = [
    pool('p4', '10.1.0.0/24', ['10.1.0.1', '10.1.0.2', '10.1.0.9', '10.1.0.7'], 'n1'),
    pool('p6', 'fd00::/64', ['fd00::1', 'fd00::2'], 'n1'),
  ];
  t.strictSame(leakedLeases([NETWORK], [ENDPOINT], pools), [
    { poolId: 'p4', pool: '10.1.0.0/24', address: '10.1.0.7' },
  ]);
  t.strictSame(
    leakedLeases([NETWORK], [], pools).map((leak) => leak.address),
    ['10.1.0.2', '10.1.0.7', 'fd00::2'],
    'an endpoint that is gone leaks both families',
  );
  t.end();
});

t.test('a pool whose network was never recorded leaks with its addresses, addresses first', (t) => {
  const leaks = leakedLeases([], [], [pool('px', '10.9.0.0/24', ['10.9.0.1'], 'n9')]);
  t.strictSame(leaks, [
    { poolId: 'px', pool: '10.9.0.0/24', address: '10.9.0.1' },
    { poolId: 'px', pool: '10.9.0.0/24' },
  ]);
  t.end();
});

t.test("Docker's pools are Docker's business", (t) => {
  const docker: NetworkRecord = { ...NETWORK, origin: 'docker' };
  t.strictSame(leakedLeases([docker], [], [pool('p4', '10.1.0.0/24', ['10.1.0.7'])]), []);
  t.end();
});
