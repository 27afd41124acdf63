import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { mac } from '../../address/mac.ts';
import type { Leased } from '../../cnm/leases.ts';
import { memoryStore } from '../../store/memory.ts';
import type { Store } from '../../store/store.ts';
import { SERVER_MAC, type TestServer, testServer } from './fake-server.ts';
import { createDhcpLeases, type DhcpLeases, type LeasesParts } from './leases.ts';
import { clientIdOf } from './words.ts';

const QUIET = { debug() {}, info() {}, warn() {}, error() {} };
const ADDRESS = '10.0.0.7/24';

function open(t: Test, server: TestServer, store: Store, more: Partial<LeasesParts> = {}): DhcpLeases {
  const leases = createDhcpLeases({ store, tap: server.tap, log: QUIET, rest: 200, ...more });
  t.teardown(() => leases.close());
  return leases;
}

const endpoint = (id: string, number = 7) => ({
  id,
  network: 'n1',
  mac: mac(`02:00:00:00:00:${String(number).padStart(2, '0')}`),
  options: {},
  ports: [],
});
const request = (returns: boolean) => ({ wire: 'eth1', returns });

async function until(what: string, holds: () => boolean): Promise<void> {
  const end = Date.now() + 15_000;
  while (!holds()) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await sleep(5);
  }
}

t.test('a lease is had, stored, renewed, and given back', async (t) => {
  const server = testServer();
  server.leaseTime = 1;
  const store = memoryStore();
  const leases = open(t, server, store);
  const { leased, mac: own } = await leases.obtain(endpoint('e1'), request(false));
  t.equal(leased.address, ADDRESS);
  t.equal(own, endpoint('e1').mac);
  t.same(server.heard, ['discover', `request 10.0.0.7`]);
  t.match(store.get('dhcp/n1/e1'), { endpoint: 'e1', lease: { address: ADDRESS, serverMac: SERVER_MAC } });
  const ends = () => (store.get('dhcp/n1/e1') as { lease: { expiresAt: number } }).lease.expiresAt;
  const first = ends();
  await until('a renewal', () => ends() > first);
  t.equal(server.heard[2], 'request 10.0.0.7!', 'of the server alone');
  t.equal(
    (await leases.obtain(endpoint('e1'), request(false))).leased.address,
    ADDRESS,
    'asked again: the same',
  );
  server.leaseTime = 3600;
  const second = ends();
  await until('a long renewal', () => ends() > second + 60_000);
  await until('nobody to listen', () => server.open === 0);
  await leases.giveBack('n1', 'e1');
  await until('the release', () => server.heard.at(-1) === 'release 10.0.0.7!');
  await until('its record to go', () => store.list('dhcp/').length === 0);
  t.equal(server.leases.size, 0);
  t.equal(server.open, 0);
});

t.test('who comes back is who he was', async (t) => {
  const server = testServer();
  const leases = open(t, server, memoryStore(), { rest: 60_000 });
  const first = await leases.obtain(endpoint('e1', 11), request(false));
  await leases.giveBack('n1', 'e1');
  const again = await leases.obtain(endpoint('e2', 12), request(false));
  t.same(again, first, 'the address and the MAC of before');
  t.equal(server.heard.at(-1), 'request 10.0.0.7', 'INIT-REBOOT');
  const other = await leases.obtain(endpoint('e3', 13), request(false));
  t.not(other.leased.address, first.leased.address, 'nobody else is waited for');
  await leases.giveBack('n1', 'e2');
  await leases.giveBack('n1', 'e3');
  const third = await leases.obtain(endpoint('e4', 14), request(false));
  t.equal(third.leased.address, '10.0.0.9/24', 'of two nobody knows which it is');
  const named = await leases.obtain(endpoint('e5', 15), request(true));
  t.equal(named.leased.address, '10.0.0.10/24', 'one with a name is none of them');
  await leases.giveBack('n1', 'e5');
  t.same(await leases.obtain(endpoint('e6', 15), request(true)), named, 'it is known by its MAC');
  await leases.over('e3');
  t.equal(
    server.heard.at(-1),
    `release ${other.leased.address.replace('/24', '')}!`,
    'its container is removed',
  );
  await leases.giveBackAll('n1');
  t.equal(server.leases.size, 0, 'all, when the network goes');
});

t.test('an endpoint that Docker lost beside the one in its place', async (t) => {
  const server = testServer();
  const leases = open(t, server, memoryStore(), { rest: 0 });
  const lost = await leases.obtain(endpoint('e1'), request(true));
  const next = await leases.obtain(endpoint('e2'), request(true));
  t.same(next, lost, 'to the server they are one');
  await leases.giveBack('n1', 'e1');
  await until('the end of e1', () => leases.views().length === 1);
  t.same(
    server.heard.filter((words) => words.startsWith('release')),
    [],
    'the address is in use',
  );
  await leases.giveBack('n1', 'e2');
  await until('the release', () => server.heard.at(-1) === 'release 10.0.0.7!');
});

t.test('a daemon that starts again', async (t) => {
  const server = testServer();
  const store = memoryStore();
  const before = open(t, server, store);
  for (const id of ['e1', 'e2']) await before.obtain(endpoint(id, 10 + Number(id.at(-1))), request(true));
  await before.close();
  t.equal(server.heard.length, 4, 'says nothing when it ends');
  const after = open(t, server, store);
  await after.start((_network, id) => id === 'e1');
  t.same(
    after.views().map(({ endpoint, phase }) => `${endpoint} ${phase}`),
    ['e1 bound', 'e2 resting'],
    'e2 has gone meanwhile',
  );
  t.equal(server.heard.length, 4, 'nor when it starts: the lease is good');
  await until('the release of e2', () => server.heard.at(-1) === 'release 10.0.0.8!');
  after.named('e1', 'web');
  await until('the name', () => server.names.get(clientIdOf(endpoint('e1', 11).mac)) === 'web');
});

t.test('no server, and one that refuses', async (t) => {
  const server = testServer();
  const store = memoryStore();
  const leases = open(t, server, store, { patience: 300 });
  server.isSilent = true;
  await t.rejects(leases.obtain(endpoint('e1'), request(false)), {
    code: 'lease-unanswered',
    message: /^No DHCP server answered on eth1 within 0\.3 s/,
  });
  server.isSilent = false;
  server.refuses = true;
  await t.rejects(leases.obtain(endpoint('e1'), request(false)), {
    code: 'lease-unanswered',
    message: /^DHCP server 10\.0\.0\.1 on eth1 offers an address and refuses it/,
  });
  t.same(store.list('dhcp/'), []);
  t.equal(server.open, 0, 'nobody listens any more');
  const tap = () => {
    throw new Error('ioctl: ENODEV');
  };
  await t.rejects(open(t, server, store, { tap }).obtain(endpoint('e1'), request(false)), {
    code: 'kernel',
    message: 'No DHCP server can be asked on eth1: ioctl: ENODEV',
  });
  server.isSilent = true;
  const waiting = leases.obtain(endpoint('e1'), request(false));
  await leases.close();
  await t.rejects(waiting, { code: 'unavailable' }, 'a daemon that stops waits for no server');
});

t.test('a server that gives another address', async (t) => {
  const server = testServer();
  server.leaseTime = 1;
  const held: Leased[] = [];
  const store = memoryStore();
  const leases = open(t, server, store);
  const onDisk = () => (store.get('dhcp/n1/e1') as { lease: Leased } | undefined)?.lease.address;
  await leases.start(
    () => true,
    (_network, _endpoint, leased) => {
      held.push(leased);
      if (leased.address !== onDisk()) t.fail('told before it is on disk');
    },
  );
  await leases.obtain(endpoint('e1'), request(false));
  await until('a renewal to be told', () => held.length > 0);
  t.equal(held[0]?.address, ADDRESS);
  server.forget();
  await until('another address', () => held.at(-1)?.address !== ADDRESS);
  t.match(held.at(-1), { address: '10.0.0.8/24' });
  await leases.close();
  const told: Leased[] = [];
  await open(t, server, store).start(
    () => true,
    (_network, _endpoint, leased) => told.push(leased),
  );
  t.match(told, [{ address: '10.0.0.8/24' }], 'at the next start at once: it may not have been given yet');
});
