/**
 * Any operations of several hosts while their networks lose, delay and repeat, hosts are killed and leases end: no address is
 * ever two hosts', none that was answered is lost, and in the end every address can be had and nothing is left behind.
 */
import { setTimeout } from 'node:timers/promises';
import fc from 'fast-check';
import t from 'tap';
import { ip } from '../../address/ip.ts';
import type { Ip } from '../../address/ip.ts';
import type { Fate } from '../../store/cluster-fake.ts';
import type { HostDouble } from '../../tests/cluster-double.ts';
import { hosts } from '../../tests/cluster-double.ts';

const ID = 'cnm-global/10.5.0.0/27';
const USABLE = 30;

type Step =
  | { readonly do: 'take'; readonly host: number; readonly named?: number; readonly name?: string }
  | { readonly do: 'release'; readonly host: number; readonly which: number }
  | { readonly do: 'cut' | 'heal' | 'crash' | 'start' | 'stop'; readonly host: number }
  | { readonly do: 'fate'; readonly host: number; readonly fate: Fate }
  | { readonly do: 'pass' | 'deliver' | 'compact' | 'wait' | 'idle' };

const host = fc.nat(2);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 12, arbitrary: fc.record({ do: fc.constant('take' as const), host }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('take' as const), host, named: fc.integer({ min: 1, max: 30 }) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('take' as const), host, name: fc.constantFrom('a', 'b') }),
  },
  { weight: 10, arbitrary: fc.record({ do: fc.constant('release' as const), host, which: fc.nat(20) }) },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constantFrom('cut' as const, 'heal', 'crash', 'start', 'stop'), host }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('fate' as const),
      host,
      fate: fc.constantFrom<Fate>('answered', 'lost', 'unanswered', 'late'),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constantFrom('pass' as const, 'deliver', 'compact', 'wait', 'idle') }),
  },
);

/** Who was answered what, and not given back. */
class Model {
  readonly owner = new Map<Ip, string>();

  took(address: Ip, host: string): void {
    const other = this.owner.get(address);
    if (other !== undefined) throw new Error(`${address} was given to ${host}, and ${other} has it`);
    this.owner.set(address, host);
  }

  of(host: string): readonly Ip[] {
    return [...this.owner].filter(([, one]) => one === host).map(([address]) => address);
  }
}

class World {
  readonly model = new Model();
  readonly under = new Set<Promise<void>>();
  readonly #failed: unknown[] = [];
  /** Whose releases may or may not have been done when its host was killed. */
  readonly #releasing = new Map<HostDouble, Set<Ip>>();
  readonly #all: readonly HostDouble[];
  readonly #server: Awaited<ReturnType<typeof hosts>>['server'];

  constructor({ hosts: all, server }: Awaited<ReturnType<typeof hosts>>) {
    this.#all = all;
    this.#server = server;
  }

  host(n: number): HostDouble {
    const found = this.#all[n];
    if (found === undefined) throw new RangeError();
    return found;
  }

  async run(step: Step): Promise<void> {
    if ('host' in step) await this.#ofHost(step, this.host(step.host));
    else if (step.do === 'pass') this.#server.advance(60_000);
    else if (step.do === 'deliver') this.#server.deliverLate();
    else if (step.do === 'compact') this.#server.compact();
    else if (step.do === 'idle') await Promise.all(this.under);
    else await setTimeout(2);
    if (this.under.size > 12) await Promise.race(this.under);
    if (this.#failed.length > 0) throw this.#failed[0];
  }

  async #ofHost(step: Extract<Step, { readonly host: number }>, host: HostDouble): Promise<void> {
    if (step.do === 'start') await this.start(host);
    if (!host.runs || step.do === 'start') return;
    if (step.do === 'take') this.#track(host, () => this.take(host, step));
    if (step.do === 'release') this.#track(host, () => this.#release(host, step.which));
    if (step.do === 'cut') host.client.cut();
    if (step.do === 'heal') host.client.heal();
    if (step.do === 'fate') host.client.fate = () => step.fate;
    if (step.do === 'crash') await host.crash();
    // What is under way is answered before a daemon stops.
    if (step.do === 'stop') await Promise.all(this.under).then(() => host.stop());
  }

  async start(host: HostDouble): Promise<void> {
    if (host.runs) return;
    await host.start();
    const has = new Set(host.leases(ID));
    const releasing = this.#releasing.get(host) ?? new Set();
    this.#releasing.delete(host);
    for (const address of this.model.of(host.name))
      if (!has.has(address)) throw new Error(`${address} was answered by ${host.name} and is lost`);
    for (const address of has) {
      if (this.model.owner.get(address) === host.name) continue;
      // Taken and not answered, or released and not answered: nobody else may have it.
      this.model.took(address, host.name);
      releasing.delete(address);
    }
  }

  async take(
    host: HostDouble,
    { named, name }: { readonly named?: number; readonly name?: string } = {},
  ): Promise<boolean> {
    const { ipam } = host;
    try {
      const address = await host.address(ID, {
        ...(named !== undefined && { address: ip(`10.5.0.${named}`) }),
        ...(name !== undefined && { name }),
      });
      if (host.runs && host.ipam === ipam) this.model.took(address, host.name);
      return true;
    } catch (error) {
      const code = (error as { readonly code?: string }).code ?? '';
      if (!['pool-exhausted', 'address-taken', 'cluster-unreachable'].includes(code)) throw error;
      return false;
    }
  }

  async #release(host: HostDouble, which: number): Promise<boolean> {
    const own = this.model.of(host.name);
    const address = own[which % own.length];
    if (address === undefined) return true;
    // From here on it may be given to others.
    this.model.owner.delete(address);
    const releasing = this.#releasing.get(host) ?? new Set<Ip>();
    this.#releasing.set(host, releasing.add(address));
    await host.ipam.releaseAddress(ID, address);
    releasing.delete(address);
    return true;
  }

  /** A host that is killed answers no more. */
  #track(host: HostDouble, work: () => Promise<boolean>): void {
    const { ipam } = host;
    const killed = (async () => {
      while (host.runs && host.ipam === ipam) await setTimeout(5);
    })();
    const one = Promise.race([work(), killed])
      .then(() => undefined)
      .catch((error: unknown) => void this.#failed.push(error))
      .finally(() => this.under.delete(one));
    this.under.add(one);
  }

  /** All is well again: every address is to be had, once. */
  async end(): Promise<void> {
    await Promise.all(this.under);
    for (const host of this.#all) {
      await this.start(host);
      host.client.heal();
      host.client.fate = () => 'answered';
    }
    this.#server.deliverLate();
    await until('all to be there', () => this.#all.every(({ ipam }) => ipam.cluster?.trouble === ''));
    await until(
      'every address to be had',
      async () => {
        for (const host of this.#all) while (await this.take(host));
        return this.model.owner.size === USABLE;
      },
      () => `${[...this.model.owner].join(' ')}\n${JSON.stringify(this.#server.entries('ipam/block/'))}`,
    );
    if (this.#failed.length > 0) throw this.#failed[0];
    for (const host of this.#all) await host.ipam.releasePool(ID);
    const left = () => this.#server.entries('ipam/').filter(({ key }) => /block|pool\//.test(key));
    await until(
      'nothing to be left',
      () => left().length === 0,
      () => JSON.stringify(left()),
    );
    for (const host of this.#all) await host.stop();
  }
}

async function until(what: string, holds: () => boolean | Promise<boolean>, told = () => ''): Promise<void> {
  for (let n = 0; n < 6000; n++) {
    if (await holds()) return;
    await setTimeout(10);
  }
  throw new Error(`waited 60 s for ${what}: ${told()}`);
}

t.test('no address twice, none lost, nothing left behind', async (t) => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 20, maxLength: 120 }), async (steps) => {
      const world = new World(await hosts(3, { rest: 5 }));
      await Promise.all([0, 1, 2].map((n) => world.host(n).pool('10.5.0.0/27')));
      for (const one of steps) await world.run(one);
      await world.end();
    }),
    { numRuns: 25, endOnFailure: true, interruptAfterTimeLimit: 60_000 },
  );
  t.pass();
});
