import t from 'tap';
import { ip } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import type { Cnm, EngineNetwork } from '../cnm/cnm.ts';
import { CnmError } from '../cnm/errors.ts';
import type { Ipam } from '../ipam/ipam.ts';
import { standaloneDouble } from '../tests/standalone-double.ts';
import { AddressBook, type AddressBookOptions } from './address-book.ts';
import type { CommandError } from './client.ts';
import type { NetworkRequest } from './views.ts';

const WANTED: NetworkRequest = {
  name: 'demo',
  driver: 'cnm-bridge',
  subnets: ['10.88.0.0/28'],
  gateways: [],
  ipRanges: [],
  auxAddresses: { nas: '10.88.0.9' },
  ipv4: true,
  ipv6: false,
  internal: false,
  options: {},
  ipamOptions: { reserved: '10.88.0.10-10.88.0.12' },
};
const ID = 'cnm-local/10.88.0.0/28';

t.test('what is used, free, at rest and reserved, and who holds what', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  const { client } = double;
  await client.createNetwork(WANTED);
  for (const name of ['web', 'db']) {
    await client.createSandbox(name);
    await client.join(name, { network: 'demo', options: {} });
  }
  await client.leave('web', 'demo');
  t.match(await client.pools(), [
    {
      poolId: ID,
      pool: '10.88.0.0/28',
      network: { name: 'demo' },
      options: { reserved: '10.88.0.10-10.88.0.12' },
      choosable: 11,
      used: 3,
      free: 8,
      resting: 1,
      reserved: 3,
    },
  ]);
  const of = async (address: string) => {
    const [view] = await client.address(address);
    return [view?.state, view?.name, view?.holder?.name, view?.seenIn?.length];
  };
  t.same(await of('10.88.0.1'), ['gateway', undefined, undefined, 1]);
  t.same(await of('10.88.0.2'), ['resting', 'web', undefined, 0]);
  t.same(await of('10.88.0.3'), ['endpoint', 'db', 'db', 1]);
  t.same(await of('10.88.0.9'), ['aux', 'nas', undefined, 0]);
  t.same(await of('10.88.0.11'), ['reserved', undefined, undefined, 0]);
  t.same(await of('10.88.0.13'), ['free', undefined, undefined, 0]);
  t.same(await of('10.88.0.15'), ['unusable', undefined, undefined, 0]);
  const all = (await client.leases('10.88.0.0/28')).map(({ address, state }) => `${address} ${state}`);
  t.same(all, ['10.88.0.1 gateway', '10.88.0.3 endpoint', '10.88.0.9 aux', '10.88.0.2 resting']);
  t.same(await client.leases(ID), await client.leases('10.88.0.0/28'));

  // A name has its address and MAC back.
  const again = await client.join('web', { network: 'demo', options: {} });
  t.match(again, { addresses: ['10.88.0.2/28'], mac: '02:42:0a:58:00:02' });

  const refusals: readonly (readonly [ask: () => Promise<unknown>, says: RegExp])[] = [
    [() => client.address('10.88.0'), /"10\.88\.0" is not an IP address/],
    [() => client.address('10.99.0.1'), /No pool has the address 10\.99\.0\.1/],
    [() => client.leases('10.99.0.0/24'), /There is no pool "10\.99\.0\.0\/24"/],
  ];
  for (const [ask, says] of refusals)
    t.match(await ask().catch((error: unknown) => (error as CommandError).message), says);
});

t.test('leaks are found, and released by the report: those that still are leaks', async (t) => {
  const list: EngineNetwork[] = [];
  const double = await standaloneDouble({
    engine: { networks: () => Promise.resolve(list) },
  });
  t.teardown(() => double.close());
  const { client, ipam } = double;
  const { id } = await client.createNetwork(WANTED);
  t.match(await client.checkLeases(), { healthy: true, findings: [], notes: [] });
  const stray = { poolId: ID, address: ip('10.88.0.5') };
  await ipam.requestAddress(ID, { address: stray.address, gateway: false, serial: false, name: 'gone' });
  await ipam.requestAddress(ID, { address: ip('10.88.0.6'), gateway: false, serial: false });
  const lost = await ipam.requestPool({
    space: 'cnm-local',
    pool: prefix('10.89.0.0/24'),
    v6: false,
    options: {},
    owner: 'ab'.repeat(32),
  });
  const report = await client.checkLeases();
  t.equal(report.healthy, false);
  t.match(report.findings, [
    { kind: 'leak', ...stray, name: 'gone' },
    { kind: 'leak', address: '10.88.0.6' },
    { kind: 'leak', poolId: lost.poolId },
  ]);
  t.equal(ipam.pools().length, 2, 'a check changes nothing');

  // Given back and given again since.
  await ipam.releaseAddress(ID, stray.address);
  await new Promise((done) => setTimeout(done, 2));
  await ipam.requestAddress(ID, { address: stray.address, gateway: false, serial: false });
  const made = { kind: 'overlap', poolId: ID, what: 'made up' } as const;
  const { released, kept } = await client.releaseLeases([...report.findings, made]);
  t.same(
    released.map(({ poolId, address }) => address ?? poolId),
    ['10.88.0.6', lost.poolId],
  );
  t.match(kept, [{ finding: stray, why: 'it is no leak any more' }, { why: /no leak but: overlap/ }]);
  t.same(
    ipam.pools().flatMap(({ leases }) => leases.map(({ address }) => address)),
    ['10.88.0.1', '10.88.0.5', '10.88.0.9'],
  );
  await client.deleteNetwork(id);
});

t.test("what Docker has forgotten cannot be told when it doesn't answer", async (t) => {
  const double = await standaloneDouble({
    engine: { networks: () => Promise.resolve(undefined) },
  });
  t.teardown(() => double.close());
  const { client, ipam } = double;
  await ipam.requestPool({ space: 'cnm-local', v6: false, options: {} });
  t.match(await client.checkLeases(), { healthy: true, notes: [/Docker did not answer/] });
});

t.test('hostile reports', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  const { raw } = double;
  for (const body of ['', '{}', '{"findings":7}', '{"findings":[{}]}', '{"findings":[{"kind":"leak"}]}']) {
    t.match(await raw('POST', '/v1/ipam/release', body), { status: 400, text: /request-invalid/ }, body);
  }
  const bad = JSON.stringify({ findings: [{ kind: 'leak', poolId: 'x', address: '10.0', what: '' }] });
  t.match(await raw('POST', '/v1/ipam/release', bad), { status: 400, text: /must be an IP address/ });
});

t.test('figures for Prometheus', async (t) => {
  const double = await standaloneDouble();
  t.teardown(() => double.close());
  const { client, raw } = double;
  await client.createNetwork(WANTED);
  const { status, text } = await raw('GET', '/metrics');
  t.equal(status, 200);
  t.match(text, `cnm_ipam_addresses{pool_id="${ID}",space="cnm-local",state="used"} 2\n`);
  t.match(text, `state="free"} 9\n`);
  t.match(text, 'cnm_ipam_pools{space="cnm-local"} 1\n');
});

t.test('a host that could not be forgotten altogether can be forgotten again', async (t) => {
  const holds = new Set(['addresses', 'networks']);
  let isReachable = false;
  const ipam = {
    cluster: {
      ...{ name: 'etcd', reachable: true, trouble: '' },
      get hosts() {
        return holds.has('addresses') ? [{ id: 'h2', state: 'away', pools: 1 }] : [];
      },
      forget() {
        if (!holds.delete('addresses')) throw new CnmError('request-invalid', 'No host "h2"');
        return Promise.resolve();
      },
    },
  } as unknown as Ipam;
  const cnm = {
    forgetHost() {
      if (!isReachable) throw new CnmError('cluster-unreachable', 'Not now');
      return Promise.resolve(holds.delete('networks'));
    },
  } as unknown as Cnm;
  const book = new AddressBook({ cnm, ipam } as AddressBookOptions);
  await t.rejects(book.forgetHost('h2'), { code: 'cluster-unreachable' });
  isReachable = true;
  await book.forgetHost('h2');
  t.same([...holds], []);
  holds.add('networks');
  await book.forgetHost('h3');
  t.same([...holds], [], 'one that never had an address has networks all the same');
  await t.rejects(book.forgetHost('h3'), { code: 'request-invalid' });
});
