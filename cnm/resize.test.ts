/** Links that follow the network below: in which order, with a crash at every point, and with what cannot be resized. */
import { isDeepStrictEqual } from 'node:util';
import t from 'tap';
import { ip } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import { overlay } from '../drivers/overlay/index.ts';
import { type FakeKernel, fakeKernel } from '../kernel/fake.ts';
import type { LinkFact } from '../kernel/facts.ts';
import { FakeCluster } from '../store/cluster-fake.ts';
import { memoryStore } from '../store/memory.ts';
import type { Store } from '../store/store.ts';
import { until } from '../tests/plane-double.ts';
import { clusterPlane } from './cluster/index.ts';
import { createCnm } from './index.ts';
import { type Log, silent } from './log.ts';
import type { EndpointSpec, NetworkSpec } from './model.ts';

const network: NetworkSpec = {
  id: 'a1'.repeat(32),
  driver: 'cnm-overlay',
  origin: 'docker',
  options: { vni: '4097', peers: '192.0.2.1,192.0.2.2', 'ip-range': 'any' },
  internal: false,
  enableIpv4: true,
  enableIpv6: false,
  ipv4: [{ addressSpace: '', pool: prefix('10.1.0.0/24'), gateway: prefix('10.1.0.1/24'), aux: {} }],
  ipv6: [],
};
const endpoint = (digit: string): EndpointSpec => ({
  id: `e${digit}`.repeat(32),
  network: network.id,
  address: prefix(`10.1.0.${digit}/24`),
  options: {},
  ports: [],
});
const BOX = '/var/run/docker/netns/x';
const eth0 = (mtu: number) => ({ name: 'eth0', mtu, addresses: [prefix('192.0.2.1/24')] });

function born(kernel: FakeKernel, store: Store, log: Log = silent) {
  return createCnm({ kernel, store, drivers: [overlay], log, runDir: '/run/cnm' });
}

/** A container of Docker's, one that Docker is still making, and a sandbox of ours. */
async function world(mtu: number, spec = network) {
  const kernel = fakeKernel({ links: [eth0(mtu)] });
  const store = memoryStore();
  const cnm = born(kernel, store);
  await cnm.createNetwork(spec);
  for (const digit of ['2', '3']) await cnm.createEndpoint(endpoint(digit));
  const { srcName } = await cnm.join(network.id, endpoint('2').id, BOX);
  kernel.moveAway(srcName, BOX, 'eth0');
  await cnm.createSandbox('web');
  await cnm.joinSandbox('web', endpoint('4'));
  return { kernel, store, cnm };
}

function rewire(kernel: FakeKernel, mtu: number): void {
  kernel.destroyLink('eth0');
  kernel.addLink(eth0(mtu));
}

/** The links of the network from a container outwards, each with the one that it hands its packets to. */
async function hops(kernel: FakeKernel): Promise<readonly (readonly [LinkFact, LinkFact])[]> {
  const { ourNetns } = await kernel.facts();
  const { host, netns } = await kernel.facts({ netns: [...ourNetns, BOX] });
  const all = [host, ...netns.values()].flatMap(({ links }) => [...links.values()]);
  const named = (name: string) => all.filter((link) => link.name === name);
  return all.flatMap((link) => {
    if (link.mark === undefined || link.name === 'vx0') return [];
    const isOuter = link.master !== undefined;
    const [next] =
      link.kind === 'bridge'
        ? named('vx0')
        : isOuter
          ? named('br0')
          : all.filter(({ index, kind }) => kind === 'veth' && index === link.peerIndex);
    return next === undefined ? [] : [[link, next] as const];
  });
}

async function sizes(kernel: FakeKernel): Promise<readonly number[]> {
  const { ourNetns } = await kernel.facts();
  const { host, netns } = await kernel.facts({ netns: [...ourNetns, BOX] });
  const all = [host, ...netns.values()].flatMap(({ links }) => [...links.values()]);
  return [...new Set(all.flatMap(({ mark, mtu }) => (mark === undefined ? [] : [mtu])))];
}

for (const [before, after] of [
  [1500, 9000],
  [9000, 1400],
] as const) {
  t.test(`${before} → ${after}: nobody ever sends what the next one does not take`, async (t) => {
    const { kernel, cnm } = await world(before);
    t.same(await sizes(kernel), [before - 50]);
    rewire(kernel, after);
    let steps = 0;
    kernel.beforeStep = async () => {
      steps += 1;
      for (const [link, next] of await hops(kernel))
        t.ok(link.mtu <= next.mtu, `step ${steps}: ${link.name} ${link.mtu} → ${next.name} ${next.mtu}`);
    };
    await cnm.followHosts();
    t.equal((await hops(kernel)).length, 7, 'two for each endpoint, and the bridge');
    t.same(await sizes(kernel), [after - 50]);
    t.equal(steps, 8, 'bridge, tunnel, and two for each endpoint');
    t.same((await cnm.drift()).differences, []);
    await cnm.followHosts();
    t.equal(steps, 8, 'once');
    await cnm.createEndpoint(endpoint('5'));
    t.same(await sizes(kernel), [after - 50], 'one that comes has it from the start');
  });

  t.test(`${before} → ${after}: killed at every point, the next start finishes it`, async (t) => {
    const options = { ...network.options, egress: 'gateway' };
    for (let at = 0; ; at += 1) {
      const { kernel, store, cnm } = await world(before, { ...network, options });
      await cnm.close();
      rewire(kernel, after);
      let points = 0;
      const point = () => {
        if (points === at) throw new Error('killed');
        points += 1;
      };
      kernel.beforeStep = point;
      const dying: Store = {
        get: (key) => store.get(key),
        list: (start) => store.list(start),
        notices: [],
        close: () => Promise.resolve(),
        async write(changes) {
          point();
          await store.write(changes);
          point();
        },
      };
      await born(kernel, dying).followHosts();
      kernel.beforeStep = undefined;
      const again = born(kernel, store);
      await again.reconcile();
      await again.followHosts();
      t.same(await sizes(kernel), [after - 50], `point ${at}`);
      t.same(await again.drift(), { differences: [], orphans: [], rulesetCurrent: true });
      await again.close();
      if (points < at) break;
    }
  });
}

t.test('a way out of its own: both ends of the pair', async (t) => {
  const options = { ...network.options, egress: 'gateway' };
  const { kernel, cnm } = await world(9000, { ...network, options });
  const { presence = [] } = cnm.network(network.id) ?? {};
  const pair = presence.find((step) => step.do === 'link.add' && step.link.kind === 'veth');
  if (pair?.do !== 'link.add' || pair.link.kind !== 'veth') throw new Error('no pair');
  const ends = [pair.name, pair.link.peer.name];
  for (const [below, wanted] of [
    [1400, 1350],
    [1500, 1450],
  ] as const) {
    rewire(kernel, below);
    await cnm.followHosts();
    const { host, netns } = await kernel.facts({ netns: [pair.netns ?? ''] });
    const links = [host, ...netns.values()].flatMap((one) => [...one.links.values()]);
    t.same(
      links.filter(({ name }) => ends.includes(name)).map(({ mtu }) => mtu),
      [wanted, wanted],
    );
    t.same((await cnm.drift()).differences, []);
  }
});

t.test('the other hosts are told of it', async (t) => {
  const kernel = fakeKernel({ links: [eth0(1500)] });
  const store = memoryStore();
  const server = new FakeCluster();
  const client = server.client();
  const plane = clusterPlane({
    ...{ store: client, records: store, log: silent, host: { id: 'h1', name: 'h1', boot: 'b1' } },
    ...{ shared: () => network.ipv4.map(({ pool }) => pool), own: () => [] },
    ...{ isThere: () => Promise.resolve(false), pace: { ttl: 10, retry: 1 } },
  });
  plane.start();
  const cnm = createCnm({
    ...{ kernel, store, drivers: [overlay], log: silent, runDir: '/run/cnm' },
    ...{ control: plane, patience: 0, advertise: ip('192.0.2.1') },
  });
  const options = { egress: 'gateway' };
  await cnm.createNetwork({ ...network, options });
  await cnm.createEndpoint(endpoint('2'));
  const record = () => server.entries('overlay/on/').find(({ key }) => key.endsWith('/h1'))?.value;
  const said = async (mtu: number) => {
    const wanted = { name: 'h1', at: '192.0.2.1', details: { vtep: 'kernel', mtu: String(mtu) } };
    await until(`the record to say ${mtu}`, () => isDeepStrictEqual(record(), wanted));
    t.pass(`${mtu}`);
  };
  await said(1450);
  for (const mtu of [1400, 9000]) {
    rewire(kernel, mtu);
    await cnm.followHosts();
    await said(mtu - 50);
  }
  server.advance(11_000);
  await until('the lease to be another', () => record() !== undefined);
  await said(8950);
  await cnm.deleteEndpoint(network.id, endpoint('2').id);
  await until('it to be gone', () => record() === undefined);
  await cnm.close();
  await plane.close();
  await client.close();
});

t.test('what cannot be resized inside is told, and keeps nothing else from it', async (t) => {
  const { kernel, store, cnm } = await world(1500);
  await cnm.close();
  const told: unknown[] = [];
  const log: Log = { ...silent, warn: (...words: unknown[]) => told.push(words) };
  const again = born(kernel, store, log);
  kernel.failAt((step) => step.do === 'link.mtu' && step.netns === BOX, 'EPERM');
  rewire(kernel, 1400);
  await again.followHosts();
  t.match(told, [[{ endpoint: 'e2'.repeat(6), mtu: 1350, error: /EPERM/ }, /keeps its MTU/]]);
  t.same([...(await sizes(kernel))].sort(), [1350, 1450]);
  t.same((await again.drift()).differences, []);
});

t.test('nothing follows where the MTU is given, nor while there is no way', async (t) => {
  const options = { ...network.options, 'com.docker.network.driver.mtu': '1400' };
  const given = await world(1500, { ...network, options });
  rewire(given.kernel, 9000);
  await given.cnm.followHosts();
  t.same(await sizes(given.kernel), [1350]);

  const { kernel, cnm } = await world(1500);
  kernel.destroyLink('eth0');
  await cnm.followHosts();
  t.same(await sizes(kernel), [1450], 'a link that is gone says nothing');
  kernel.addLink(eth0(100));
  await cnm.followHosts();
  t.same(await sizes(kernel), [1450], 'nor one that is too narrow');
});

t.test('the way to a host that nobody listed counts as well', async (t) => {
  const { cnm, kernel } = await world(1500);
  kernel.addLink({ name: 'narrow', mtu: 1400, addresses: [prefix('198.51.100.1/24')] });
  const [record] = cnm.networks();
  if (record === undefined) throw new Error('no network');
  const facts = await kernel.facts();
  const mtu = (...others: string[]) =>
    overlay.mtu?.(record, facts, { netnsDir: '/run/cnm/netns' }, others.map(ip));
  t.equal(mtu(), 1450);
  t.equal(mtu('198.51.100.7'), 1350);
  t.equal(mtu('198.51.100.1'), 1450, 'not this one');
  t.equal(mtu('203.0.113.1'), 1450, 'one without a way says nothing');
});

for (const [before, after] of [
  [1500, 9000],
  [9000, 1400],
] as const) {
  t.test(`${before} → ${after}: what cannot be at once is done when it is asked for again`, async (t) => {
    const { kernel, cnm } = await world(before);
    rewire(kernel, after);
    kernel.failAt((step) => step.do === 'link.add' && step.name === 'vx0', 'ENOBUFS', 1);
    await cnm.followHosts();
    await cnm.followHosts();
    t.same(await sizes(kernel), [after - 50]);
    for (const [link, next] of await hops(kernel))
      t.ok(link.mtu <= next.mtu, `${link.name} ${link.mtu} → ${next.name} ${next.mtu}`);
  });
}
