/** Links on an interface that goes away and comes back; on the real thing, tests/acceptance/macvlan-parents.test.ts. */
import t from 'tap';
import { mac } from '../address/mac.ts';
import { prefix } from '../address/prefix.ts';
import { macvlan } from '../drivers/macvlan/index.ts';
import { fakeKernel } from '../kernel/fake.ts';
import { memoryStore } from '../store/memory.ts';
import { createCnm } from './index.ts';
import { type Log, silent } from './log.ts';
import type { EndpointSpec, NetworkSpec } from './model.ts';

const ID = 'a1'.repeat(32);
const KEY = '/var/run/docker/netns/c1';
const ETH0 = { name: 'eth0', mac: mac('52:54:00:00:00:01') };

function network(parent: string): NetworkSpec {
  return {
    ...{ id: ID, driver: 'cnm-macvlan', origin: 'docker', options: { parent }, internal: false },
    ...{ enableIpv4: true, enableIpv6: false, ipv6: [] },
    ipv4: [{ addressSpace: '', pool: prefix('10.1.0.0/24'), gateway: prefix('10.1.0.1/24'), aux: {} }],
  };
}

const endpoint: EndpointSpec = {
  ...{ id: 'e1'.repeat(32), network: ID, address: prefix('10.1.0.2/24'), options: {}, ports: [] },
};

/** A container that Docker has started, with the endpoint's link under a name that nobody would guess. */
async function running(parent: string) {
  const kernel = fakeKernel({ links: [ETH0] });
  const said: string[] = [];
  const keep = (_: object, message: string) => void said.push(message);
  const log: Log = { ...silent, info: keep, warn: keep };
  const store = memoryStore();
  const make = () => createCnm({ kernel, store, drivers: [macvlan], log, runDir: '/run/cnm' });
  const cnm = make();
  await cnm.createNetwork(network(parent));
  await cnm.createEndpoint(endpoint);
  const { srcName } = await cnm.join(ID, endpoint.id, KEY);
  kernel.moveAway(srcName, KEY, 'eth3');
  await cnm.repairLinks();
  const inside = async () => (await kernel.facts({ netns: [KEY] })).netns.get(KEY);
  const names = async () => [...((await inside())?.links.keys() ?? [])].filter((name) => name !== 'lo');
  return { kernel, cnm, make, said, inside, names, srcName };
}

t.test('waited for, and put back under its name', async (t) => {
  for (const parent of ['eth0', 'eth0.100']) {
    const { kernel, cnm, inside, names, said } = await running(parent);
    kernel.destroyLink('eth0');
    await cnm.repairLinks();
    await cnm.repairLinks();
    t.same(await names(), [], 'it went with its parent');
    const { differences } = await cnm.drift();
    t.ok(differences.some(({ object }) => object === 'endpoint'));
    for (const one of differences) t.match(one, { repairable: false, awaits: 'eth0' });
    t.same(said.filter((line) => line.includes('is gone')).length, 1, 'said once');

    kernel.addLink(ETH0);
    const { repaired, failed } = await cnm.repairLinks();
    t.same(failed, []);
    t.ok(repaired.some(({ object }) => object === 'endpoint'));
    t.same(await names(), ['eth3']);
    const { addresses = [], routes = [] } = (await inside()) ?? {};
    t.match(
      addresses.filter(({ link }) => link !== 'lo'),
      [{ link: 'eth3', prefix: '10.1.0.2/24' }],
    );
    t.match(
      routes.filter(({ via }) => via !== undefined),
      [{ to: '0.0.0.0/0', via: '10.1.0.1', link: 'eth3' }],
    );
    t.same((await cnm.drift()).differences, []);
    t.ok(cnm.endpoint(ID, endpoint.id)?.putBackAt);
    t.same(said.filter((line) => line.includes('is back')).length, 2);
  }
});

t.test('by a daemon that never saw it: under the first name that is free', async (t) => {
  const { kernel, make, names } = await running('eth0');
  kernel.destroyLink('eth0');
  kernel.addLink({ name: 'eth0', mac: mac('52:54:00:00:00:02') }, KEY);
  kernel.addLink(ETH0);
  await make().reconcile();
  t.same(await names(), ['eth0', 'eth1']);
});

t.test('not into a sandbox that the endpoint has left, nor one that is gone', async (t) => {
  for (const ends of [true, false]) {
    const { kernel, cnm, names } = await running('eth0');
    if (ends) kernel.destroyNetns(KEY);
    else await cnm.leave(ID, endpoint.id);
    kernel.destroyLink('eth0');
    kernel.addLink(ETH0);
    t.same((await cnm.repairLinks()).repaired, []);
    t.same(await names(), []);
    t.match((await cnm.drift()).differences, [{ object: 'endpoint', repairable: false }]);
    await cnm.deleteEndpoint(ID, endpoint.id);
    t.same((await cnm.drift()).differences, []);
  }
});
