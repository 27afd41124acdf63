/**
 * Whatever is created and removed in whatever order, two at a time, with daemons that are killed, kernels that fail, and a NIC that is unplugged and plugged in again in between: the
 * VLAN interfaces on the host are exactly those that the live networks are on; the user's stay. In memory; with packets in the VM.
 */
import assert from 'node:assert/strict';
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import fc from 'fast-check';
import { mac } from '../../address/mac.ts';
import { prefix } from '../../address/prefix.ts';
import type { Cnm } from '../../cnm/cnm.ts';
import { createCnm } from '../../cnm/index.ts';
import { silent } from '../../cnm/log.ts';
import type { EndpointSpec, NetworkSpec } from '../../cnm/model.ts';
import { fakeKernel, type StrangerLink } from '../../kernel/fake.ts';
import { memoryStore } from '../../store/memory.ts';
import type { Store } from '../../store/store.ts';
import { macvlan } from './index.ts';

/** What a network may be on, and the VLANs that have to be made for it. */
const WIRES: readonly (readonly [options: Readonly<Record<string, string>>, needs: readonly string[]])[] = [
  [{ parent: 'eth0' }, []],
  [{ parent: 'eth0.100' }, ['eth0.100']],
  [{ parent: 'eth0', vlan: '100', macvlan_mode: 'private' }, ['eth0.100']],
  [{ parent: 'eth0.10' }, ['eth0.10']],
  [{ parent: 'eth0.10.100' }, ['eth0.10', 'eth0.10.100']],
  // Of these and those before them only one kind can be there at a time.
  [{ parent: 'eth0.10', vlan_protocol: '802.1ad' }, ['eth0.10']],
  [{ parent: 'eth0.10.7', vlan_protocol: '802.1ad,802.1q' }, ['eth0.10', 'eth0.10.7']],
  [{ parent: 'eth0', promiscuous: 'true' }, []],
  [{ parent: 'eth0.100', promiscuous: 'true', host_access: 'true' }, ['eth0.100']],
  [{ parent: 'eth0', promiscuous: 'true', host_access: 'true' }, []],
  [{ parent: 'eth0.5' }, []],
  [{ parent: 'eth0', vlan: '5' }, []],
  [{ parent: 'eth0.5.7' }, ['eth0.5.7']],
  [{}, []],
];

const LINKS: readonly StrangerLink[] = [
  { name: 'eth0', mac: mac('52:54:00:00:00:01') },
  {
    name: 'eth0.5',
    mac: mac('52:54:00:00:00:01'),
    link: { kind: 'vlan', parent: 'eth0', id: 5, protocol: '802.1q' },
  },
];
const USERS = ['eth0', 'eth0.5', 'lo'];

/** Dies at its `at`-th point: from then on nothing that it does happens any more. */
class Life {
  readonly dead: Promise<'dead'>;
  #left: number;
  #die: (word: 'dead') => void = () => undefined;

  constructor(at = Infinity) {
    this.#left = at;
    this.dead = new Promise((resolve) => (this.#die = resolve));
  }

  point(): Promise<void> {
    if (this.#left > 0) {
      this.#left -= 1;
      return Promise.resolve();
    }
    this.#die('dead');
    return new Promise(() => undefined);
  }

  /** As the daemon of this life sees it. */
  store(store: Store): Store {
    return {
      ...{ notices: store.notices, get: (key) => store.get(key), list: (begin) => store.list(begin) },
      close: () => store.close(),
      write: async (changes) => {
        await this.point();
        await store.write(changes);
        await this.point();
      },
    };
  }
}

type Act =
  | { readonly does: 'create'; readonly n: number; readonly wire: number }
  | { readonly does: 'remove' | 'start'; readonly n: number };
type Event = { readonly acts: readonly Act[] } | { readonly deletes: string } | { readonly unplugs: 'eth0' };
type Fault = { readonly dies: number } | { readonly fails: number; readonly times: number } | undefined;

class World {
  readonly #kernel = fakeKernel({ links: LINKS });
  readonly #store = memoryStore();
  readonly #before = this.#snapshot();
  #cnm: Cnm = this.#live(new Life());

  #live(life: Life): Cnm {
    // A step takes its time, as a record does: what runs side by side meets in the middle.
    this.#kernel.beforeStep = async () => {
      await setImmediate();
      await life.point();
    };
    return createCnm({
      kernel: this.#kernel,
      store: life.store(this.#store),
      drivers: [macvlan],
      log: silent,
      runDir: '/run/cnm',
    });
  }

  async perform(event: Event, fault: Fault): Promise<void> {
    if ('deletes' in event) return this.#deleteByHand(event.deletes);
    if ('unplugs' in event) return this.#unplug(event.unplugs);
    const life = new Life(fault && 'dies' in fault ? fault.dies : Infinity);
    this.#cnm = this.#live(life);
    let steps = 0;
    const { fails, times } = fault && 'fails' in fault ? fault : { fails: Infinity, times: 0 };
    const stop = this.#kernel.failAt(() => steps++ >= fails, 'ENOMEM', times);
    const done = await Promise.all(
      event.acts.map((act) =>
        Promise.race([
          this.#act(act).then(
            () => 'done' as const,
            () => 'failed' as const,
          ),
          life.dead,
        ]),
      ),
    );
    stop();
    // A write that was on its way to the disk is on it before anybody reads there again.
    await setImmediate();
    // Without a fault nothing may need to be put right.
    if (fault !== undefined) {
      this.#cnm = this.#live(new Life());
      assert.deepEqual((await this.#cnm.reconcile()).failed, []);
    }
    for (const [index, act] of event.acts.entries()) if (done[index] === 'done') this.#assertDone(act);
  }

  async #act(act: Act): Promise<void> {
    if (act.does === 'remove') return this.#cnm.deleteNetwork(networkId(act.n));
    if (act.does === 'create') {
      if (this.#cnm.network(networkId(act.n)) !== undefined) return;
      return this.#cnm.createNetwork(networkSpec(act.n, act.wire));
    }
    await this.#cnm.createEndpoint(endpointSpec(act.n));
  }

  /** What was answered is so, whatever came then. */
  #assertDone({ does, n }: Act): void {
    if (does === 'start') return;
    assert.equal(
      this.#cnm.network(networkId(n)) !== undefined,
      does === 'create',
      `${does} ${n} was answered`,
    );
  }

  async #deleteByHand(name: string): Promise<void> {
    const { host } = await this.#kernel.facts();
    if (host.links.get(name)?.mark === undefined) return;
    this.#kernel.destroyLink(name);
    assert.deepEqual((await this.#cnm.reconcile()).failed, []);
  }

  /** All VLANs of it go, too; the user makes his own again. */
  async #unplug(name: string): Promise<void> {
    this.#kernel.destroyLink(name);
    assert.deepEqual((await this.#cnm.reconcile()).failed, [], 'nothing is tried without it');
    for (const link of LINKS) this.#kernel.addLink(link);
    assert.deepEqual((await this.#cnm.reconcile()).failed, []);
  }

  async check(): Promise<void> {
    const live = this.#cnm.networks().map(({ options }) => JSON.stringify(options));
    const needed = WIRES.flatMap(([options, needs]) => (live.includes(JSON.stringify(options)) ? needs : []));
    const { host } = await this.#kernel.facts();
    const there = [...host.links.values()].filter(({ kind }) => kind === undefined || kind === 'vlan');
    assert.deepEqual(
      there.map(({ name }) => name).sort(),
      [...new Set([...USERS, ...needed])].sort(),
      'the VLANs on the host are those in use, and the user’s',
    );
    for (const name of ['eth0', 'eth0.100']) {
      const isAsked = this.#cnm
        .networks()
        .some(({ options }) => options['parent'] === name && options['promiscuous'] === 'true');
      assert.equal(host.links.get(name)?.promisc ?? false, isAsked, `${name} promiscuous`);
    }
    const { differences, orphans } = await this.#cnm.drift();
    assert.deepEqual([differences, orphans], [[], []]);
  }

  async end(): Promise<void> {
    for (const { id } of this.#cnm.networks()) await this.#cnm.deleteNetwork(id);
    assert.equal(this.#snapshot(), this.#before);
    assert.deepEqual(this.#store.list(''), []);
  }

  #snapshot(): string {
    return JSON.stringify(this.#kernel.snapshot());
  }
}

function networkId(n: number): string {
  return `a${n}`.repeat(32);
}

function networkSpec(n: number, wire: number): NetworkSpec {
  return {
    id: networkId(n),
    driver: 'cnm-macvlan',
    origin: 'docker',
    options: WIRES[wire]?.[0] ?? {},
    internal: false,
    enableIpv4: true,
    enableIpv6: false,
    ipv4: [{ addressSpace: '', pool: prefix(`10.${n}.0.0/24`), aux: {} }],
    ipv6: [],
  };
}

function endpointSpec(n: number): EndpointSpec {
  const address = prefix(`10.${n}.0.2/24`);
  return { id: `e${n}`.repeat(32), network: networkId(n), address, options: {}, ports: [] };
}

const n = fc.integer({ min: 1, max: 4 });
const act: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ does: fc.constant('create' as const), n, wire: fc.nat(WIRES.length - 1) }),
  },
  { weight: 3, arbitrary: fc.record({ does: fc.constant('remove' as const), n }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant('start' as const), n }) },
);
const event: fc.Arbitrary<Event> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      acts: fc.uniqueArray(act, { selector: ({ n }) => n, minLength: 1, maxLength: 3 }),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ unplugs: 'eth0' } as const) },
  { weight: 1, arbitrary: fc.record({ deletes: fc.constantFrom('eth0.100', 'eth0.10', 'eth0.10.100') }) },
);
const fault: fc.Arbitrary<Fault> = fc.oneof(
  { weight: 2, arbitrary: fc.constant(undefined) },
  { weight: 1, arbitrary: fc.record({ dies: fc.nat(30) }) },
  { weight: 1, arbitrary: fc.record({ fails: fc.nat(12), times: fc.integer({ min: 1, max: 4 }) }) },
);

t.test('whatever happened before, the VLANs on the host are exactly those in use', async (t) => {
  const events = fc.noBias(fc.array(fc.tuple(event, fault), { minLength: 10, maxLength: 25 }));
  const property = fc.asyncProperty(events, async (events) => {
    const world = new World();
    for (const [what, fault] of events) {
      await world.perform(what, fault);
      await world.check();
    }
    await world.end();
  });
  await fc.assert(property, { numRuns: 120 });
  t.pass('they are');
});
