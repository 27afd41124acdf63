/** Docker Swarm: what a manager's allocator is answered, and networks that follow the nodes. */
import t from 'tap';
import { ip } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import { overlay } from '../drivers/overlay/index.ts';
import { fakeKernel } from '../kernel/fake.ts';
import type { Step } from '../kernel/step.ts';
import { memoryStore } from '../store/memory.ts';
import type { EngineNetwork } from './cnm.ts';
import { createCnm } from './index.ts';
import { silent } from './log.ts';
import type { NetworkSpec } from './model.ts';
import { createSwarmAgreement } from './swarm-agreement.ts';

const HERE = ip('192.0.2.1');
const [B, C] = [ip('192.0.2.2'), ip('192.0.2.3')];

const network = (id: string, options: Readonly<Record<string, string>> = {}): NetworkSpec => ({
  id,
  driver: 'cnm-overlay',
  origin: 'docker',
  options,
  internal: false,
  enableIpv4: true,
  enableIpv6: false,
  ipv4: [{ addressSpace: '', pool: prefix('10.1.0.0/24'), gateway: prefix('10.1.0.1/24'), aux: {} }],
  ipv6: [],
});

function bench() {
  const kernel = fakeKernel({ links: [{ name: 'eth0', addresses: [prefix('192.0.2.1/24')] }] });
  const store = memoryStore();
  const make = () => createCnm({ kernel, store, drivers: [overlay], log: silent, runDir: '/run/cnm' });
  return { kernel, store, make, cnm: make() };
}

const endpoint = { id: 'e1'.repeat(32), address: prefix('10.1.0.2/24'), options: {}, ports: [] };
const ON_NODES = { vni: '4097', peers: 'swarm', 'ip-range': 'any' };

/** Where copies go, as the records say and as the kernel has it. */
async function copies({ kernel, cnm }: Pick<ReturnType<typeof bench>, 'kernel' | 'cnm'>, id: string) {
  const plan: readonly Step[] = cnm.network(id)?.presence ?? [];
  t.same((await cnm.drift()).differences, []);
  const held = JSON.stringify(kernel.snapshot());
  return plan.flatMap((step) => {
    if (step.do === 'vtep.run') return step.peers;
    if (step.do !== 'fdb.add') return [];
    t.ok(held.includes(step.dst), `${step.dst} is in the kernel`);
    return [step.dst];
  });
}

t.test('P22 an allocation is kept over a restart, and freed once', async (t) => {
  const { cnm, make } = bench();
  const answer = await cnm.allocateNetwork(network('a'));
  t.same(await cnm.allocateNetwork(network('a')), answer);
  const again = make();
  t.same(await again.allocateNetwork(network('a', answer)), answer, 'a new leader has it from Swarm');
  await t.rejects(again.allocateNetwork(network('b', { vni: answer['vni'] ?? '' })), {
    code: 'network-conflict',
  });
  await again.freeNetwork('a');
  await again.freeNetwork('a');
  t.same(again.allocations(), []);
  t.match(await again.allocateNetwork(network('b', { vni: answer['vni'] ?? '' })), { vni: answer['vni'] });
});

for (const vtep of ['kernel', 'userspace']) {
  t.test(`a network follows the nodes: ${vtep}`, async (t) => {
    const parts = bench();
    const { kernel, cnm, make } = parts;
    const spec = network('a1'.repeat(32), { ...ON_NODES, vtep });
    await t.rejects(cnm.createNetwork(spec), { code: 'option-invalid', message: /no node of a swarm/ });
    await cnm.addNode({ address: HERE, self: true });
    await cnm.addNode({ address: B, self: false });
    await cnm.createNetwork(spec);
    const empty = kernel.snapshot();
    await cnm.createEndpoint({ ...endpoint, network: spec.id });
    t.same(await copies(parts, spec.id), [B]);
    await cnm.addNode({ address: C, self: false });
    t.same(await copies(parts, spec.id), [B, C]);
    await cnm.removeNode(B);
    t.same(await copies(parts, spec.id), [C]);
    t.notOk(JSON.stringify(kernel.snapshot()).includes(B), 'nothing of it is left');
    t.same(await copies({ kernel, cnm: make() }, spec.id), [C], 'after a restart');
    await cnm.removeNode(C);
    t.same(await copies(parts, spec.id), []);
    await cnm.addNode({ address: B, self: false });
    t.same(await copies(parts, spec.id), [B]);
    await cnm.deleteEndpoint(spec.id, endpoint.id);
    t.same(kernel.snapshot(), empty);
  });

  t.test(`a kernel that refuses, and a crash, leave nothing: ${vtep}`, async (t) => {
    const parts = bench();
    const { kernel, cnm, make } = parts;
    const spec = network('a1'.repeat(32), { ...ON_NODES, vtep });
    for (const address of [HERE, B]) await cnm.addNode({ address, self: address === HERE });
    await cnm.createNetwork(spec);
    const empty = kernel.snapshot();
    await cnm.createEndpoint({ ...endpoint, network: spec.id });
    for (const address of [C, B]) {
      const stop = kernel.failAt(() => true, 'EPERM');
      await (address === C ? cnm.addNode({ address, self: false }) : cnm.removeNode(address));
      stop();
    }
    const again = make();
    await again.reconcile({ removeOrphans: true });
    await again.followHosts();
    t.same(await copies({ kernel, cnm: again }, spec.id), [C]);
    t.notOk(JSON.stringify(kernel.snapshot()).includes(B));
    await again.deleteNetwork(spec.id);
    t.notOk(JSON.stringify(kernel.snapshot()).includes(C));
    await again.createNetwork(spec);
    t.same(kernel.snapshot(), empty);
  });
}

t.test('what Swarm has not told is taken from the Engine’s list', async (t) => {
  const { cnm } = bench();
  await cnm.addNode({ address: HERE, self: true });
  await cnm.allocateNetwork(network('a'));
  let now = Date.now() + 60_000;
  const agreement = createSwarmAgreement({
    cnm,
    log: silent,
    interval: 5000,
    minimumAge: 15_000,
    now: () => now,
  });
  const listed = (id: string, peers: EngineNetwork['peers'], ingress = false): EngineNetwork => ({
    ...{ id, name: id, driver: 'x', endpoints: [], ingress },
    ...(peers && { peers }),
  });
  const look = async (...networks: EngineNetwork[]) => {
    await agreement.look(networks);
    now += 6000;
    return cnm.nodes().map(({ address }) => address);
  };
  t.same(await look(listed('a', undefined)), [HERE], 'of a local network nothing follows');
  t.same(await look(listed('a', [HERE, B, C])), [HERE, B, C], 'who is on one is a node');
  t.same(await look(listed('a', [HERE])), [HERE, B, C], 'who is not on one may still be a node');
  t.same(
    await look(listed('a', [HERE]), listed('i', [HERE, B], true)),
    [HERE, B, C],
    'missing once is not gone',
  );
  t.same(await look(listed('a', [HERE]), listed('i', [HERE, B], true)), [HERE, B]);
  t.equal(cnm.allocations().length, 1);
  await look();
  await look();
  t.same(cnm.allocations(), []);
});

t.test('a node that cannot be followed when it comes is followed later', async (t) => {
  const parts = bench();
  const { kernel, cnm } = parts;
  const spec = network('a1'.repeat(32), ON_NODES);
  await cnm.addNode({ address: HERE, self: true });
  await cnm.createNetwork(spec);
  await cnm.createEndpoint({ ...endpoint, network: spec.id });
  kernel.failAt((step, phase) => phase === 'apply' && step.do === 'fdb.add', 'ENOBUFS', 1);
  await cnm.addNode({ address: B, self: false });
  t.same(await copies(parts, spec.id), [], 'the record says what there is');
  await cnm.followHosts();
  t.same(await copies(parts, spec.id), [B]);
});
