/** Several hosts on one cluster store in memory: what they give, and what becomes of it. */
import { setTimeout } from 'node:timers/promises';
import t from 'tap';
import { ip } from '../../address/ip.ts';
import type { Ip } from '../../address/ip.ts';
import { prefix } from '../../address/prefix.ts';
import type { HostDouble } from '../../tests/cluster-double.ts';
import { hosts } from '../../tests/cluster-double.ts';
import type { FakeCluster } from '../../store/cluster-fake.ts';

const SUBNET = '10.5.0.0/24';
const ID = 'cnm-global/10.5.0.0/24';

async function until(what: string, holds: () => boolean): Promise<void> {
  for (let n = 0; n < 6000; n++) {
    if (holds()) return;
    await setTimeout(10);
  }
  throw new Error(`waited 60 s for ${what}`);
}

function distinct(addresses: readonly Ip[]): boolean {
  return new Set(addresses).size === addresses.length;
}

function nothingLeft(server: FakeCluster): readonly string[] {
  return server
    .entries('ipam/')
    .map(({ key }) => key)
    .filter((key) => !key.startsWith('ipam/host/') && key !== 'ipam/added' && key !== 'ipam/ula');
}

t.test('hosts that name the same pool share it: every address once, to the last', async (t) => {
  const { server, hosts: all } = await hosts(3);
  await Promise.all(all.map((host) => host.pool(SUBNET)));
  const each = (count: number, host: HostDouble) => Array.from({ length: count }, () => host.address(ID));
  const given = await Promise.all(all.flatMap((host, n) => each(n === 0 ? 84 : 85, host)));
  t.ok(distinct(given));
  t.equal(given.length, 254);
  for (const host of all)
    await t.rejects(host.address(ID), { code: 'pool-exhausted', message: /10\.5\.0\.0\/24/ });
  for (const host of all) await host.ipam.releasePool(ID);
  await until('the cluster to forget the pool', () => nothingLeft(server).length === 0);
  for (const host of all) await host.stop();
  t.same(server.entries('ipam/host/'), []);
});

t.test('one host gets all that others do not use', async (t) => {
  const { hosts: all } = await hosts(2);
  const [a, b] = all as [HostDouble, HostDouble];
  await Promise.all([a.pool(SUBNET), b.pool(SUBNET)]);
  const first = await b.address(ID);
  const given = [first];
  for (let n = 0; n < 253; n++) given.push(await a.address(ID));
  t.ok(distinct(given));
  await t.rejects(a.address(ID), { code: 'pool-exhausted' });
  await b.ipam.releaseAddress(ID, first);
  t.equal(await a.address(ID), first, 'asked for, and given back');
  for (const host of all) await host.stop();
});

t.test('a named address is checked in the whole cluster, wherever it is', async (t) => {
  const { hosts: all } = await hosts(2);
  const [a, b] = all as [HostDouble, HostDouble];
  await Promise.all([a.pool(SUBNET), b.pool(SUBNET)]);
  const used = await b.address(ID);
  const far = ip('10.5.0.200');
  t.equal(await a.address(ID, { address: far }), far);
  await t.rejects(b.address(ID, { address: far }), {
    code: 'address-taken',
    message: /10\.5\.0\.200.*host0/,
  });
  await t.rejects(a.address(ID, { address: used }), { code: 'address-taken', message: /host1/ });
  // b holds the next ones ahead of need.
  const ahead = ip('10.5.0.4');
  t.equal(await a.address(ID, { address: ahead }), ahead);
  await t.rejects(a.address(ID, { address: ahead }), { code: 'address-taken' });
  await a.ipam.releaseAddress(ID, far);
  t.equal(await b.address(ID, { address: far }), far, 'free again, though it rests there');
  const later = await Promise.all(Array.from({ length: 20 }, () => b.address(ID)));
  t.notOk(later.includes(ahead));
  for (const host of all) await host.stop();
});

t.test('the gateway is the same for all, and stays while one has it', async (t) => {
  const { server, hosts: all } = await hosts(3);
  const [a, b, c] = all as [HostDouble, HostDouble, HostDouble];
  await Promise.all(all.map((host) => host.pool(SUBNET)));
  const gateway = { gateway: true };
  const given = await Promise.all(all.map((host) => host.address(ID, gateway)));
  t.same([...new Set(given)], ['10.5.0.1']);
  await t.rejects(a.address(ID, { address: ip('10.5.0.1') }), { code: 'address-taken' });
  await a.ipam.releaseAddress(ID, ip('10.5.0.1'));
  await b.ipam.releasePool(ID);
  await until(
    'two to go',
    () => JSON.stringify(server.entries('ipam/block/')).split('"purpose"').length === 2,
  );
  await t.rejects(a.address(ID, { address: ip('10.5.0.1') }), { code: 'address-taken', message: /gateway/ });
  t.equal(await b.pool(SUBNET), ID);
  t.equal(await b.address(ID, { ...gateway, address: ip('10.5.0.1') }), '10.5.0.1');
  t.equal(
    await b.address(ID, { ...gateway, address: ip('10.5.0.254') }).catch(String),
    '10.5.0.254',
    'another one',
  );
  await c.ipam.releasePool(ID);
  for (const host of all) await host.stop();
});

t.test('pools that overlap are refused, by name of the host that has the other', async (t) => {
  const { hosts: all } = await hosts(2);
  const [a, b] = all as [HostDouble, HostDouble];
  await a.pool(SUBNET);
  await t.rejects(b.pool('10.5.0.0/16'), { code: 'pool-overlap', message: /10\.5\.0\.0\/24.*host0/ });
  await t.rejects(b.pool('10.5.0.128/25'), { code: 'pool-overlap' });
  const both = await Promise.allSettled([a.pool('10.6.0.0/16'), b.pool('10.6.1.0/24')]);
  t.same(both.map(({ status }) => status).sort(), ['fulfilled', 'rejected'], 'at once: one of them');
  const chosen = await Promise.all(
    all.flatMap((host) =>
      Array.from({ length: 5 }, async () => {
        const request = { space: 'cnm-global', v6: false, options: {} };
        return (await host.ipam.requestPool(request)).pool;
      }),
    ),
  );
  t.equal(new Set(chosen).size, 10, 'chosen ones differ');
  const six = await Promise.all(
    all.map((host) => host.ipam.requestPool({ space: 'cnm-global', v6: true, options: {} })),
  );
  // Three groups of digits, of which the first ones may be missing.
  const parts = six.map(({ pool }) => pool.split(':').slice(0, 3).join(':'));
  t.equal(new Set(parts).size, 1, 'out of the same /48');
  t.equal(new Set(six.map(({ pool }) => pool)).size, 2);
  for (const host of all) await host.stop();
});

t.test('cut off, a host gives what it holds, then refuses, and goes on when it is back', async (t) => {
  const { server, hosts: all } = await hosts(2);
  const [a, b] = all as [HostDouble, HostDouble];
  await Promise.all([a.pool(SUBNET), b.pool(SUBNET)]);
  const given = [await a.address(ID), await b.address(ID)];
  a.client.cut();
  server.advance(60_000);
  t.equal(server.entries('ipam/host/').length, 1, 'it counts as away');
  const refused = await (async () => {
    for (;;) {
      try {
        given.push(await a.address(ID));
      } catch (error) {
        return error;
      }
    }
  })();
  t.match(refused, {
    code: 'cluster-unreachable',
    message: /10\.5\.0\.0\/24.*fake:\/\/for-host0 does not answer/,
  });
  t.ok(given.length >= 8, `${given.length} were given`);
  await t.rejects(a.pool('10.9.0.0/24'), { code: 'cluster-unreachable' });
  await t.rejects(a.address(ID, { address: ip('10.5.0.222') }), { code: 'cluster-unreachable' });
  await a.ipam.releaseAddress(ID, given[2] ?? ip('0.0.0.0'));
  t.equal(await a.address(ID), given[2], 'what is freed here can be given again');
  for (;;) {
    const next = await b.address(ID).catch(() => undefined);
    if (next === undefined) break;
    given.push(next);
  }
  t.ok(distinct(given), 'others do not touch what it holds');
  await t.rejects(b.address(ID), { code: 'pool-exhausted' });
  a.client.heal();
  await until('it to be back', () => server.entries('ipam/host/').length === 2);
  const [some] = b.leases(ID);
  if (some !== undefined) await b.ipam.releaseAddress(ID, some);
  await until('it to get one', () => b.ipam.cluster?.reachable === true);
  t.equal(await a.address(ID), some);
  for (const host of all) await host.stop();
});

t.test(
  'killed and started again, a host has what it had, and gives nothing before it has asked',
  async (t) => {
    const { server, hosts: all } = await hosts(2);
    const [a, b] = all as [HostDouble, HostDouble];
    await Promise.all([a.pool(SUBNET), b.pool(SUBNET)]);
    const given = [await a.address(ID), await a.address(ID, { name: 'web' }), await b.address(ID)];
    await a.crash();
    await a.start();
    t.same(a.leases(ID), given.slice(0, 2));
    given.push(await a.address(ID));
    t.ok(distinct(given));
    await a.crash();
    const starting = a.start();
    a.client.cut();
    await starting;
    await t.rejects(a.address(ID), { code: 'cluster-unreachable' });
    await a.ipam.releaseAddress(ID, given[0] ?? ip('0.0.0.0'));
    a.client.heal();
    await until('it to give again', () => a.ipam.cluster?.trouble === '');
    t.ok(await a.address(ID));
    await a.ipam.releasePool(ID);
    await a.crash();
    await a.start();
    await b.ipam.releasePool(ID);
    await until('nothing to be left', () => nothingLeft(server).length === 0);
    for (const host of all) await host.stop();
  },
);

t.test('what a host that is gone held is kept, until somebody says that it is gone for good', async (t) => {
  const { server, hosts: all } = await hosts(2);
  const [a, b] = all as [HostDouble, HostDouble];
  await Promise.all([a.pool('10.5.0.0/28'), b.pool('10.5.0.0/28')]);
  const small = 'cnm-global/10.5.0.0/28';
  const kept = [await a.address(small), await a.address(small)];
  await a.crash();
  server.advance(60_000);
  const given: Ip[] = [];
  for (;;) {
    const next = await b.address(small).catch((error: unknown) => error as Error);
    if (next instanceof Error) {
      t.match(next, { code: 'pool-exhausted', message: /\(away\).*cnm ipam release --host/ });
      break;
    }
    given.push(next);
  }
  t.ok(distinct([...kept, ...given]));
  await t.rejects(b.address(small, { address: kept[0] ?? ip('0.0.0.0') }), {
    code: 'address-taken',
    message: /away/,
  });
  const gone = b.ipam.cluster?.hosts.find(({ state }) => state === 'away');
  t.match(gone, { pools: 1 });
  const self = b.ipam.cluster?.hosts.find(({ state }) => state === 'self');
  await t.rejects(b.ipam.cluster?.forget(self?.id ?? '') ?? Promise.resolve(), { code: 'request-invalid' });
  await t.rejects(b.ipam.cluster?.forget('nobody') ?? Promise.resolve(), { code: 'request-invalid' });
  await b.ipam.cluster?.forget(gone?.id ?? '');
  t.ok(kept.includes(await b.address(small)));
  t.notOk(b.ipam.cluster?.hosts.some(({ state }) => state === 'away'));
  // It was not gone after all: it says so, and never gives what is another one's.
  await a.start();
  await until('the conflict to be known', () => (a.ipam.pools()[0]?.shared?.conflicts.length ?? 0) > 0);
  const mine = a.leases(small);
  const theirs = b.leases(small);
  t.same(
    a.ipam.pools()[0]?.shared?.conflicts,
    mine.filter((address) => theirs.includes(address)),
  );
  for (const host of all) await host.stop();
});

t.test('a store that was set up anew learns from the hosts what is in use', async (t) => {
  const { server, hosts: all } = await hosts(2);
  const [a, b] = all as [HostDouble, HostDouble];
  await Promise.all([a.pool(SUBNET), b.pool(SUBNET)]);
  const given = await Promise.all([
    a.address(ID, { gateway: true }),
    a.address(ID),
    b.address(ID),
    b.address(ID),
  ]);
  const wipe = server.entries('ipam/').map(({ key }) => ({ delete: key }));
  server.transact([], wipe);
  server.compact();
  const known = (host: HostDouble) =>
    host.leases(ID).every((address) => host.ipam.pools()[0]?.shared?.holder(address)?.includes('this host'));
  const joined = () =>
    server.entries('ipam/pool/').flatMap(({ value }) => (value as { hosts: string[] }).hosts);
  await until('all to be told again', () => joined().length === 2 && known(a) && known(b));
  for (let n = 0; n < 30; n++) given.push(await a.address(ID), await b.address(ID));
  t.ok(distinct(given));
  for (const host of all) await host.stop();
});

t.test(
  'a host whose record somebody deletes while it is there is there again, and keeps what it holds',
  async (t) => {
    const { server, hosts: all } = await hosts(2);
    const [a, b] = all as [HostDouble, HostDouble];
    await Promise.all([a.pool(SUBNET), b.pool(SUBNET)]);
    const given = [await a.address(ID), await b.address(ID)];
    const before = server.entries('ipam/host/');
    server.transact(
      [],
      before.map(({ key }) => ({ delete: key })),
    );
    const now = () => server.entries('ipam/host/').map(({ key, value, lease }) => ({ key, value, lease }));
    await until('both to be there again', () => now().length === 2);
    t.same(
      now(),
      before.map(({ key, value, lease }) => ({ key, value, lease })),
    );
    given.push(await a.address(ID), await b.address(ID));
    t.ok(distinct(given));
    for (const host of all) await host.stop();
  },
);

t.test('two with the same identity: the second one stays out, and gives nothing', async (t) => {
  const { server, hosts: all } = await hosts(1);
  const [a] = all as [HostDouble];
  await a.pool(SUBNET);
  await until('it to be there', () => server.entries('ipam/host/').length === 1);
  // The machine was copied while it ran, and the copy started.
  const key = server.entries('ipam/host/')[0]?.key ?? '';
  await a.crash();
  server.transact([], [{ put: key, value: { name: 'the other', boot: 'other' } }]);
  await a.start();
  await until('it to say so', () => /the other/.test(a.ipam.cluster?.trouble ?? ''));
  await t.rejects(a.address(ID), {
    code: 'cluster-unreachable',
    message: /from another machine \(the other\)/,
  });
  await a.stop();
});

t.test('an IPv6 pool, ranges and reserved addresses', async (t) => {
  const { hosts: all } = await hosts(2);
  const [a, b] = all as [HostDouble, HostDouble];
  const six = 'fd00:5::/64';
  const id = await a.pool(six);
  await b.pool(six);
  const given = await Promise.all(Array.from({ length: 40 }, (_, n) => (n % 2 ? a : b).address(id)));
  t.ok(distinct(given));
  t.ok(given.every((one) => one.startsWith('fd00:5::')));
  const range = {
    space: 'cnm-global',
    pool: prefix(SUBNET),
    subPool: prefix('10.5.0.128/28'),
    v6: false,
    options: { reserved: '10.5.0.130-10.5.0.133' },
  };
  const { poolId } = await a.ipam.requestPool(range);
  await b.ipam.requestPool({ ...range, options: {} });
  const inRange: Ip[] = [];
  for (;;) {
    const next = await a.address(poolId).catch(() => undefined);
    if (next === undefined) break;
    inRange.push(next);
  }
  t.equal(inRange.length, 12);
  const rest = await Promise.all([1, 2, 3, 4].map(() => b.address(poolId)));
  t.same(rest.sort(), ['10.5.0.130', '10.5.0.131', '10.5.0.132', '10.5.0.133']);
  for (const host of all) await host.stop();
});

/** a is asked for what it does not use, and what it answers is under way for long. */
async function givingBackLate(): Promise<{ server: FakeCluster; a: HostDouble; b: HostDouble; given: Ip[] }> {
  const { server, hosts: all } = await hosts(2);
  const [a, b] = all as [HostDouble, HostDouble];
  const poolIds = await Promise.all([a.pool('10.5.0.0/28'), b.pool('10.5.0.0/28')]);
  const given = [await a.address(poolIds[0])];
  a.client.fate = (what) => (what === 'change' ? 'late' : 'answered');
  for (;;) {
    const next = await b.address(poolIds[1]).catch(() => undefined);
    if (next === undefined) return { server, a, b, given };
    given.push(next);
  }
}

/** All that is to be had on a host. */
async function drain(host: HostDouble): Promise<readonly Ip[]> {
  const found: Ip[] = [];
  for (;;) {
    const next = await host.address('cnm-global/10.5.0.0/28').catch(() => undefined);
    if (next === undefined) return found;
    found.push(next);
  }
}

t.test('what is on its way back may arrive at any time: it is not given until that is settled', async (t) => {
  const { server, a, b, given } = await givingBackLate();
  given.push(...(await drain(a)));
  server.deliverLate();
  given.push(...(await drain(b)));
  t.ok(distinct(given));
  a.client.fate = () => 'answered';
  await until('it to be settled', () => b.ipam.cluster?.reachable === true);
  given.push(...(await drain(a)), ...(await drain(b)));
  t.ok(distinct(given));
  t.equal(given.length, 14);
  await Promise.all([a.stop(), b.stop()]);
});

t.test('the same when the host was killed and started again meanwhile', async (t) => {
  const { server, a, b, given } = await givingBackLate();
  await a.crash();
  await a.start();
  given.push(...(await drain(a)));
  server.deliverLate();
  given.push(...(await drain(b)));
  given.push(...(await drain(a)), ...(await drain(b)));
  t.ok(distinct(given));
  t.equal(given.length, 14);
  await Promise.all([a.stop(), b.stop()]);
});

t.test('a subnet that is chosen under a name is the same on every host', async (t) => {
  const { server, hosts: all } = await hosts(3);
  const [first, second] = all as [HostDouble, HostDouble, HostDouble];
  const ask = (host: HostDouble, name: string, v6 = false) =>
    host.ipam.requestPool({ space: 'cnm-global', v6, options: { name } });
  for (let round = 0; round < 3; round += 1) {
    const given = await Promise.all(all.map((host) => ask(host, 'uber-net')));
    const others = await Promise.all(all.map((host) => ask(host, 'other')));
    const six = await Promise.all(all.map((host) => ask(host, 'uber-net', true)));
    t.equal(new Set(given.map((one) => one.pool)).size, 1, `all at once: ${given[0]?.pool ?? ''}`);
    t.equal(new Set(others.map((one) => one.pool)).size, 1);
    t.equal(new Set(six.map((one) => one.pool)).size, 1);
    t.not(given[0]?.pool, others[0]?.pool);
    await t.rejects(ask(first, 'uber-net'), { code: 'pool-overlap' }, 'once on a host');
    await second.crash();
    await second.start();
    const asked = { space: 'cnm-global', v6: false, options: {} };
    const unnamed = await first.ipam.requestPool(asked);
    t.notOk([given[0]?.pool, others[0]?.pool].includes(unnamed.pool), 'without a name it is another');
    await first.ipam.releasePool(unnamed.poolId);
    for (const host of all)
      for (const one of [given[0], others[0], six[0]]) await host.ipam.releasePool(one?.poolId ?? '');
    await until('the cluster to forget them', () => nothingLeft(server).length === 0);
  }
  for (const bad of ['', '-a', 'a b', 'a/b']) await t.rejects(ask(first, bad), { code: 'option-invalid' });
  const local = { space: 'cnm-local', v6: false, options: { name: 'n' } };
  await t.rejects(first.ipam.requestPool(local), { code: 'option-invalid', message: /--cluster/ });
  for (const host of all) await host.stop();
});
