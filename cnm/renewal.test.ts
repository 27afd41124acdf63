/** Keys of networks that live on: the new ones beside the old ones, and the old ones away later; in the record what is in the kernel. */
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import { prefix } from '../address/prefix.ts';
import { overlay } from '../drivers/overlay/index.ts';
import { fakeKernel } from '../kernel/fake.ts';
import type { Step } from '../kernel/step.ts';
import { memoryStore } from '../store/memory.ts';
import type { Store } from '../store/store.ts';
import { ENDPOINT as endpoint, NETWORK as network, UPLINK } from '../tests/encrypted-network.ts';
import type { Encryption } from './driver.ts';
import { createCnm } from './index.ts';
import { silent } from './log.ts';

function bench(store = memoryStore()) {
  const kernel = fakeKernel(UPLINK);
  const keys: { now: Encryption | undefined } = {
    now: { secrets: ['s'.repeat(32)], period: 5, sending: 5, lasts: 1000 },
  };
  const options = { kernel, store, drivers: [overlay], log: silent, runDir: '/run/cnm' };
  const make = () => createCnm({ ...options, encryption: () => keys.now });
  const spis = async () => new Set((await kernel.facts()).xfrm?.states.map(({ spi }) => spi));
  return { kernel, keys, make, cnm: make(), spis };
}

function isKey({ do: what }: Step): boolean {
  return what === 'xfrm.state.add';
}

async function until(holds: () => boolean): Promise<void> {
  for (let turn = 0; turn < 10_000 && !holds(); turn += 1) await setImmediate();
}

t.test('the next period: two more keys, then two fewer, and what the record says is there', async (t) => {
  const { kernel, keys, cnm, spis } = bench();
  await cnm.createNetwork(network);
  t.equal(await cnm.renewKeys(true), 0, 'nothing is here yet');
  await cnm.createEndpoint(endpoint);
  const first = await spis();
  t.equal(first.size, 9);
  t.equal(await cnm.renewKeys(true), 0, 'nothing has changed');
  keys.now = { secrets: ['s'.repeat(32)], period: 6, sending: 6, lasts: 1000 };
  t.equal(await cnm.renewKeys(false), 1);
  const both = await spis();
  t.ok([...first].every((spi) => both.has(spi)));
  t.equal(both.size, 12, 'two more to receive with, one more to send with');
  t.same((await cnm.drift()).differences, []);
  t.equal(await cnm.renewKeys(true), 1);
  const last = await spis();
  t.equal(last.size, 9);
  t.equal([...first].filter((spi) => last.has(spi)).length, 6);
  t.same((await cnm.drift()).differences, []);
  await cnm.deleteEndpoint(network.id, endpoint.id);
  t.equal((await spis()).size, 0);
  await cnm.deleteNetwork(network.id);
  t.same((await kernel.facts()).xfrm, { states: [], policies: [] });
});

t.test('the links are not touched, whatever the plan would be by now', async (t) => {
  const { kernel, keys, cnm } = bench();
  await cnm.createNetwork(network);
  await cnm.createEndpoint(endpoint);
  const rest = () => cnm.network(network.id)?.presence?.filter((step) => step.do !== 'xfrm.state.add');
  const before = rest();
  kernel.addLink({ name: 'eth1', addresses: [prefix('192.0.2.9/24')] });
  keys.now = { secrets: ['t'.repeat(32), 's'.repeat(32)], period: 5, sending: 6, lasts: 1000 };
  t.equal(await cnm.renewKeys(true), 1);
  t.same(rest(), before);
});

t.test('keys that cannot be added: those that were there go on', async (t) => {
  const { kernel, keys, cnm, spis } = bench();
  await cnm.createNetwork(network);
  await cnm.createEndpoint(endpoint);
  const [first, record] = [await spis(), cnm.network(network.id)];
  keys.now = { secrets: ['s'.repeat(32)], period: 6, sending: 6, lasts: 1000 };
  const stop = kernel.failAt((step) => step.do === 'xfrm.state.add', 'ENOMEM');
  await t.rejects(cnm.renewKeys(true), { message: /ENOMEM/ });
  stop();
  t.same(await spis(), first);
  t.same(cnm.network(network.id), record);
  keys.now = undefined;
  await t.rejects(cnm.renewKeys(true), 'nor where there are no secrets any more');
  t.same(await spis(), first);
});

t.test('killed between the two: the next start has both, and retires the old ones', async (t) => {
  const { keys, cnm, make, spis } = bench();
  await cnm.createNetwork(network);
  await cnm.createEndpoint(endpoint);
  keys.now = { secrets: ['s'.repeat(32)], period: 6, sending: 6, lasts: 1000 };
  await cnm.renewKeys(false);
  const again = make();
  await again.reconcile();
  t.equal((await spis()).size, 12);
  t.equal(await again.renewKeys(true), 1);
  t.equal((await spis()).size, 9);
});

t.test(
  'killed when a new key is in the record and not yet noted as spent: the next start has it',
  async (t) => {
    const store = memoryStore();
    let stops = false;
    const write: Store['write'] = (changes) =>
      stops && changes.some((change) => 'put' in change && change.put.startsWith('spent-key/'))
        ? new Promise(() => undefined)
        : store.write(changes);
    const { kernel, keys, cnm, make, spis } = bench({ ...store, write });
    await cnm.createNetwork(network);
    await cnm.createEndpoint(endpoint);
    keys.now = { secrets: ['s'.repeat(32)], period: 6, sending: 6, lasts: 1000 };
    stops = true;
    void cnm.renewKeys(false);
    await until(() => (cnm.network(network.id)?.presence?.filter(isKey).length ?? 0) > 9);
    stops = false;
    const again = make();
    t.same((await again.reconcile()).failed, []);
    t.same((await again.drift()).differences, []);
    await again.renewKeys(true);
    t.equal((await spis()).size, 9);
    const sent = (await kernel.facts()).xfrm?.states.filter(({ src }) => src === '192.0.2.1');
    t.equal(sent?.length, 1, 'there is one to send with');
  },
);

t.test('a repair beside a renewal does not bring back what is retired', async (t) => {
  for (let later = 0; later < 12; later += 1) {
    const { kernel, keys, cnm, spis } = bench();
    await cnm.createNetwork(network);
    await cnm.createEndpoint(endpoint);
    keys.now = { secrets: ['s'.repeat(32)], period: 6, sending: 6, lasts: 1000 };
    await cnm.renewKeys(false);
    // As long as the real kernel takes: others get a turn at each step.
    kernel.beforeStep = () => setImmediate();
    const renewal = cnm.renewKeys(true);
    for (let turn = 0; turn < later; turn += 1) await setImmediate();
    await Promise.all([renewal, cnm.repairLinks()]);
    const known = cnm
      .network(network.id)
      ?.presence?.flatMap((step) => (step.do === 'xfrm.state.add' ? [step.spi] : []));
    t.same([...(await spis())].sort(), known?.sort(), `a repair that begins ${later} turns later`);
  }
});

t.test(
  'another way to the peer has come: keys stay those of the address that the network is on',
  async (t) => {
    const { kernel, keys, cnm } = bench();
    const peers = { ...network.options, peers: '192.0.2.2' };
    await cnm.createNetwork({ ...network, options: peers });
    await cnm.createEndpoint(endpoint);
    kernel.addLink({ name: 'eth1', addresses: [prefix('192.0.2.9/28')] });
    keys.now = { secrets: ['s'.repeat(32)], period: 6, sending: 6, lasts: 1000 };
    t.equal(await cnm.renewKeys(true), 1);
    const ends = (await kernel.facts()).xfrm?.states.flatMap(({ src, dst }) => [src, dst]);
    t.same([...new Set(ends)].sort(), ['192.0.2.1', '192.0.2.2']);
  },
);
