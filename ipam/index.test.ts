import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import t from 'tap';
import type { Test } from 'tap';
import { ip, ipValue } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import { addressOf, contains, covers, firstOf, lengthOf, prefix } from '../address/prefix.ts';
import type { Prefix } from '../address/prefix.ts';
import type { CnmError, ErrorCode } from '../cnm/errors.ts';
import { memoryStore } from '../store/memory.ts';
import { StoreError } from '../store/store.ts';
import type { Store } from '../store/store.ts';
import { createIpam } from './index.ts';
import type { IpamOptions } from './index.ts';
import type { AddressRequest, Ipam, PoolRequest } from './ipam.ts';

const DYNAMIC: PoolRequest = { space: 'cnm-local', v6: false, options: {} };
const ANY: AddressRequest = { gateway: false, serial: false };

function ofPool(pool: string, subPool?: string): PoolRequest {
  return { ...DYNAMIC, pool: prefix(pool), ...(subPool !== undefined && { subPool: prefix(subPool) }) };
}

async function ipamWith(pool: string, subPool?: string, options?: Partial<IpamOptions>) {
  const ipam = await createIpam({ store: memoryStore(), ...options });
  const { poolId } = await ipam.requestPool(ofPool(pool, subPool));
  return { ipam, poolId };
}

async function refused(
  t: Test,
  attempt: Promise<unknown>,
  code: ErrorCode,
  ...words: readonly string[]
): Promise<void> {
  const error = await attempt.then(
    () => undefined,
    (reason: unknown) => reason as CnmError,
  );
  t.equal(error?.code, code, error?.message ?? 'was not refused');
  for (const word of words) t.match(error?.message, word);
}

function fails(pending: Promise<unknown>): Promise<ErrorCode | undefined> {
  return pending.then(
    () => undefined,
    (error: unknown) => (error as CnmError).code,
  );
}

t.test(
  'I07: a /24 gives 253 addresses beside the gateway, lowest first, and the one that was released',
  async (t) => {
    const { ipam, poolId } = await ipamWith('192.168.50.0/24');
    t.equal(await ipam.requestAddress(poolId, { ...ANY, gateway: true }), '192.168.50.1/24');
    for (let n = 2; n <= 254; n++) t.equal(await ipam.requestAddress(poolId, ANY), `192.168.50.${n}/24`);
    await refused(t, ipam.requestAddress(poolId, ANY), 'pool-exhausted', '192.168.50.0/24', 'IPv4');
    await ipam.releaseAddress(poolId, ip('192.168.50.77'));
    t.equal(await ipam.requestAddress(poolId, ANY), '192.168.50.77/24');
  },
);

t.test('I08, I09, I11: a range limits what is chosen, not what is named', async (t) => {
  const { ipam, poolId } = await ipamWith('172.28.0.0/16', '172.28.30.0/24');
  t.equal(poolId, 'cnm-local/172.28.0.0/16/172.28.30.0/24');
  t.equal(
    await ipam.requestAddress(poolId, { ...ANY, address: ip('172.28.0.1'), gateway: true }),
    '172.28.0.1/16',
  );
  t.equal(await ipam.requestAddress(poolId, { ...ANY, address: ip('172.28.30.5') }), '172.28.30.5/16');
  const given: Prefix[] = [];
  for (let n = 0; n < 255; n++) given.push(await ipam.requestAddress(poolId, ANY));
  t.ok(
    given.every(
      (address) => contains(prefix('172.28.30.0/24'), addressOf(address)) && lengthOf(address) === 16,
    ),
  );
  t.equal(new Set(given).size, 255);
  t.notOk(given.includes(prefix('172.28.30.5/16')), 'an auxiliary address is never given');
  await refused(t, ipam.requestAddress(poolId, ANY), 'pool-exhausted', '172.28.30.0/24');
  t.equal(await ipam.requestAddress(poolId, { ...ANY, address: ip('172.28.99.1') }), '172.28.99.1/16');
});

t.test('I10: explicit addresses that are refused, each with the address in its words', async (t) => {
  const { ipam, poolId } = await ipamWith('10.1.0.0/24');
  await ipam.requestAddress(poolId, { ...ANY, gateway: true });
  await ipam.requestAddress(poolId, { ...ANY, address: ip('10.1.0.9'), name: 'web' });
  const rows: readonly (readonly [address: string, code: ErrorCode, word: string])[] = [
    ['10.1.0.1', 'address-taken', 'the gateway'],
    ['10.1.0.9', 'address-taken', 'web'],
    ['10.1.0.0', 'address-invalid', 'network address'],
    ['10.1.0.255', 'address-invalid', 'broadcast address'],
    ['10.1.1.1', 'address-invalid', 'not in 10.1.0.0/24'],
    ['fd00::1', 'address-invalid', 'not in 10.1.0.0/24'],
  ];
  const before = ipam.pools();
  for (const [address, code, word] of rows) {
    await refused(t, ipam.requestAddress(poolId, { ...ANY, address: ip(address) }), code, address, word);
  }
  t.same(ipam.pools(), before);
});

t.test('I12: the smallest pools, and IPv6', async (t) => {
  const rows: readonly (readonly [pool: string, addresses: readonly string[]])[] = [
    ['10.0.0.0/30', ['10.0.0.1/30', '10.0.0.2/30']],
    ['10.0.1.0/31', ['10.0.1.0/31', '10.0.1.1/31']],
    ['10.0.2.7/32', ['10.0.2.7/32']],
    ['fd00:1::/126', ['fd00:1::1/126', 'fd00:1::2/126', 'fd00:1::3/126']],
    ['fd00:2::/127', ['fd00:2::/127', 'fd00:2::1/127']],
    ['fd00:3::/128', ['fd00:3::/128']],
  ];
  for (const [pool, addresses] of rows) {
    const { ipam, poolId } = await ipamWith(pool);
    for (const address of addresses) t.equal(await ipam.requestAddress(poolId, ANY), address);
    await refused(t, ipam.requestAddress(poolId, ANY), 'pool-exhausted', pool);
  }
  const { ipam, poolId } = await ipamWith('2001:db8::/32');
  t.equal(
    await ipam.requestAddress(poolId, { ...ANY, address: ip('2001:db8:ffff:ffff:ffff:ffff:ffff:ffff') }),
    '2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/32',
  );
  t.equal(await ipam.requestAddress(poolId, ANY), '2001:db8::1/32');
  await refused(
    t,
    ipam.requestAddress(poolId, { ...ANY, address: ip('2001:db8::') }),
    'address-invalid',
    'anycast',
  );
});

t.test('the serial option goes on after the last one, and round', async (t) => {
  const { ipam, poolId } = await ipamWith('10.0.0.0/29');
  const next = async () => addressOf(await ipam.requestAddress(poolId, { ...ANY, serial: true }));
  t.same([await next(), await next(), await next()], ['10.0.0.1', '10.0.0.2', '10.0.0.3']);
  await ipam.releaseAddress(poolId, ip('10.0.0.2'));
  t.same(
    [await next(), await next(), await next(), await next()],
    ['10.0.0.4', '10.0.0.5', '10.0.0.6', '10.0.0.2'],
  );
  await refused(t, next(), 'pool-exhausted');
});

t.test(
  'I25: a freed address comes back last, over restarts too; a full pool gives what it has',
  async (t) => {
    const store = memoryStore();
    let time = 1_000_000;
    const now = () => time;
    let ipam = await createIpam({ store, now });
    const { poolId } = await ipam.requestPool(ofPool('10.0.0.0/29'));
    const next = async () => addressOf(await ipam.requestAddress(poolId, ANY));
    t.same([await next(), await next(), await next()], ['10.0.0.1', '10.0.0.2', '10.0.0.3']);
    for (const address of ['10.0.0.2', '10.0.0.1']) {
      await ipam.releaseAddress(poolId, ip(address));
      time += 1000;
    }
    t.same([await next(), await next()], ['10.0.0.4', '10.0.0.5']);
    ipam = await createIpam({ store, now });
    t.equal(ipam.pools()[0]?.usage.resting, 2);
    t.equal(await next(), '10.0.0.6');
    time += 58_000;
    t.equal(ipam.pools()[0]?.usage.resting, 1, 'a minute after it was freed it rests no longer');
    t.same([await next(), await next()], ['10.0.0.2', '10.0.0.1'], 'longest free first');
    await refused(t, next(), 'pool-exhausted');
    await ipam.releaseAddress(poolId, ip('10.0.0.5'));
    t.equal(await next(), '10.0.0.5');
  },
);

t.test('how long an address rests: the daemon says, or the pool', async (t) => {
  let time = 0;
  const ipam = await createIpam({ store: memoryStore(), now: () => time, rest: 5000 });
  const resting = async (options: Readonly<Record<string, string>>, pool: string) => {
    const { poolId } = await ipam.requestPool({ ...ofPool(pool), options });
    await ipam.releaseAddress(poolId, addressOf(await ipam.requestAddress(poolId, ANY)));
    return () => ipam.pools().find((view) => view.poolId === poolId)?.usage.resting;
  };
  const [plain, long, none] = [
    await resting({}, '10.0.0.0/24'),
    await resting({ rest: '100' }, '10.0.1.0/24'),
    await resting({ rest: '0' }, '10.0.2.0/24'),
  ];
  t.same([plain(), long(), none()], [1, 1, 0]);
  time = 5000;
  t.same([plain(), long(), none()], [0, 1, 0]);
  time = 100_000;
  t.same([plain(), long(), none()], [0, 0, 0]);
});

t.test('old memories go: of a large pool the last 4,096 addresses are remembered', async (t) => {
  let time = 0;
  const store = memoryStore();
  const ipam = await createIpam({ store, now: () => time });
  const { poolId } = await ipam.requestPool(ofPool('fd00::/64'));
  const churn = async (count: number) => {
    for (let i = 0; i < count; i++) {
      time++;
      await ipam.releaseAddress(poolId, addressOf(await ipam.requestAddress(poolId, ANY)));
    }
  };
  await churn(4200);
  t.equal(store.list('ipam/former/').length, 4200, 'none that still rests');
  time += 60_000;
  await churn(1);
  t.equal(store.list('ipam/former/').length, 4096);
  t.equal(await ipam.requestAddress(poolId, ANY), 'fd00::1/64', 'as never used');
});

t.test('sticky leases: a name gets its address back while it is free', async (t) => {
  const store = memoryStore();
  let ipam = await createIpam({ store });
  const { poolId } = await ipam.requestPool(ofPool('10.0.0.0/28'));
  const request = async (name?: string) =>
    addressOf(await ipam.requestAddress(poolId, { ...ANY, ...(name !== undefined && { name }) }));
  t.same([await request('a'), await request('b'), await request()], ['10.0.0.1', '10.0.0.2', '10.0.0.3']);
  for (const address of ['10.0.0.1', '10.0.0.2', '10.0.0.3']) await ipam.releaseAddress(poolId, ip(address));
  ipam = await createIpam({ store });
  t.equal(await request('b'), '10.0.0.2');
  t.equal(await request('b'), '10.0.0.4', 'a second one of that name has none to get back');
  await ipam.requestAddress(poolId, { ...ANY, address: ip('10.0.0.1'), name: 'thief' });
  t.equal(await request('a'), '10.0.0.5', 'it is not free');
  await ipam.releaseAddress(poolId, ip('10.0.0.1'));
  await ipam.releaseAddress(poolId, ip('10.0.0.5'));
  t.equal(await request('a'), '10.0.0.5', 'the last that it had');

  const other = await ipam.requestPool({ ...ofPool('10.1.0.0/28'), options: { sticky: 'false' } });
  const first = addressOf(await ipam.requestAddress(other.poolId, { ...ANY, name: 'a' }));
  await ipam.releaseAddress(other.poolId, first);
  t.not(addressOf(await ipam.requestAddress(other.poolId, { ...ANY, name: 'a' })), first);
});

t.test('reserved addresses are given to those who name them', async (t) => {
  const ipam = await createIpam({ store: memoryStore() });
  const options = { reserved: '10.0.0.0/29, 10.0.0.12' };
  const { poolId } = await ipam.requestPool({ ...ofPool('10.0.0.0/28'), options });
  t.same(ipam.pools()[0]?.usage, { choosable: 6n, reserved: 8n, used: 0, free: 6n, resting: 0 });
  const given = [];
  for (let i = 0; i < 6; i++) given.push(addressOf(await ipam.requestAddress(poolId, ANY)));
  const last = ['8', '9', '10', '11', '13', '14'];
  t.same(
    given,
    last.map((digit) => `10.0.0.${digit}`),
  );
  await refused(t, ipam.requestAddress(poolId, ANY), 'pool-exhausted', 'reserved');
  const named = { ...ANY, address: ip('10.0.0.3'), name: 'static' };
  t.equal(await ipam.requestAddress(poolId, named), '10.0.0.3/28');
  await ipam.releaseAddress(poolId, ip('10.0.0.3'));
  await refused(t, ipam.requestAddress(poolId, { ...ANY, name: 'static' }), 'pool-exhausted');
  const bad = { ...ofPool('10.9.0.0/24'), options: { resreved: '10.9.0.1' } };
  await refused(t, ipam.requestPool(bad), 'option-invalid', 'resreved', 'reserved');
  t.equal(ipam.pools().length, 1);
});

t.test('I01, I02, I04: pools in one space and in two', async (t) => {
  const ipam = await createIpam({ store: memoryStore() });
  const local = await ipam.requestPool({ ...ofPool('10.0.0.0/8'), owner: 'net1' });
  const global = await ipam.requestPool({ ...ofPool('10.0.0.0/8'), space: 'cnm-global' });
  t.same([local.poolId, global.poolId], ['cnm-local/10.0.0.0/8', 'cnm-global/10.0.0.0/8']);
  for (const pool of ['10.0.0.0/8', '10.128.0.0/9', '8.0.0.0/6']) {
    await refused(t, ipam.requestPool(ofPool(pool)), 'pool-overlap', pool, '10.0.0.0/8', 'net1');
  }
  await ipam.requestPool(ofPool('11.0.0.0/8'));
  const first = await ipam.requestPool(ofPool('172.30.0.0/16', '172.30.1.0/24'));
  const second = await ipam.requestPool(ofPool('172.30.0.0/16', '172.30.2.0/24'));
  t.not(first.poolId, second.poolId);
  await refused(
    t,
    ipam.requestPool(ofPool('172.30.0.0/16', '172.30.2.0/24')),
    'pool-overlap',
    '172.30.2.0/24',
  );
  await refused(t, ipam.requestPool(ofPool('172.30.0.0/16')), 'pool-overlap');
  t.equal(ipam.pools().find(({ poolId }) => poolId === first.poolId)?.users, 2);
  // One set of addresses: what one range has been given, the other cannot have.
  await ipam.requestAddress(first.poolId, { ...ANY, address: ip('172.30.2.0') });
  t.equal(await ipam.requestAddress(second.poolId, ANY), '172.30.2.1/16');
  await refused(
    t,
    ipam.requestAddress(second.poolId, { ...ANY, address: ip('172.30.2.0') }),
    'address-taken',
  );
});

t.test('pools that are refused', async (t) => {
  const ipam = await createIpam({ store: memoryStore() });
  const rows: readonly (readonly [request: PoolRequest, code: ErrorCode, word: string])[] = [
    [{ ...DYNAMIC, subPool: prefix('10.0.0.0/25') }, 'address-invalid', '10.0.0.0/25'],
    [ofPool('10.0.0.0/24', '10.0.1.0/25'), 'address-invalid', '10.0.1.0/25'],
    [ofPool('10.0.0.0/24', '10.0.0.0/23'), 'address-invalid', '10.0.0.0/23'],
    [ofPool('10.0.0.0/24', 'fd00::/120'), 'address-invalid', 'fd00::/120'],
    [ofPool('224.0.1.0/24'), 'address-invalid', 'multicast'],
    [ofPool('ff05::/64'), 'address-invalid', 'multicast'],
    [{ ...DYNAMIC, space: 'LocalDefault' }, 'request-invalid', 'cnm-local or cnm-global'],
  ];
  for (const [request, code, word] of rows) await refused(t, ipam.requestPool(request), code, word);
  t.same(ipam.pools(), []);
  const { pool, poolId } = await ipam.requestPool(ofPool('10.0.0.77/24', '10.0.0.0/24'));
  t.same(
    [pool, poolId],
    ['10.0.0.0/24', 'cnm-local/10.0.0.0/24'],
    'host bits cleared; a range of all is no range',
  );
});

t.test('I05, I06: pool ids that are wrong, unknown or released twice', async (t) => {
  const { ipam, poolId } = await ipamWith('10.0.0.0/24');
  for (const text of ['', '/24', '0.0.0.0/AB', 'cnm-local/10.0.0.1/24', 'x'.repeat(10_000)]) {
    await refused(t, ipam.releasePool(text), 'request-invalid', 'pool id');
    await refused(t, ipam.requestAddress(text, ANY), 'request-invalid', 'pool id');
    await refused(t, ipam.releaseAddress(text, ip('10.0.0.1')), 'request-invalid', 'pool id');
  }
  await refused(
    t,
    ipam.requestAddress('cnm-local/10.9.0.0/24', ANY),
    'pool-unknown',
    'cnm-local/10.9.0.0/24',
  );
  await ipam.releasePool('cnm-local/10.9.0.0/24');
  await ipam.releaseAddress('cnm-local/10.9.0.0/24', ip('10.9.0.1'));
  await ipam.releaseAddress(poolId, ip('10.0.0.9'));
  await ipam.releaseAddress(poolId, ip('99.0.0.9'));

  // Ranges of one pool: a late release by one takes nothing from the other.
  const one = await ipam.requestPool(ofPool('10.7.0.0/16', '10.7.1.0/24'));
  const two = await ipam.requestPool(ofPool('10.7.0.0/16', '10.7.2.0/24'));
  await ipam.requestAddress(one.poolId, { ...ANY, address: ip('10.7.5.5') });
  await ipam.releaseAddress(two.poolId, ip('10.7.5.5'));
  await refused(t, ipam.requestAddress(two.poolId, { ...ANY, address: ip('10.7.5.5') }), 'address-taken');
  await Promise.all([ipam.releasePool(one.poolId), ipam.releasePool(one.poolId)]);
  await ipam.releasePool(one.poolId);
  t.equal(
    await ipam.requestAddress(two.poolId, { ...ANY, address: ip('10.7.5.5') }),
    '10.7.5.5/16',
    'gone with its range',
  );
  t.same(
    ipam.pools().map((view) => view.poolId),
    [poolId, two.poolId],
  );
  await refused(t, ipam.requestAddress(one.poolId, ANY), 'pool-unknown');
});

t.test('I03: chosen pools: clear of the host, of both spaces and of each other', async (t) => {
  let host = ['172.17.0.1/16', '172.18.0.0/31', '0.0.0.0/0', '0.0.0.0/1', 'fe80::/64'].map(prefix);
  const ipam = await createIpam({ store: memoryStore(), hostPrefixes: () => Promise.resolve(host) });
  t.equal((await ipam.requestPool(DYNAMIC)).pool, '172.18.1.0/24');
  await ipam.requestPool({ ...ofPool('172.18.2.0/23'), space: 'cnm-global' });
  t.equal((await ipam.requestPool(DYNAMIC)).pool, '172.18.4.0/24');
  t.equal((await ipam.requestPool({ ...DYNAMIC, space: 'cnm-global' })).pool, '10.0.0.0/24');
  t.equal(
    (await ipam.requestPool(ofPool('0.0.0.0/26'))).pool,
    '172.18.0.64/26',
    'only the length is asked for',
  );
  host = [prefix('172.16.0.0/12')];
  t.equal((await ipam.requestPool(DYNAMIC)).pool, '192.168.0.0/24', 'asked for each time');
  const pools = await Promise.all(Array.from({ length: 20 }, () => ipam.requestPool(DYNAMIC)));
  t.equal(new Set(pools.map(({ pool }) => pool)).size, 20, 'side by side too');

  const few = await createIpam({
    store: memoryStore(),
    defaultPools: [{ base: prefix('10.5.0.0/23'), size: 24 }],
  });
  // Docker holds on to a pool that it does not like and asks again until an error comes.
  t.equal((await few.requestPool(DYNAMIC)).pool, '10.5.0.0/24');
  t.equal((await few.requestPool(DYNAMIC)).pool, '10.5.1.0/24');
  await refused(t, few.requestPool(DYNAMIC), 'pool-exhausted', '10.5.0.0/23', 'IPv4');
  await few.releasePool('cnm-local/10.5.0.0/24');
  t.equal((await few.requestPool(DYNAMIC)).pool, '10.5.0.0/24');
  await t.rejects(
    createIpam({ store: memoryStore(), defaultPools: [{ base: prefix('10.0.0.0/24'), size: 16 }] }),
    RangeError,
  );
});

t.test('V07: chosen IPv6 pools: /64s of one random unique local /48 that is kept', async (t) => {
  const store = memoryStore();
  const first = await createIpam({ store });
  const a = (await first.requestPool({ ...DYNAMIC, v6: true })).pool;
  const b = (await first.requestPool({ ...DYNAMIC, v6: true })).pool;
  t.match(a, /^fd[0-9a-f:]+::\/64$/);
  t.equal(ipValue(firstOf(b)) - ipValue(firstOf(a)), 1n << 64n);
  const ula = prefix(`${firstOf(a)}/48`);
  const second = await createIpam({ store });
  const c = (await second.requestPool({ ...DYNAMIC, v6: true })).pool;
  t.ok(covers(ula, c));
  t.notOk([a, b].includes(c));
  const other = await createIpam({ store: memoryStore() });
  t.notOk(
    covers(ula, (await other.requestPool({ ...DYNAMIC, v6: true })).pool),
    'another host has another one',
  );
});

t.test('a restart finds all of it as it was', async (t) => {
  const store = memoryStore();
  const now = () => 1_000_000;
  const ipam = await createIpam({ store, now });
  const { poolId } = await ipam.requestPool({ ...ofPool('10.0.0.0/24'), owner: 'net1' });
  await ipam.requestAddress(poolId, { ...ANY, gateway: true });
  await ipam.requestAddress(poolId, { ...ANY, name: 'web' });
  const gone = addressOf(await ipam.requestAddress(poolId, ANY));
  const v6 = await ipam.requestPool(ofPool('fd00::/64', 'fd00::1:0/112'));
  await ipam.requestAddress(v6.poolId, ANY);
  await ipam.releaseAddress(poolId, gone);
  const dropped = await ipam.requestPool(ofPool('10.3.0.0/24'));
  await ipam.requestAddress(dropped.poolId, ANY);
  await ipam.releasePool(dropped.poolId);

  const again = await createIpam({ store, now });
  t.same(again.pools(), ipam.pools());
  t.same(again.pools()[0], {
    poolId,
    space: 'cnm-local',
    pool: '10.0.0.0/24',
    owner: 'net1',
    users: 1,
    options: {},
    usage: { choosable: 254n, reserved: 0n, used: 2, free: 252n, resting: 1 },
    leases: [
      { address: '10.0.0.1', purpose: 'gateway', since: 1_000_000 },
      { address: '10.0.0.2', purpose: 'endpoint', name: 'web', since: 1_000_000 },
    ],
    formers: [{ address: gone, freed: 1_000_000, resting: true }],
  });
  t.equal(await again.requestAddress(poolId, ANY), '10.0.0.4/24', '.3 still rests');
  t.equal(await again.requestAddress(v6.poolId, ANY), 'fd00::1:1/64');
  for (const { poolId } of again.pools()) await again.releasePool(poolId);
  t.same(store.list('ipam/'), [], 'nothing stays');
});

t.test('records that lost their value or their pool still keep their addresses', async (t) => {
  const errors: object[] = [];
  const quiet = () => undefined;
  const log = { debug: quiet, info: quiet, warn: quiet, error: (fields: object) => void errors.push(fields) };
  const store = memoryStore({
    'ipam/pool/cnm-local/10.0.0.0/24': 'not a record',
    'ipam/lease/cnm-local/10.0.0.0/24/10.0.0.1': null,
    'ipam/lease/cnm-local/10.7.0.0/24/10.7.0.1': { purpose: 'gateway' },
    'ipam/lease/cnm-local/10.8.0.0/24/nonsense': {},
    'ipam/pool/nonsense': {},
  });
  const ipam = await createIpam({ store, log });
  t.equal(await ipam.requestAddress('cnm-local/10.0.0.0/24', ANY), '10.0.0.2/24');
  t.equal(await ipam.requestAddress('cnm-local/10.7.0.0/24', ANY), '10.7.0.2/24');
  t.equal(await fails(ipam.requestPool(ofPool('10.7.0.0/16'))), 'pool-overlap');
  t.ok(store.get('ipam/pool/cnm-local/10.7.0.0/24'), 'the pool is recorded again');
  t.same(errors, [{ key: 'ipam/pool/nonsense' }, { key: 'ipam/lease/cnm-local/10.8.0.0/24/nonsense' }]);
});

/** Fails every write while `broken`, after a turn of the event loop, as a full disk does. */
function fragile(): { store: Store; disk: { broken: boolean; writes: number } } {
  const inner = memoryStore();
  const disk = { broken: false, writes: 0 };
  const store: Store = {
    notices: [],
    get: (key) => inner.get(key),
    list: (start) => inner.list(start),
    close: () => inner.close(),
    async write(changes) {
      disk.writes++;
      await setImmediate();
      if (disk.broken) throw new StoreError('write', 'ENOSPC', 'disk full');
      await inner.write(changes);
    },
  };
  return { store, disk };
}

t.test('what could not be made durable was not done', async (t) => {
  const { store, disk } = fragile();
  const ipam = await createIpam({ store });
  const { poolId } = await ipam.requestPool(ofPool('10.0.0.0/24'));
  const held = addressOf(await ipam.requestAddress(poolId, ANY));
  const before = ipam.pools();
  disk.broken = true;
  await refused(t, ipam.requestAddress(poolId, ANY), 'store', 'ENOSPC');
  await refused(t, ipam.requestPool(DYNAMIC), 'store', 'ENOSPC');
  await refused(t, ipam.releaseAddress(poolId, held), 'store', 'ENOSPC');
  await refused(t, ipam.releasePool(poolId), 'store', 'ENOSPC');
  await refused(t, ipam.requestPool({ ...DYNAMIC, v6: true }), 'store', 'ENOSPC');
  t.same(ipam.pools(), before);
  disk.broken = false;
  t.equal(await ipam.requestAddress(poolId, ANY), '10.0.0.2/24', 'not one further');
  await ipam.releaseAddress(poolId, held);
  disk.broken = true;
  await refused(t, ipam.requestAddress(poolId, { ...ANY, address: held }), 'store', 'ENOSPC');
  disk.broken = false;
  t.same(
    ipam.pools()[0]?.formers.map(({ address }) => address),
    [held],
    'it rests as before',
  );
  t.equal(await ipam.requestAddress(poolId, { ...ANY, address: held }), '10.0.0.1/24');
  await ipam.releasePool(poolId);
  const { pool } = await ipam.requestPool({ ...DYNAMIC, v6: true });
  t.equal((await createIpam({ store })).pools()[0]?.pool, pool);
});

t.test('an address is free again only once its release is durable', async (t) => {
  const { store, disk } = fragile();
  const ipam = await createIpam({ store });
  const { poolId } = await ipam.requestPool(ofPool('10.0.0.0/31'));
  const first = addressOf(await ipam.requestAddress(poolId, ANY));
  await ipam.requestAddress(poolId, ANY);
  const writes = disk.writes;
  const releases = [ipam.releaseAddress(poolId, first), ipam.releaseAddress(poolId, first)];
  t.equal(await fails(ipam.requestAddress(poolId, { ...ANY, address: first })), 'address-taken');
  await Promise.all(releases);
  t.equal(disk.writes, writes + 1, 'two releases of one lease are one');
  t.equal(await ipam.requestAddress(poolId, ANY), '10.0.0.0/31');
  const release = ipam.releasePool(poolId);
  t.equal(
    await fails(ipam.requestAddress(poolId, ANY)),
    'pool-unknown',
    'nothing is given out of a pool that goes',
  );
  t.equal(await fails(ipam.requestPool(ofPool('10.0.0.0/31'))), 'pool-overlap');
  await release;
  await ipam.requestPool(ofPool('10.0.0.0/31'));
});

t.test('I14: eight at once fill pools of several sizes; all usable once, the rest refused', async (t) => {
  for (const [pool, usable] of [
    ['10.0.0.0/29', 6],
    ['10.0.0.0/25', 126],
    ['10.0.0.0/24', 254],
    ['10.0.0.0/21', 2046],
  ] as const) {
    const { ipam, poolId } = await ipamWith(pool);
    const given: Ip[] = [];
    let refusals = 0;
    let wanted = usable + 10;
    const worker = async () => {
      while (wanted-- > 0) {
        try {
          given.push(addressOf(await ipam.requestAddress(poolId, ANY)));
        } catch (error) {
          if ((error as CnmError).code === 'pool-exhausted') refusals++;
        }
      }
    };
    await Promise.all(Array.from({ length: 8 }, worker));
    t.same([new Set(given).size, given.length, refusals], [usable, usable, 10], pool);
    const odd = given.filter((_, i) => i % 2 === 1);
    await Promise.all(odd.map((address) => ipam.releaseAddress(poolId, address)));
    const again = await Promise.all(odd.map(() => ipam.requestAddress(poolId, ANY)));
    t.same(new Set(again.map(addressOf)), new Set(odd), 'those and no others');
    for (const address of odd.slice(0, 20)) {
      await ipam.releaseAddress(poolId, address);
      t.equal(await ipam.requestAddress(poolId, ANY), `${address}/${lengthOf(prefix(pool))}`);
    }
  }
});

t.test('I16: 2^14 subnets of a /10, requested side by side, each once', async (t) => {
  const ipam = await createIpam({
    store: memoryStore(),
    defaultPools: [{ base: prefix('10.0.0.0/10'), size: 24 }],
  });
  const pools = await Promise.all(Array.from({ length: 1 << 14 }, () => ipam.requestPool(DYNAMIC)));
  t.equal(new Set(pools.map(({ pool }) => pool)).size, 1 << 14);
  t.ok(pools.every(({ pool }) => covers(prefix('10.0.0.0/10'), pool) && lengthOf(pool) === 24));
  await refused(t, ipam.requestPool(DYNAMIC), 'pool-exhausted');
});

type Operation =
  | {
      readonly do: 'request';
      readonly range: 0 | 1;
      readonly at: number | undefined;
      readonly serial: boolean;
    }
  | { readonly do: 'release'; readonly range: 0 | 1; readonly at: number }
  | { readonly do: 'restart' }
  | { readonly do: 'break' };

/** Of a pool with sixteen addresses, so that everything collides. */
const RANGES = [prefix('fd00::10/125'), prefix('fd00::10/124')] as const;

async function apply(
  ipam: Ipam,
  poolIds: readonly string[],
  op: Operation,
  held: Map<Ip, number>,
): Promise<void> {
  if (op.do === 'restart' || op.do === 'break') return;
  const poolId = poolIds[op.range] ?? '';
  const address = op.at === undefined ? undefined : ip(`fd00::${(op.at + 16).toString(16)}`);
  if (op.do === 'release') {
    // Released by its owner alone, so that the model need not know in which order two of them arrive.
    if (address === undefined || held.get(address) !== op.range) return;
    held.delete(address);
    if ((await fails(ipam.releaseAddress(poolId, address))) !== undefined) held.set(address, op.range);
    return;
  }
  const request = { ...ANY, serial: op.serial, ...(address !== undefined && { address }) };
  const answer = await ipam
    .requestAddress(poolId, request)
    .catch((error: unknown) => (error as CnmError).code);
  if (!answer.includes('/')) return;
  const given = addressOf(answer as Prefix);
  if (held.has(given)) throw new Error(`${given} was given twice`);
  if (address !== undefined && given !== address) throw new Error(`${given} was given for ${address}`);
  if (address === undefined && !contains(RANGES[op.range], given)) throw new Error(`${given} is outside`);
  held.set(given, op.range);
}

t.test(
  'any operations side by side: nothing given twice, outside, or lost, whatever the disk does',
  async () => {
    const range = fc.constantFrom(0 as const, 1 as const);
    const at = fc.integer({ min: -2, max: 18 });
    const operation = fc.oneof(
      {
        weight: 6,
        arbitrary: fc.record({
          do: fc.constant('request' as const),
          range,
          at: fc.option(at, { nil: undefined }),
          serial: fc.boolean(),
        }),
      },
      { weight: 6, arbitrary: fc.record({ do: fc.constant('release' as const), range, at }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('restart' as const, 'break' as const) }) },
    );
    const batches = fc.array(fc.array(operation, { minLength: 1, maxLength: 12 }), { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(batches, async (batches) => {
        const { store, disk } = fragile();
        let ipam = await createIpam({ store });
        const poolIds: string[] = [];
        for (const subPool of RANGES)
          poolIds.push((await ipam.requestPool(ofPool('fd00::/64', subPool))).poolId);
        const held = new Map<Ip, number>();
        for (const batch of batches) {
          if (batch.some((op) => op.do === 'restart')) ipam = await createIpam({ store });
          disk.broken = batch.some((op) => op.do === 'break');
          await Promise.all(batch.map((op) => apply(ipam, poolIds, op, held)));
          const shown = ipam.pools().flatMap(({ leases }) => leases.map(({ address }) => address));
          const kept = store.list('ipam/lease/').map(([key]) => key.slice(key.lastIndexOf('/') + 1));
          const expected = JSON.stringify([...held.keys()].sort());
          if (JSON.stringify(shown.sort()) !== expected)
            throw new Error(`shows ${shown.join(' ')} for ${expected}`);
          if (JSON.stringify(kept.sort()) !== expected)
            throw new Error(`keeps ${kept.join(' ')} for ${expected}`);
        }
        return true;
      }),
      { numRuns: 150 },
    );
  },
);

// That the last ones take no longer than the first is measured: bench/ipam.ts.
t.test('I24: a /16 is filled, many at a time', async (t) => {
  const { ipam, poolId } = await ipamWith('10.0.0.0/16');
  for (let i = 0; i < 16; i++)
    await Promise.all(Array.from({ length: 4095 }, () => ipam.requestAddress(poolId, ANY)));
  const given = ipam.pools()[0]?.leases.map(({ address }) => address) ?? [];
  t.equal(new Set(given).size, 16 * 4095);
});
