import t from 'tap';
import { ip } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import type { EngineNetwork } from '../cnm/cnm.ts';
import { silent } from '../cnm/log.ts';
import type { EndpointRecord, NetworkRecord } from '../cnm/model.ts';
import { memoryStore } from '../store/memory.ts';
import { createIpam } from './index.ts';
import { createLeaseReclaimer } from './reclaim.ts';

const POOL = prefix('10.1.0.0/24');
const listed: EngineNetwork = {
  id: 'a1'.repeat(32),
  name: 'demo',
  driver: 'bridge',
  endpoints: [{ id: 'e1'.repeat(32), container: 'c1', ipv4: ip('10.1.0.2') }],
  subnets: [{ pool: POOL, aux: [ip('10.1.0.9')] }],
};

type Space = 'cnm-local' | 'cnm-global';

/** A pool of Docker's with a gateway, an auxiliary address and `more`; and a clock. */
async function host(
  more: readonly string[] = [],
  owner?: string,
  defaultSpace: Space = 'cnm-local',
  space = defaultSpace,
) {
  let time = 0;
  const ipam = await createIpam({ store: memoryStore(), defaultSpace });
  const records = { networks: [] as NetworkRecord[], endpoints: [] as EndpointRecord[] };
  const cnm = { networks: () => records.networks, endpoints: () => records.endpoints };
  const request = { space, pool: POOL, v6: false, options: {}, ...(owner !== undefined && { owner }) };
  const { poolId } = await ipam.requestPool(request);
  await ipam.requestAddress(poolId, { gateway: true, serial: false });
  for (const address of ['10.1.0.9', ...more])
    await ipam.requestAddress(poolId, { address: ip(address), gateway: false, serial: false });
  const seen: { live: ReadonlySet<Ip> | Error } = { live: new Set() };
  const live = () => (seen.live instanceof Error ? Promise.reject(seen.live) : Promise.resolve(seen.live));
  const reclaimer = createLeaseReclaimer({ cnm, ipam, log: silent, live, now: () => time });
  return {
    seen,
    ...records,
    leases: () => ipam.pools().flatMap((pool) => pool.leases.map(({ address }) => address)),
    pools: () => ipam.pools().length,
    look: (list: readonly EngineNetwork[], seconds = 0) => {
      time += seconds * 1000;
      return reclaimer.look(list);
    },
  };
}

t.test('an address that nothing speaks for during a minute goes back', async (t) => {
  const h = await host(['10.1.0.2', '10.1.0.3']);
  t.same(await h.look([listed]), []);
  t.same(await h.look([listed], 59), [], 'not before');
  t.same(await h.look([listed], 1), ['address cnm-local/10.1.0.0/24/10.1.0.3']);
  t.same(h.leases(), ['10.1.0.1', '10.1.0.2', '10.1.0.9'], 'the rest stays');
});

t.test('a minute counts only as a whole', async (t) => {
  const h = await host(['10.1.0.3']);
  const there = { ...listed, endpoints: [{ id: 'e3', container: 'c3', ipv4: ip('10.1.0.3') }] };
  await h.look([listed]);
  await h.look([there], 30);
  t.same(await h.look([listed], 30), []);
  t.same(await h.look([listed], 59), []);
});

t.test('an address that a record of ours bears stays', async (t) => {
  const h = await host(['10.1.0.3']);
  h.endpoints.push({ address: prefix('10.1.0.3/24') } as EndpointRecord);
  await h.look([listed]);
  t.same(await h.look([listed], 100), []);
});

t.test('a pool with no network goes, and its addresses with it', async (t) => {
  const h = await host();
  await h.look([]);
  t.same(await h.look([], 60), ['pool cnm-local/10.1.0.0/24']);
  t.equal(h.pools(), 0);
});

t.test('a pool that a network of ours has stays, though Docker does not list it (yet)', async (t) => {
  const h = await host();
  const subnet = { addressSpace: 'cnm-local', pool: POOL, aux: { x: prefix('10.1.0.9/24') } };
  h.networks.push({ ipv4: [subnet], ipv6: [] } as unknown as NetworkRecord);
  await h.look([]);
  t.same(await h.look([], 100), []);
});

t.test(
  'a pool of the other space is a swarm manager’s, but where networks of this host are in it',
  async (t) => {
    const managers = await host([], undefined, 'cnm-local', 'cnm-global');
    await managers.look([]);
    t.same(await managers.look([], 100), []);
    const h = await host([], undefined, 'cnm-global');
    await h.look([]);
    t.same(await h.look([], 60), ['pool cnm-global/10.1.0.0/24']);
  },
);

t.test("standalone networks' pools are not Docker's to forget", async (t) => {
  const h = await host([], 'a2'.repeat(32));
  await h.look([]);
  t.same(await h.look([], 100), []);
});

t.test('a list that does not tell subnets tells nothing', async (t) => {
  const h = await host(['10.1.0.3']);
  const { id, name, driver, endpoints } = listed;
  const silentOne = { id, name, driver, endpoints };
  await h.look([silentOne]);
  t.same(await h.look([silentOne], 100), []);
});

t.test('an address that an interface bears stays, and its pool with it, until both agree', async (t) => {
  const h = await host(['10.1.0.3']);
  h.seen.live = new Set([ip('10.1.0.3')]);
  await h.look([listed]);
  t.same(await h.look([listed], 100), []);
  await h.look([], 1);
  t.same(await h.look([], 100), [], 'the pool stays too');
  h.seen.live = new Error('EACCES');
  await h.look([listed]);
  await t.rejects(h.look([listed], 100), 'nothing can be told');
  t.ok(h.leases().includes(ip('10.1.0.3')));
  h.seen.live = new Set([ip('10.1.0.1')]);
  t.same(await h.look([listed]), ['address cnm-local/10.1.0.0/24/10.1.0.3']);
  await h.look([]);
  t.same(await h.look([], 60), ['pool cnm-local/10.1.0.0/24'], 'a bridge with the gateway does not hold it');
});
