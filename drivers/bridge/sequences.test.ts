/**
 * Whatever is asked for in whatever order, with daemons that die and kernels that fail in between: the host holds exactly what the
 * live endpoints call for, by a small model of its own (tests/called-for.ts), and nothing when all is gone. In memory; the same in
 * packets, and on a real kernel, is tests/acceptance/ and tests/faults/.
 */
import assert from 'node:assert/strict';
import t from 'tap';
import fc from 'fast-check';
import { ip } from '../../address/ip.ts';
import type { Cnm } from '../../cnm/cnm.ts';
import { CnmError } from '../../cnm/errors.ts';
import { createCnm } from '../../cnm/index.ts';
import { silent } from '../../cnm/log.ts';
import type { EndpointSpec, PortBinding, PublishedPort } from '../../cnm/model.ts';
import { type FakeKernel, fakeKernel } from '../../kernel/fake.ts';
import { memoryStore } from '../../store/memory.ts';
import type { Store } from '../../store/store.ts';
import {
  calledFor,
  type LiveEndpoint,
  type LiveNetwork,
  observed,
  sysctlsOf,
  type Target,
  targetsOf,
} from '../../tests/called-for.ts';
import {
  bindings,
  endpointSpec,
  type Event,
  event,
  type Fault,
  fault,
  networkSpec,
  settings,
  type Settings,
} from '../../tests/bridge-events.ts';
import { bridge } from './index.ts';
import { vethNamesOf } from '../../cnm/short-name.ts';

const sandbox = ({ id }: EndpointSpec) => `/run/docker/netns/${id.slice(0, 12)}`;

type Outcome = 'done' | 'failed' | 'refused';

/** A host, its daemon of the moment, and what should be there. */
class World {
  readonly #kernel: FakeKernel = fakeKernel({ acceptChain: { v4: true, v6: true } });
  readonly #store: Store = memoryStore();
  readonly #live = new Map<number, LiveNetwork>();
  readonly #before = snapshot(this.#kernel);
  #cnm: Cnm = this.#newCnm();

  #newCnm(): Cnm {
    return createCnm({
      kernel: this.#kernel,
      store: this.#store,
      drivers: [bridge],
      log: silent,
      runDir: '/run/cnm',
    });
  }

  /** Networks with two endpoints each. */
  async populate(wanted: readonly Settings[]): Promise<void> {
    for (const [index, settings] of wanted.entries()) {
      const n = index + 1;
      await this.perform({ does: 'create', n, settings }, undefined);
      for (const e of [1, 2]) await this.perform({ does: 'start', n, e }, undefined);
    }
  }

  async perform(one: Event, fault: Fault): Promise<void> {
    if (one.does === 'restart') return this.#restart(one.flushed, fault);
    const network = this.#live.get(one.n);
    if (one.does === 'create') return this.#create(one.n, one.settings, fault);
    if (network === undefined) return;
    if (one.does === 'remove') return this.#remove(one.n, network, fault);
    if (one.does === 'start') return this.#startEndpoint(network, one, fault);
    const endpoint = network.endpoints.get(one.e);
    if (endpoint === undefined) return;
    switch (one.does) {
      case 'publish':
        return this.#publish(network, endpoint, bindings(one.wishes), fault);
      case 'revoke':
        return this.#revoke(endpoint, fault);
      case 'drop':
        return this.#drop(network, one.e, endpoint, fault);
      case 'join':
        return this.#join(endpoint);
      case 'leave':
        return this.#leave(endpoint);
    }
  }

  async #create(n: number, wanted: Settings, fault: Fault): Promise<void> {
    const known = this.#live.get(n);
    const spec = known?.spec ?? networkSpec(n, wanted);
    const modes = Object.entries(spec.options).filter(([name]) => name.includes('gateway_mode'));
    const impossible = !spec.internal && modes.some(([, value]) => value === 'isolated');
    const outcome = await this.#outcome(
      fault,
      () => this.#cnm.createNetwork(spec),
      (code) => code === 'option-invalid' && impossible,
    );
    if (outcome === 'done' && known === undefined)
      this.#live.set(n, { spec, endpoints: new Map(), askedForLoopback: false });
  }

  /** What a failure left goes when it is asked for again. */
  async #remove(n: number, { spec, endpoints }: LiveNetwork, fault?: Fault): Promise<void> {
    const remove = () => this.#cnm.deleteNetwork(spec.id);
    if ((await this.#outcome(fault, remove)) === 'failed') await remove();
    for (const endpoint of endpoints.values()) this.#kernel.destroyNetns(sandbox(endpoint.spec));
    this.#live.delete(n);
  }

  async #startEndpoint(
    { spec: network, endpoints }: LiveNetwork,
    { n, e }: { readonly n: number; readonly e: number },
    fault: Fault,
  ): Promise<void> {
    const spec = endpointSpec(network, n, e);
    if ((await this.#outcome(fault, () => this.#cnm.createEndpoint(spec))) === 'failed') return;
    const endpoint = endpoints.get(e) ?? { spec, joined: false, published: [] };
    endpoints.set(e, endpoint);
    await this.#join(endpoint);
  }

  async #drop({ endpoints }: LiveNetwork, e: number, { spec }: LiveEndpoint, fault: Fault): Promise<void> {
    await this.#outcome(fault, () => this.#cnm.deleteEndpoint(spec.network, spec.id));
    this.#kernel.destroyNetns(sandbox(spec));
    endpoints.delete(e);
  }

  /** In both Docker moves the link. */
  async #join(endpoint: LiveEndpoint): Promise<void> {
    const { spec } = endpoint;
    const { srcName } = await this.#cnm.join(spec.network, spec.id, sandbox(spec));
    if (!endpoint.joined) this.#kernel.moveAway(srcName, sandbox(spec), 'eth0');
    endpoint.joined = true;
  }

  async #leave(endpoint: LiveEndpoint): Promise<void> {
    const { spec } = endpoint;
    if (endpoint.joined) this.#kernel.moveBack(sandbox(spec), 'eth0', vethNamesOf(spec.id).container);
    this.#kernel.destroyNetns(sandbox(spec));
    endpoint.joined = false;
    await this.#cnm.leave(spec.network, spec.id);
  }

  async #revoke(endpoint: LiveEndpoint, fault: Fault): Promise<void> {
    const { network, id } = endpoint.spec;
    await this.#outcome(fault, () => this.#cnm.revokeExternalConnectivity(network, id));
    endpoint.published = [];
  }

  async #publish(
    network: LiveNetwork,
    endpoint: LiveEndpoint,
    ports: readonly PortBinding[],
    fault: Fault,
  ): Promise<void> {
    const { spec } = endpoint;
    const others = this.#others(endpoint);
    const before = this.#published(endpoint);
    const targets = ports.map((port) => targetsOf(network.spec, spec, port));
    const inTheWay = [
      ...others.filter(({ joined }) => joined).flatMap(({ published }) => published),
      ...ports,
    ];
    const reasons: Readonly<Record<string, boolean>> = {
      'option-invalid': targets.includes(undefined),
      'port-taken': ports.some((port) => inTheWay.some((other) => other !== port && mayCollide(port, other))),
    };
    const outcome = await this.#outcome(
      fault,
      () => this.#cnm.programExternalConnectivity(spec.network, spec.id, ports),
      (code) => reasons[code] === true,
    );
    const now = this.#published(endpoint);
    const unchanged = JSON.stringify(now) === JSON.stringify(before);
    if (outcome === 'refused') assert.ok(unchanged, 'a refusal changes nothing');
    if (outcome === 'failed')
      assert.ok(unchanged || now.length === 0, 'what was published before, or nothing');
    if (outcome === 'done') endpoint.published = ports.map((port) => ({ ...port, got: portGot(port, now) }));
    else if (now.length === 0) endpoint.published = [];
    network.askedForLoopback ||= targets.some((some) => some?.some(isLoopback));
    // Who is in no sandbox gives its ports to who asks for them.
    for (const other of others) {
      if (other.published.length === 0 || this.#cnm.endpoint(other.spec.network, other.spec.id)?.external)
        continue;
      assert.ok(!other.joined, 'nobody in a sandbox loses its ports');
      other.published = [];
    }
  }

  /** The sockets of a daemon die with it. */
  async #restart(flushed: boolean, fault: Fault): Promise<void> {
    await this.#cnm.close();
    for (const held of (await this.#kernel.facts()).heldPorts) {
      const [proto, address = '', port] = held.split(' ');
      await this.#kernel.revert([
        { do: 'port.hold', proto: proto as 'tcp', address: ip(address), port: Number(port) },
      ]);
    }
    if (flushed) {
      this.#kernel.flushFirewall();
      this.#kernel.resetAcceptChain({ v4: true, v6: true });
    }
    this.#cnm = this.#newCnm();
    await this.#faulty(fault, () => this.#cnm.reconcile());
    await this.#reconcile();
  }

  async #outcome(
    fault: Fault,
    work: () => Promise<unknown>,
    mayRefuse: (code: string) => boolean = () => false,
  ): Promise<Outcome> {
    let refusal: unknown;
    const failed = await this.#faulty(fault, () =>
      work().catch((error: unknown) => {
        refusal = error;
      }),
    );
    assert.ok(!failed || refusal !== undefined, 'what failed says so');
    if (failed) await this.#reconcile();
    if (failed || refusal === undefined) return failed ? 'failed' : 'done';
    if (refusal instanceof CnmError && mayRefuse(refusal.code)) return 'refused';
    throw refusal instanceof Error ? refusal : new Error('neither an error', { cause: refusal });
  }

  /** @returns whether a step was made to fail. */
  async #faulty(fault: Fault, work: () => Promise<unknown>): Promise<boolean> {
    let steps = 0;
    let failed = false;
    const from = fault?.at ?? Infinity;
    const isDue = (): boolean => {
      const due = steps >= from;
      steps += 1;
      failed ||= due;
      return due;
    };
    const stop = this.#kernel.failAt(isDue, 'ENOMEM', fault?.times);
    await work();
    stop();
    return failed;
  }

  async #reconcile(): Promise<void> {
    assert.deepEqual((await this.#cnm.reconcile()).failed, []);
  }

  #others(endpoint: LiveEndpoint): readonly LiveEndpoint[] {
    const all = [...this.#live.values()].flatMap(({ endpoints }) => [...endpoints.values()]);
    return all.filter((other) => other !== endpoint);
  }

  #published({ spec }: LiveEndpoint): readonly PublishedPort[] {
    return this.#cnm.endpoint(spec.network, spec.id)?.external?.published ?? [];
  }

  async check(): Promise<void> {
    const networks = [...this.#live.values()];
    const specs = networks.map(({ spec }) => spec);
    assert.deepEqual(await observed(this.#kernel, specs), calledFor(networks));
    for (const network of networks) await this.#checkLoopback(network);
    const { differences, orphans } = await this.#cnm.drift();
    assert.deepEqual([differences, orphans], [[], []]);
  }

  /** Set when a port needs it, and left: it goes with the bridge. */
  async #checkLoopback({ spec, endpoints, askedForLoopback }: LiveNetwork): Promise<void> {
    const { loopback } = sysctlsOf(spec);
    const { host } = await this.#kernel.facts({ sysctls: [loopback], firewall: false });
    const isSet = host.sysctls.get(loopback) === '1';
    const needed = [...endpoints.values()].some((endpoint) =>
      endpoint.published.some((port) => targetsOf(spec, endpoint.spec, port)?.some(isLoopback)),
    );
    assert.ok(isSet ? askedForLoopback : !needed, `${loopback} is ${isSet ? 1 : 0}`);
  }

  async end(): Promise<void> {
    for (const [n, network] of this.#live) await this.#remove(n, network);
    assert.equal(snapshot(this.#kernel), this.#before, 'the kernel is as it was');
    assert.deepEqual(this.#store.list(''), [], 'no records are left');
  }
}

const isLoopback = ({ host }: Target): boolean => host === '0.0.0.0' || host?.startsWith('127.') === true;

/** Whether they may want the same number; addresses aside. */
function mayCollide(a: PortBinding, b: PortBinding & { readonly got?: number }): boolean {
  const [from, to] = b.got === undefined ? [b.hostPort, b.hostPortEnd] : [b.got, b.got];
  return a.proto === b.proto && a.hostPort > 0 && from <= a.hostPortEnd && to >= a.hostPort;
}

function portGot(
  { proto, port, hostPort, hostPortEnd }: PortBinding,
  published: readonly PublishedPort[],
): number {
  if (hostPort > 0 && hostPort === hostPortEnd) return hostPort;
  const isIt = (one: PublishedPort) => one.proto === proto && one.port === port && one.hostPort !== undefined;
  const got = published.find(isIt)?.hostPort ?? 0;
  const [from, to] = hostPort > 0 ? [hostPort, hostPortEnd] : [49152, 65535];
  assert.ok(got === 0 || (got >= from && got <= to), `${got} was not asked for`);
  return got;
}

/** Global switches stay on, as others may have come to depend on them. */
function snapshot(kernel: FakeKernel): string {
  return JSON.stringify(kernel.snapshot(), (key, value: unknown) => (key === 'sysctls' ? undefined : value));
}

t.test(
  'whatever happened before, the host holds what the live endpoints call for, and at last nothing',
  async (t) => {
    const events = fc.noBias(fc.array(fc.tuple(event, fault), { minLength: 12, maxLength: 30 }));
    const property = fc.asyncProperty(
      fc.noBias(settings),
      fc.noBias(settings),
      events,
      async (one, two, events) => {
        const world = new World();
        await world.populate([one, two]);
        for (const [what, fault] of events) {
          await world.perform(what, fault);
          await world.check();
        }
        await world.end();
      },
    );
    await fc.assert(property, { numRuns: 80 });
    t.pass('it does');
  },
);
