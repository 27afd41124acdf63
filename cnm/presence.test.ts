/** What a host holds of a network for its endpoints: there exactly as long as there are some, however they come and go. */
import t from 'tap';
import { ip } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import { overlay } from '../drivers/overlay/index.ts';
import { fakeKernel } from '../kernel/fake.ts';
import { memoryStore } from '../store/memory.ts';
import { createCnm } from './index.ts';
import { createReclaimer } from './reclaim.ts';
import { silent } from './log.ts';
import type { EndpointSpec } from './model.ts';
import { endpointSpec, networkSpec } from '../tests/specs.ts';

const network = networkSpec('cnm-overlay', {
  options: { vni: '4097', peers: '192.0.2.2', 'ip-range': 'any' },
});
const SANDBOX = '/var/run/docker/netns/x';
const NETNS = `/run/cnm/netns/ov-${network.id.slice(0, 12)}`;

function endpoint(n: number): EndpointSpec {
  return endpointSpec({ id: `e${String(n).padStart(63, '0')}`, address: prefix(`10.1.0.${n}/24`) });
}

function bench() {
  const kernel = fakeKernel({ links: [{ name: 'eth0', addresses: [prefix('192.0.2.1/24')] }] });
  const store = memoryStore();
  const make = () =>
    createCnm({ kernel, store, drivers: [overlay], log: silent, runDir: '/run/cnm', patience: 0 });
  return { kernel, store, make, cnm: make() };
}

t.test('with the first endpoint, until the last', async (t) => {
  const { kernel, cnm } = bench();
  await cnm.createNetwork(network);
  const empty = kernel.snapshot();
  await cnm.createEndpoint(endpoint(2));
  await cnm.createEndpoint(endpoint(3));
  await cnm.deleteEndpoint(network.id, endpoint(2).id);
  t.same((await kernel.facts()).ourNetns, [NETNS]);
  await cnm.deleteEndpoint(network.id, endpoint(3).id);
  t.same(kernel.snapshot(), empty);
  t.equal(cnm.network(network.id)?.presence, undefined);
});

t.test('what Docker has forgotten stays while a living sandbox holds it', async (t) => {
  const { kernel, cnm } = bench();
  await cnm.createNetwork(network);
  const old = endpoint(2);
  await cnm.createEndpoint(old);
  const { srcName } = await cnm.join(network.id, old.id, SANDBOX);
  kernel.moveAway(srcName, SANDBOX, 'eth0');
  let now = Date.now();
  const view = { networks: () => Promise.resolve([]) };
  const reclaimer = createReclaimer({ cnm, kernel, view, log: silent, now: () => now });
  const looks = async () => {
    const removed: string[] = [];
    for (let look = 0; look < 3; look += 1) {
      now += 60_000;
      removed.push(...((await reclaimer.look()) ?? []));
    }
    return removed;
  };
  t.same(await looks(), []);
  await t.rejects(cnm.createEndpoint({ ...endpoint(3), address: prefix('10.1.0.2/24') }), {
    code: 'endpoint-conflict',
  });
  kernel.destroyNetns(SANDBOX);
  t.same(await looks(), [`network ${network.id}`]);
  t.same((await kernel.facts()).ourNetns, []);
});

t.test('endpoints that come and go at once', async (t) => {
  const { kernel, cnm } = bench();
  await cnm.createNetwork(network);
  const empty = kernel.snapshot();
  for (let round = 0; round < 30; round += 1) {
    const stays = round % 3 === 0;
    const coming = [2, 3, 4, 5].map(async (n) => {
      await cnm.createEndpoint(endpoint(n));
      if (n > 2 || !stays) await cnm.deleteEndpoint(network.id, endpoint(n).id);
    });
    await Promise.all(coming);
    t.same((await kernel.facts()).ourNetns, stays ? [NETNS] : [], `round ${round}`);
    t.same((await cnm.drift()).differences, []);
    await cnm.deleteEndpoint(network.id, endpoint(2).id);
    t.same(kernel.snapshot(), empty);
  }
});

t.test('the last one goes while the next one comes: it stands on what it needs', async (t) => {
  const { kernel, cnm } = bench();
  await cnm.createNetwork(network);
  await cnm.createEndpoint(endpoint(2));
  for (let n = 3; n < 40; n += 1) {
    await Promise.all([cnm.deleteEndpoint(network.id, endpoint(n - 1).id), cnm.createEndpoint(endpoint(n))]);
    t.same((await kernel.facts()).ourNetns, [NETNS]);
    t.same(await cnm.drift(), { differences: [], orphans: [], rulesetCurrent: true });
  }
});

t.test('what cannot be made is an error of the endpoint, and leaves nothing', async (t) => {
  const { kernel, cnm } = bench();
  await cnm.createNetwork(network);
  const empty = kernel.snapshot();
  kernel.failAt((step, phase) => phase === 'apply' && step.do === 'fdb.add', 'ENOMEM', 1);
  await t.rejects(cnm.createEndpoint(endpoint(2)), { code: 'kernel', message: /join network a1a1.*ENOMEM/ });
  t.same(kernel.snapshot(), empty);
  t.equal(cnm.network(network.id)?.presence, undefined);
  await cnm.createEndpoint(endpoint(2));
  t.same((await kernel.facts()).ourNetns, [NETNS]);
});

t.test('what cannot be removed is removed at the next start', async (t) => {
  const { kernel, cnm, make } = bench();
  await cnm.createNetwork(network);
  const empty = kernel.snapshot();
  await cnm.createEndpoint(endpoint(2));
  const stop = kernel.failAt((step, phase) => phase === 'revert' && step.do === 'netns.add', 'EBUSY');
  await cnm.deleteEndpoint(network.id, endpoint(2).id);
  t.same((await kernel.facts()).ourNetns, [NETNS]);
  stop();
  const report = await make().reconcile();
  t.same(report.finished, [`network ${network.id}`]);
  t.same(report.failed, []);
  t.same(kernel.snapshot(), empty);
});

t.test('a link of ours in it that no record tells of is an orphan', async (t) => {
  const { kernel, cnm } = bench();
  await cnm.createNetwork(network);
  await cnm.createEndpoint(endpoint(2));
  const mark = { network: network.id, endpoint: 'f'.repeat(64) };
  kernel.addLink({ name: 'vethlost', kind: 'veth', mark }, NETNS);
  kernel.addLink({ name: 'theirs', kind: 'veth' }, NETNS);
  t.same((await cnm.drift()).orphans, [{ kind: 'link', name: 'vethlost', netns: NETNS }]);
  const { removed } = await cnm.reconcile();
  t.equal(removed.length, 1);
  t.ok((await kernel.facts({ netns: [NETNS] })).netns.get(NETNS)?.links.has('theirs'));
});

t.test('a daemon that is told by which address others reach it', async (t) => {
  const { kernel, store } = bench();
  kernel.addLink({ name: 'eth1', addresses: [prefix('203.0.113.7/24')] });
  const options = { kernel, store, drivers: [overlay], log: silent, runDir: '/run/cnm' };
  const cnm = createCnm({ ...options, advertise: ip('203.0.113.7') });
  await cnm.createNetwork(network);
  await cnm.createEndpoint(endpoint(2));
  const { netns } = await kernel.facts({ netns: [NETNS] });
  t.equal(netns.get(NETNS)?.links.get('vx0')?.vxlan?.local, '203.0.113.7');
});

t.test('what a last endpoint left behind is not what the next one stands on', async (t) => {
  const { kernel, cnm } = bench();
  await cnm.createNetwork(network);
  const empty = kernel.snapshot();
  await cnm.createEndpoint(endpoint(2));
  const whole = kernel.snapshot();
  const stop = kernel.failAt((step, phase) => phase === 'revert' && step.do === 'netns.add', 'EBUSY');
  await cnm.deleteEndpoint(network.id, endpoint(2).id);
  stop();
  await cnm.createEndpoint(endpoint(2));
  t.same((await cnm.drift()).differences, []);
  t.same(kernel.snapshot(), whole);
  await cnm.deleteEndpoint(network.id, endpoint(2).id);
  t.same(kernel.snapshot(), empty);
});

t.test('networks that come at once: none has what another one has on the host', async (t) => {
  const { kernel, cnm } = bench();
  const options = (vni: string) => ({ ...network.options, vni, egress: 'gateway' });
  const pool = { addressSpace: '', pool: prefix('10.0.0.0/8'), gateway: prefix('10.0.0.1/8'), aux: {} };
  const networks = ['1', '2', '3', '4', '5', '6', '7', '8'].map((digit) => ({
    ...network,
    ...{ id: `c${digit}`.repeat(32), options: options(digit), ipv4: [pool] },
  }));
  for (const one of networks) await cnm.createNetwork(one);
  const empty = kernel.snapshot();
  const endpoints = networks.map(({ id }, n) => ({ ...endpoint(n + 2), network: id }));
  await Promise.all(endpoints.map((one) => cnm.createEndpoint({ ...one, address: prefix('10.1.0.2/8') })));
  const outsides = cnm
    .networks()
    .flatMap(({ presence = [] }) =>
      presence.flatMap((step) => (step.do === 'uplink.translate' ? step.pairs : [])),
    );
  t.equal(new Set(outsides.map(({ outside }) => outside)).size, networks.length);
  for (const { network: id, id: one } of endpoints) await cnm.deleteEndpoint(id, one);
  t.same(kernel.snapshot(), empty);
});

t.test('after a change of links alone, the firewall is not read for the sake of a way out', async (t) => {
  const { kernel, cnm } = bench();
  await cnm.createNetwork({ ...network, options: { ...network.options, egress: 'gateway' } });
  await cnm.createEndpoint(endpoint(2));
  const facts = kernel.facts.bind(kernel);
  let dumps = 0;
  kernel.facts = (query) => {
    if (query?.firewall !== false) dumps += 1;
    return facts(query);
  };
  t.same((await cnm.repairLinks()).repaired, []);
  t.equal(dumps, 0);
  kernel.destroyLink('vx0', NETNS);
  t.match((await cnm.repairLinks()).repaired, [{ missing: [{ do: 'link.add', name: 'vx0' }] }]);
  t.same((await cnm.drift()).differences, []);
});
