import t from 'tap';
import { ip, type Ip } from '../address/ip.ts';
import { mac } from '../address/mac.ts';
import { prefix } from '../address/prefix.ts';
import type { EngineNetwork } from '../cnm/cnm.ts';
import type { EndpointRecord, NetworkRecord } from '../cnm/model.ts';
import { memoryStore } from '../store/memory.ts';
import { createIpam } from '../ipam/index.ts';
import { audit, type AuditInput } from './ipam-audit.ts';

const POOL = prefix('10.1.0.0/24');
const LATER = 2_000_000;

const network = {
  id: 'a1'.repeat(32),
  ipv4: [
    {
      addressSpace: 'cnm-local',
      pool: POOL,
      gateway: prefix('10.1.0.1/24'),
      aux: { nas: prefix('10.1.0.9/24') },
    },
  ],
  ipv6: [],
} as unknown as NetworkRecord;

const endpoint = (id: string, address: string): EndpointRecord => ({
  id: id.repeat(32),
  network: network.id,
  mac: mac('02:42:0a:01:00:02'),
  address: prefix(`${address}/24`),
  options: {},
  ports: [],
  state: 'ready',
  createdAt: '2026-01-01T00:00:00.000Z',
  plan: [],
});

const listed: EngineNetwork = {
  id: network.id,
  name: 'demo',
  driver: 'cnm-bridge',
  endpoints: [{ id: 'e1'.repeat(32), container: 'web', ipv4: ip('10.1.0.2') }],
  subnets: [{ pool: POOL, aux: [ip('10.1.0.9')] }],
};

/** A network of Docker's with a gateway, an auxiliary address and a container, all in order. */
async function sound(more: readonly string[] = []): Promise<AuditInput> {
  const ipam = await createIpam({ store: memoryStore(), now: () => 1_000_000 });
  const { poolId } = await ipam.requestPool({ space: 'cnm-local', pool: POOL, v6: false, options: {} });
  await ipam.requestAddress(poolId, { gateway: true, serial: false });
  for (const address of ['10.1.0.2', '10.1.0.9', ...more])
    await ipam.requestAddress(poolId, { address: ip(address), gateway: false, serial: false });
  return {
    pools: ipam.pools(),
    networks: [network],
    endpoints: [endpoint('e1', '10.1.0.2')],
    listed: [listed],
    live: new Map<Ip, string[]>([
      [ip('10.1.0.1'), ['host']],
      [ip('10.1.0.2'), ['/run/docker/netns/web']],
    ]),
    routes: [{ to: POOL, link: 'br0', table: 254, ours: false }],
    leaks: [],
    olderThan: LATER,
  };
}

const kinds = (input: AuditInput) => audit(input).map(({ kind, address }) => `${kind} ${address ?? 'pool'}`);

t.test('nothing is found where all agree', async (t) => {
  t.same(kinds(await sound()), []);
});

t.test('a lease that nothing speaks for', async (t) => {
  const input = await sound(['10.1.0.3']);
  t.same(kinds(input), ['leak 10.1.0.3']);
  t.match(audit(input)[0], { since: '1970-01-01T00:16:40.000Z', what: /10\.1\.0\.3 is leased, but no/ });
  t.same(kinds({ ...input, olderThan: 1_000_000 }), [], 'one that is under way');
  t.same(kinds({ ...input, live: new Map([[ip('10.1.0.3'), ['host']]]) }), [], 'an interface has it');
  const silent = Object.fromEntries(Object.entries(input).filter(([key]) => key !== 'listed'));
  t.same(kinds(silent as unknown as AuditInput), [], 'Docker does not answer');
  t.same(kinds({ ...input, listed: [{ ...listed, subnets: undefined } as unknown as EngineNetwork] }), []);
  const container = { id: 'e3', container: 'c3', ipv4: ip('10.1.0.3') };
  t.same(kinds({ ...input, listed: [{ ...listed, endpoints: [container] }] }), [], 'Docker has it');
});

t.test('a pool that no network has', async (t) => {
  const input = { ...(await sound()), networks: [], endpoints: [], listed: [] };
  t.same(kinds(input), [], 'interfaces still have addresses of it');
  t.same(kinds({ ...input, live: new Map() }), ['leak pool']);
});

t.test('an address that two have', async (t) => {
  const input = await sound();
  const twice = new Map<Ip, string[]>([[ip('10.1.0.2'), ['/run/docker/netns/a', '/run/docker/netns/b']]]);
  t.same(kinds({ ...input, live: twice }), ['double 10.1.0.2']);
  t.same(kinds({ ...input, endpoints: [endpoint('e1', '10.1.0.2'), endpoint('e2', '10.1.0.2')] }), [
    'double 10.1.0.2',
  ]);
  const elsewhere = new Map<Ip, string[]>([[ip('10.9.0.2'), ['a', 'b']]]);
  t.same(kinds({ ...input, live: elsewhere }), [], 'of a pool that is not ours');
});

t.test('an address in use that no lease holds', async (t) => {
  const input = await sound();
  t.same(kinds({ ...input, endpoints: [...input.endpoints, endpoint('e2', '10.1.0.7')] }), [
    'orphan 10.1.0.7',
  ]);
});

t.test('a route of the host that the pool hides', async (t) => {
  const input = await sound();
  const routes = ['0.0.0.0/0', '0.0.0.0/1', '10.1.0.0/24', '10.1.0.5/32', '10.2.0.0/16', '10.1.0.0/16'];
  const found = audit({
    ...input,
    routes: routes.map((to) => ({
      to: prefix(to),
      via: ip('192.0.2.1'),
      link: 'tun0',
      table: 254,
      ours: false,
    })),
  });
  t.same(
    found.map(({ what }) => what),
    ["the pool 10.1.0.0/24 overlaps the host's route 10.1.0.0/16 via 192.0.2.1 dev tun0"],
  );
});
