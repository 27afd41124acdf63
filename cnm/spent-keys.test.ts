/** Whatever happens to a host, no key of AES-GCM is sent with by two states, one after the other: each would count from the start. */
import fc from 'fast-check';
import t from 'tap';
import { overlay } from '../drivers/overlay/index.ts';
import type { XfrmStateFact } from '../kernel/facts.ts';
import { type FakeKernel, fakeKernel } from '../kernel/fake.ts';
import type { Plan, XfrmStateAdd } from '../kernel/step.ts';
import { memoryStore } from '../store/memory.ts';
import { ENDPOINT, NETWORK, UPLINK } from '../tests/encrypted-network.ts';
import type { Encryption } from './driver.ts';
import { createCnm } from './index.ts';
import { silent } from './log.ts';
import { isOnce, SpentKeys } from './spent-keys.ts';

/** A host whose machine and daemon end and begin again, with all states that its kernels were ever given to send with. */
class Host {
  readonly #store = memoryStore();
  readonly sent: string[] = [];
  keys: Encryption = { secrets: ['s'.repeat(32)], period: 5, sending: 5, lasts: 1000 };
  #kernel = this.#boot();
  #cnm = this.#start();

  #boot(): FakeKernel {
    const kernel = fakeKernel(UPLINK);
    const apply = kernel.apply.bind(kernel);
    kernel.apply = async (plan: Plan) => {
      // What a kernel has it does not make again.
      const there = new Set((await this.states()).map(({ spi }) => spi));
      this.sent.push(...plan.filter(isOnce).flatMap(({ spi, key }) => (there.has(spi) ? [] : [key])));
      await apply(plan);
    };
    return kernel;
  }

  #start() {
    const options = { kernel: this.#kernel, drivers: [overlay], log: silent, runDir: '/run/cnm' };
    return createCnm({ ...options, store: this.#store, encryption: () => this.keys });
  }

  async states(): Promise<readonly XfrmStateFact[]> {
    return (await this.#kernel.facts()).xfrm?.states ?? [];
  }

  get runs(): boolean {
    return this.#cnm.endpoint(NETWORK.id, ENDPOINT.id) !== undefined;
  }

  async does(what: (typeof DEEDS)[number]): Promise<void> {
    const { period } = this.keys;
    if (what === 'clock')
      this.keys = { ...this.keys, period: period + 1, sending: Math.max(this.keys.sending, period + 1) };
    else if (what === 'rotate') this.keys = { ...this.keys, sending: period + 1 };
    else if (what === 'renew') await this.#cnm.renewKeys(true);
    else if (what === 'half') await this.#cnm.renewKeys(false);
    // The fake kernel's states are the steps that made them.
    else if (what === 'flush') await this.#kernel.revert((await this.states()) as unknown as Plan);
    else if (what === 'repair') await this.#cnm.reconcile();
    else if (what === 'kill') await this.#again();
    else if (what === 'boot') {
      this.#kernel = this.#boot();
      await this.#again();
    } else await this.#toggle(what);
  }

  async #again(): Promise<void> {
    this.#cnm = this.#start();
    await this.#cnm.reconcile();
  }

  async #toggle(what: 'network' | 'endpoint'): Promise<void> {
    const cnm = this.#cnm;
    const there = cnm.network(NETWORK.id) !== undefined;
    if (this.runs) await cnm.deleteEndpoint(NETWORK.id, ENDPOINT.id);
    else if (there && what === 'endpoint') await cnm.createEndpoint(ENDPOINT);
    else if (there) await cnm.deleteNetwork(NETWORK.id);
    else await cnm.createNetwork(NETWORK);
  }
}

const DEEDS = [
  'endpoint',
  'network',
  'clock',
  'rotate',
  'renew',
  'half',
  'flush',
  'repair',
  'kill',
  'boot',
] as const;

t.test('no key is sent with twice, and there always is one to send with', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.constantFrom(...DEEDS), { maxLength: 30 }), async (deeds) => {
      const host = new Host();
      for (const deed of ['network' as const, 'endpoint' as const, ...deeds]) await host.does(deed);
      if (new Set(host.sent).size < host.sent.length) return false;
      await host.does('repair');
      const own = (await host.states()).filter(({ src }) => src === '192.0.2.1');
      return host.runs ? own.length > 0 : own.length === 0;
    }),
    { numRuns: 60 },
  );
  t.pass();
});

t.test('forgotten when nobody could want to use them any more', async (t) => {
  const store = memoryStore();
  const clock = { now: new Date('2026-01-01') };
  const spent = new SpentKeys(store, () => clock.now);
  const once = (spi: number) => {
    const way = { src: '192.0.2.1', dst: '192.0.2.2', reqid: 1, cipher: 'gcm', key: '' } as const;
    return { do: 'xfrm.state.add', spi, once: true, ...way } as unknown as XfrmStateAdd;
  };
  const hour = 3_600_000;
  await spent.spend([once(1)], hour);
  clock.now = new Date('2026-01-02');
  await spent.spend([once(2)], hour);
  clock.now = new Date('2026-01-03T01:00:00Z');
  await spent.spend([once(3)], hour);
  const names = (...spis: number[]) => spis.map((spi) => `192.0.2.1 192.0.2.2 ${spi}`);
  t.same([...spent.but([])], names(2, 3));
  t.same([...spent.but([once(3)])], names(2), 'a network goes on with what it has');
  t.same([...new SpentKeys(store, () => clock.now).but([])], names(2, 3), 'the next daemon knows');
  clock.now = new Date('2026-01-05');
  await spent.spend([once(4)], 7 * 24 * hour);
  t.equal(spent.but([]).size, 3, 'long periods, long memory');
});
