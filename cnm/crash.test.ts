/**
 * Crash at every point, in memory: the life of networks, endpoints and sandboxes is cut off before each kernel step and
 * before and after each store write; a new Cnm on the same kernel and store must find its way back. The same walk through
 * the real daemon, killed with SIGKILL, is tests/faults/.
 */
import t from 'tap';
import type { Test } from 'tap';
import { prefix } from '../address/prefix.ts';
import { drivers } from '../drivers/index.ts';
import { bridge } from '../drivers/bridge/index.ts';
import { type FakeKernel, fakeKernel } from '../kernel/fake.ts';
import { memoryStore } from '../store/memory.ts';
import type { Store } from '../store/store.ts';
import type { Cnm } from './cnm.ts';
import { createCnm } from './index.ts';
import { silent } from './log.ts';
import type { EndpointSpec, NetworkSpec } from './model.ts';

const network: NetworkSpec = {
  id: 'a1'.repeat(32),
  name: 'demo',
  driver: 'cnm-bridge',
  origin: 'cnm',
  options: {},
  internal: false,
  enableIpv4: true,
  enableIpv6: true,
  ipv4: [{ addressSpace: '', pool: prefix('10.1.0.0/24'), gateway: prefix('10.1.0.1/24'), aux: {} }],
  ipv6: [{ addressSpace: '', pool: prefix('fd00:1::/64'), gateway: prefix('fd00:1::1/64'), aux: {} }],
};
const ofDocker: EndpointSpec = {
  id: 'e1'.repeat(32),
  network: network.id,
  address: prefix('10.1.0.2/24'),
  options: {},
  ports: [],
};
const standalone: EndpointSpec = {
  ...ofDocker,
  id: 'e2'.repeat(32),
  address: prefix('10.1.0.3/24'),
  addressV6: prefix('fd00:1::3/64'),
};

/** The same network as the other driver makes it: nothing of it is in the kernel but for its endpoints. */
const WORLDS: readonly { readonly network: NetworkSpec; readonly kernel: () => FakeKernel }[] = [
  { network, kernel: fakeKernel },
  {
    network: {
      ...network,
      driver: 'cnm-overlay',
      options: { vni: '4097', peers: '192.0.2.1,192.0.2.2', 'ip-range': 'any' },
    },
    kernel: () => fakeKernel({ links: [{ name: 'eth0', addresses: [prefix('192.0.2.1/24')] }] }),
  },
];

/** The whole life, each operation with its name. */
const life: readonly (readonly [string, (cnm: Cnm, network: NetworkSpec) => Promise<unknown>])[] = [
  ['createNetwork', (cnm, network) => cnm.createNetwork(network)],
  ['createEndpoint', (cnm) => cnm.createEndpoint(ofDocker)],
  ['join', (cnm) => cnm.join(network.id, ofDocker.id, '/var/run/docker/netns/x')],
  ['createSandbox', (cnm) => cnm.createSandbox('web')],
  ['joinSandbox', (cnm) => joinOnce(cnm)],
  ['leaveSandbox', (cnm) => cnm.leaveSandbox('web', network.id)],
  ['deleteSandbox', (cnm) => cnm.deleteSandbox('web')],
  ['leave', (cnm) => cnm.leave(network.id, ofDocker.id)],
  ['deleteEndpoint', (cnm) => cnm.deleteEndpoint(network.id, ofDocker.id)],
  ['deleteNetwork', (cnm) => cnm.deleteNetwork(network.id)],
];

/** As `cnm sandbox join` does it: who asks again asks for a new endpoint at a new address, unless the sandbox has joined. */
let joins = 0;
function joinOnce(cnm: Cnm): Promise<unknown> {
  if (cnm.endpoints().some(({ attachment }) => attachment?.kind === 'cnm')) return Promise.resolve();
  joins += 1;
  const number = 3 + (joins % 200);
  const addresses = { address: prefix(`10.1.0.${number}/24`), addressV6: prefix(`fd00:1::${number}/64`) };
  return cnm.joinSandbox('web', { ...standalone, ...addresses, id: `e2${String(joins).padStart(62, '0')}` });
}

class Killed extends Error {}

/** A process that dies at its `at`-th point: everything after it is never reached. */
class Death {
  #points = 0;
  /** What the last point was that it lived through. */
  last = 'nothing';
  dead = false;
  readonly #at: number;
  constructor(at: number) {
    this.#at = at;
  }
  get points(): number {
    return this.#points;
  }
  point(what: string): void {
    this.dead = this.#points >= this.#at;
    if (this.dead) throw new Killed();
    this.last = what;
    this.#points += 1;
  }
}

function mortal(store: Store, death: Death): Store {
  return {
    get: (key) => store.get(key),
    list: (start) => store.list(start),
    notices: store.notices,
    close: () => store.close(),
    async write(changes) {
      death.point('before a write');
      await store.write(changes);
      death.point('after a write');
    },
  };
}

function born(kernel: FakeKernel, store: Store, death?: Death): Cnm {
  kernel.beforeStep =
    death &&
    ((_step, phase) => {
      death.point(phase);
    });
  const used = death ? mortal(store, death) : store;
  return createCnm({ kernel, store: used, drivers, log: silent, runDir: '/run/cnm' });
}

/** Who is killed goes no further, whatever would have been made of it. */
async function live(cnm: Cnm, from = 0, spec = network, death?: Death): Promise<number> {
  for (let step = from; step < life.length; step += 1) {
    try {
      await life[step]?.[1](cnm, spec);
      if (death?.dead === true) return step;
    } catch {
      return step;
    }
  }
  return life.length;
}

for (const world of WORLDS)
  t.test(
    `${world.network.driver}: killed at every point, started again, it goes on and leaves nothing`,
    (t) => killedEverywhere(t, world),
  );

async function killedEverywhere(t: Test, { network, kernel: host }: (typeof WORLDS)[number]): Promise<void> {
  const whole = new Death(Infinity);
  const undisturbed = await live(born(host(), memoryStore(), whole), 0, network);
  t.equal(undisturbed, life.length, 'the undisturbed life ends');
  t.ok(whole.points > 60, `there are ${whole.points} points to die at`);

  for (let at = 0; at < whole.points; at += 1) {
    const kernel = host();
    const store = memoryStore();
    const before = JSON.stringify(kernel.snapshot(), withoutSysctls);
    const death = new Death(at);
    const cut = await live(born(kernel, store, death), 0, network, death);
    const where = `point ${at}, in ${life[cut]?.[0] ?? 'nothing'}`;

    const cnm = born(kernel, store);
    const report = await cnm.reconcile();
    t.same(report.failed, [], `${where}: reconcile succeeds`);
    t.same(
      await cnm.drift(),
      { differences: [], orphans: [], rulesetCurrent: true },
      `${where}: kernel and store agree`,
    );
    if (['deleteEndpoint', 'deleteNetwork'].includes(life[cut]?.[0] ?? '') && death.last === 'revert') {
      t.equal(
        cnm.endpoint(network.id, ofDocker.id),
        undefined,
        `${where}: a delete that has begun is finished, for Docker's retry is empty`,
      );
      if (life[cut]?.[0] === 'deleteNetwork') t.equal(cnm.network(network.id), undefined, where);
    }
    // An endpoint whose join was cut off is undone as a whole; who asked for it asks again.
    const resume = life[cut]?.[0] === 'join' && cnm.endpoints().length === 0 ? cut - 1 : cut;
    t.equal(
      await live(cnm, resume, network),
      life.length,
      `${where}: the same request again succeeds, and so does the rest`,
    );
    t.equal(
      JSON.stringify(kernel.snapshot(), withoutSysctls),
      before,
      `${where}: nothing is left in the kernel`,
    );
    t.same(store.list(''), [], `${where}: nothing is left in the store`);
  }
}

t.test(
  'killed while a sandbox leaves the network with its default route: another one carries it',
  async (t) => {
    const second = secondNetwork();
    const joined = async (kernel: FakeKernel, store: Store, death?: Death) => {
      const cnm = born(kernel, store);
      await cnm.createNetwork(network);
      await cnm.createNetwork(second);
      await cnm.createSandbox('web');
      await cnm.joinSandbox('web', standalone);
      const address = { address: prefix('10.2.0.3/24'), addressV6: prefix('fd00:2::3/64') };
      await cnm.joinSandbox('web', { ...standalone, ...address, id: 'e3'.repeat(32), network: second.id });
      return born(kernel, store, death);
    };
    const whole = new Death(Infinity);
    await (await joined(fakeKernel(), memoryStore(), whole)).leaveSandbox('web', network.id);
    t.ok(whole.points > 5);
    for (let at = 0; at < whole.points; at += 1) {
      const kernel = fakeKernel();
      const store = memoryStore();
      const mortalOne = await joined(kernel, store, new Death(at));
      await t.rejects(mortalOne.leaveSandbox('web', network.id));
      const cnm = born(kernel, store);
      await cnm.reconcile();
      const [sandbox] = cnm.sandboxes();
      const { netns } = await kernel.facts({ netns: [sandbox?.path ?? ''] });
      const routes = netns.get(sandbox?.path ?? '')?.routes.map(({ to }) => to);
      const defaults = routes?.filter((to) => to.endsWith('/0')).sort();
      t.same(defaults, ['0.0.0.0/0', '::/0'], `point ${at}: a default route of each family`);
    }
  },
);

function secondNetwork(): NetworkSpec {
  const ipv4 = { addressSpace: '', pool: prefix('10.2.0.0/24'), gateway: prefix('10.2.0.1/24'), aux: {} };
  const ipv6 = { addressSpace: '', pool: prefix('fd00:2::/64'), gateway: prefix('fd00:2::1/64'), aux: {} };
  return { ...network, id: 'a2'.repeat(32), name: 'second', ipv4: [ipv4], ipv6: [ipv6] };
}

t.test('a store that fails (ENOSPC) at any write: an error, and nothing half made', async (t) => {
  for (let failing = 0; failing < 12; failing += 1) {
    const kernel = fakeKernel();
    const real = memoryStore();
    const before = JSON.stringify(kernel.snapshot(), withoutSysctls);
    let writes = 0;
    const store: Store = {
      ...mortal(real, new Death(Infinity)),
      write: (changes) => (writes++ === failing ? Promise.reject(new Error('ENOSPC')) : real.write(changes)),
    };
    const cnm = createCnm({ kernel, store, drivers: [bridge], log: silent, runDir: '/run/cnm' });
    const cut = await live(cnm);
    t.ok(cut < life.length, `write ${failing} fails in ${life[cut]?.[0] ?? ''}`);
    t.equal(await live(cnm, cut), life.length, 'with space again the rest succeeds');
    t.equal(JSON.stringify(kernel.snapshot(), withoutSysctls), before);
    t.same(real.list(''), []);
  }
});

function withoutSysctls(key: string, value: unknown): unknown {
  return key === 'sysctls' ? undefined : value;
}
