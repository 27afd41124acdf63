/**
 * Another address for an endpoint in use, cut off before each kernel step and before and after each store write: a new Cnm on the same kernel
 * and store, which is asked again as the daemon does for what the lease says, brings kernel and record to agree. On a fake kernel.
 */
import t from 'tap';
import type { Test } from 'tap';
import { ip } from '../address/ip.ts';
import { mac } from '../address/mac.ts';
import { prefix } from '../address/prefix.ts';
import { macvlan } from '../drivers/macvlan/index.ts';
import { type FakeKernel, fakeKernel } from '../kernel/fake.ts';
import { memoryStore } from '../store/memory.ts';
import type { Store } from '../store/store.ts';
import type { Cnm } from './cnm.ts';
import { createCnm } from './index.ts';
import type { Leased, Leases } from './leases.ts';
import { silent } from './log.ts';
import type { EndpointSpec } from './model.ts';
import { networkSpec } from '../tests/specs.ts';

const network = networkSpec('cnm-macvlan', { options: { parent: 'eth0', dhcp: 'true' }, ipv4: [] });
const endpoint: EndpointSpec = { id: 'e1'.repeat(32), network: network.id, options: {}, ports: [] };
const FIRST: Leased = {
  address: prefix('10.0.0.7/24'),
  gateway: ip('10.0.0.1'),
  routes: [{ destination: prefix('10.5.0.0/16'), nextHop: ip('10.0.0.2') }],
  mtu: 1400,
  dns: [],
};
const NEXT: Leased = {
  address: prefix('10.0.0.9/24'),
  gateway: ip('10.0.0.3'),
  routes: [{ destination: prefix('10.6.0.0/16'), nextHop: ip('10.0.0.2') }],
  mtu: 1300,
  dns: [],
};
const AFTER = ['10.0.0.9/24', 'default via 10.0.0.3', '10.6.0.0/16 via 10.0.0.2'].sort();
const CONTAINER = '/var/run/docker/netns/c1';

const leases: Leases = {
  obtain: (spec) => Promise.resolve({ leased: FIRST, mac: spec.mac }),
  giveBack: () => Promise.resolve(),
  giveBackAll: () => Promise.resolve(),
};

function born(kernel: FakeKernel, store: Store): Cnm {
  return createCnm({ kernel, store, drivers: [macvlan], log: silent, runDir: '/run/cnm', leases });
}

interface World {
  readonly kernel: FakeKernel;
  readonly store: Store;
  readonly cnm: Cnm;
  readonly netns: string;
}

/** Docker takes the link in, and does there what it was answered. */
async function inContainer(): Promise<World> {
  const [kernel, store] = [host(), memoryStore()];
  const cnm = born(kernel, store);
  await cnm.createNetwork(network);
  await cnm.createEndpoint(endpoint);
  kernel.addNetns(CONTAINER);
  const { srcName, gateway } = await cnm.join(network.id, endpoint.id, CONTAINER);
  kernel.moveAway(srcName, CONTAINER, 'eth0');
  const at = { netns: CONTAINER, link: 'eth0' };
  await kernel.apply([
    { do: 'addr.add', ...at, prefix: FIRST.address },
    { do: 'route.add', ...at, to: prefix('10.5.0.0/16'), via: ip('10.0.0.2') },
    { do: 'route.add', ...at, to: prefix('0.0.0.0/0'), ...(gateway !== undefined && { via: gateway }) },
  ]);
  return { kernel, store, cnm, netns: CONTAINER };
}

async function inSandbox(): Promise<World> {
  const [kernel, store] = [host(), memoryStore()];
  const cnm = born(kernel, store);
  await cnm.createNetwork({ ...network, origin: 'cnm' });
  const { path } = await cnm.createSandbox('web');
  await cnm.joinSandbox('web', endpoint);
  return { kernel, store, cnm, netns: path };
}

function host(): FakeKernel {
  return fakeKernel({ links: [{ name: 'eth0', mac: mac('52:54:00:00:00:01') }] });
}

async function inside({ kernel, netns }: World): Promise<readonly string[]> {
  const found = (await kernel.facts({ netns: [netns] })).netns.get(netns);
  const addresses =
    found?.addresses.filter(({ link }) => link !== 'lo').map((one) => String(one.prefix)) ?? [];
  const ways = (found?.routes ?? []).flatMap(({ to, via }) =>
    via === undefined ? [] : [`${to === '0.0.0.0/0' ? 'default' : to} via ${via}`],
  );
  return [...addresses, ...ways].sort();
}

/** The same world, in which a process dies at its `at`-th point. @returns how many it lived through. */
async function cutOff(world: World, at: number): Promise<number> {
  let points = 0;
  const point = () => {
    if (points >= at) throw new Error('killed');
    points += 1;
  };
  const store: Store = {
    get: (key) => world.store.get(key),
    list: (start) => world.store.list(start),
    notices: world.store.notices,
    close: () => world.store.close(),
    async write(changes) {
      point();
      await world.store.write(changes);
      point();
    },
  };
  const mortal = born(world.kernel, store);
  world.kernel.beforeStep = point;
  await mortal.readdress(network.id, endpoint.id, NEXT).catch(() => undefined);
  world.kernel.beforeStep = undefined;
  return points;
}

async function everywhere(t: Test, make: () => Promise<World>): Promise<void> {
  const whole = await cutOff(await make(), Infinity);
  t.ok(whole > 6, `there are ${whole} points to be cut off at`);
  for (let at = 0; at <= whole; at += 1) {
    const world = await make();
    await cutOff(world, at);
    const cnm = born(world.kernel, world.store);
    await cnm.reconcile();
    await cnm.readdress(network.id, endpoint.id, NEXT);
    t.same(await inside(world), AFTER, `point ${at}: the address and the ways out, and no others`);
    t.match(cnm.endpoint(network.id, endpoint.id), {
      address: NEXT.address,
      leased: { gateway: NEXT.gateway },
    });
    t.same(
      await cnm.drift(),
      { differences: [], orphans: [], rulesetCurrent: true },
      `point ${at}: they agree`,
    );
    if (world.netns !== CONTAINER) await cnm.leaveSandbox('web', network.id);
    await cnm.deleteNetwork(network.id);
    t.same((await cnm.drift()).orphans, []);
  }
}

t.test('cut off at every point, in a container of Docker’s', (t) => everywhere(t, inContainer));
t.test('cut off at every point, in a sandbox of our own', (t) => everywhere(t, inSandbox));

t.test('a kernel that refuses: the record says what is there, and it can be asked for again', async (t) => {
  const world = await inSandbox();
  const isNew = (step: { readonly do: string; readonly prefix?: unknown }) => step.prefix === NEXT.address;
  const mend = world.kernel.failAt((step, phase) => phase === 'apply' && isNew(step), 'ENOMEM');
  await t.rejects(world.cnm.readdress(network.id, endpoint.id, NEXT), { code: 'kernel' });
  t.equal(world.cnm.endpoint(network.id, endpoint.id)?.address, FIRST.address);
  mend();
  await world.cnm.readdress(network.id, endpoint.id, NEXT);
  t.same(await inside(world), AFTER);
});
