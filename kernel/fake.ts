/**
 * The double of the real kernel: everything in memory, no root. It keeps the rules that a plan can run into (names,
 * marks, what dies with what), so that whatever holds on it holds on Linux; one shared test checks that.
 */
import type { Ip } from '../address/ip.ts';
import type { Prefix } from '../address/prefix.ts';
import { fakeFacts } from './fake-facts.ts';
import { fakeIpsec } from './fake-ipsec.ts';
import { addLink, enslave, fakeNetns, moveLink, removeLink } from './fake-host.ts';
import type { FakeLink, FakeNetns, StrangerLink } from './fake-host.ts';
import { putOn, switchLink } from './fake-sub-interface.ts';
import { FakePorts } from './fake-ports.ts';
import { isAccept } from './fake-accept.ts';
import { snapshotOf } from './fake-snapshot.ts';
import { findLink, removeNetns } from './fake-state.ts';
import type { FakeState } from './fake-state.ts';
import { doStep, undoStep } from './fake-steps.ts';
import { KernelError } from './kernel.ts';
import type {
  Kernel,
  KernelChange,
  LinkTap,
  Orphan,
  PacketCount,
  VtepCounters,
  ProbeSocket,
} from './kernel.ts';
import { missing } from './plan.ts';
import type { Ports } from './ports.ts';
import { rulesetText } from './ruleset.ts';
import type { NetnsPath, Plan, Step } from './step.ts';

export type { StrangerLink } from './fake-host.ts';

/** `apply` and `revert` are the calls; `rollback` is what `apply` undoes after a failure. */
export type FakePhase = 'apply' | 'revert' | 'rollback';

export interface FakeKernelOptions {
  readonly links?: readonly StrangerLink[];
  readonly routes?: readonly { readonly to: Prefix; readonly via?: Ip; readonly link: string }[];
  readonly sysctls?: Readonly<Record<string, string>>;
  /** Whether DOCKER-USER exists, by family. Default: neither, a host without Docker. */
  readonly acceptChain?: { readonly v4: boolean; readonly v6: boolean };
  /** Why the kernel has no ESP. Default: it has. */
  readonly noEsp?: string;
  /** /proc/sys is mounted read-only, as in a container. */
  readonly readOnlySysctls?: boolean;
  /** False: our table is not loaded before `prepare()`. Default true, so that a driver's test need not care. */
  readonly prepared?: boolean;
}

export interface FakeKernel extends Kernel {
  /**
   * Make every step that `when` picks fail with `errno`, before it changes anything; returns the way to stop.
   * `times`: only the first so many. A failing `apply` rolls back as the real one does.
   */
  failAt(when: (step: Step, phase: FakePhase) => boolean, errno: string, times?: number): () => void;
  /**
   * Called before every step. What it throws leaves the kernel as it is, with no rollback: a process that is killed
   * there. A promise is awaited: a place to hold an operation while others run.
   */
  beforeStep: ((step: Step, phase: FakePhase) => void | Promise<void>) | undefined;
  /** A namespace that is not ours, for example a container's. */
  addNetns(path: NetnsPath): void;
  /** It ends, with the links in it (and the peers of veths in it). */
  destroyNetns(path: NetnsPath): void;
  /** Its file is unmounted, and the kernel takes apart what is in it when the function is called. */
  giveUpNetns(path: NetnsPath): () => void;
  /** What dockerd does at Join: moves a link of the daemon's namespace (making the other if needed), names it and ups it. */
  moveAway(link: string, path: NetnsPath, as?: string): void;
  /** What dockerd does at Leave: moves it back, down, under `name`. */
  moveBack(path: NetnsPath, as: string, name: string): void;
  /** Someone makes a link, or deletes one by hand. */
  addLink(link: StrangerLink, path?: NetnsPath): void;
  destroyLink(name: string, path?: NetnsPath): void;
  /** Someone sets a link of the daemon's namespace up or down. */
  switchLink(name: string, up: boolean): void;
  /** Someone deletes an address by hand. */
  destroyAddress(link: string, prefix: Prefix, path?: NetnsPath): void;
  /** Another process takes a port, or a range of them. */
  occupyPort(ports: Ports, process: string): void;
  /** Packets have come in by a published port, `address . protocol . port` of a container. */
  count(key: string, count: PacketCount): void;
  /** `nft flush ruleset`: our table is gone. */
  flushFirewall(): void;
  /** Docker (re)starts: its chains appear, empty of our rules. */
  resetAcceptChain(chain: { readonly v4: boolean; readonly v6: boolean }): void;
  /** All state as plain data in a fixed order, without link indexes: for before = after. */
  snapshot(): unknown;
}

export function fakeKernel(options: FakeKernelOptions = {}): FakeKernel {
  return new MemoryKernel(options);
}

const OPEN = ['open4', 'open6'] as const;

function nothing(): void {
  // Nobody hears it, and nothing ever comes in.
}

class MemoryKernel implements FakeKernel {
  beforeStep: FakeKernel['beforeStep'] = undefined;
  readonly #state: FakeState;
  readonly #faults = new Set<(step: Step, phase: FakePhase) => void>();
  readonly #listeners = new Set<(change: KernelChange) => void>();
  readonly #counts = new Map<string, PacketCount>();
  #lastIndex = 0;
  readonly missing = missing;

  constructor(options: FakeKernelOptions) {
    this.#state = {
      host: fakeNetns(undefined, false, this.#nextIndex),
      netns: new Map(),
      elements: options.prepared === false ? undefined : new Map(),
      accepts: [],
      acceptChain: { ...(options.acceptChain ?? { v4: false, v6: false }) },
      ports: new FakePorts(),
      vteps: new Set(),
      ipsec: fakeIpsec(options.noEsp),
      readOnlySysctls: options.readOnlySysctls ?? false,
    };
    const { host } = this.#state;
    for (const link of options.links ?? []) this.#stranger(host, link);
    for (const { link, ...route } of options.routes ?? []) {
      host.routes.push({ ...route, link: need(this.#state, undefined, link), ours: false });
    }
    for (const [key, value] of Object.entries(options.sysctls ?? {})) host.sysctls.set(key, value);
  }

  async apply(plan: Plan): Promise<void> {
    const done: { step: Step; undo: () => void }[] = [];
    for (const step of plan) {
      await this.beforeStep?.(step, 'apply');
      try {
        this.#fail(step, 'apply');
        const undo = doStep(this.#state, step);
        if (undo !== undefined) done.push({ step, undo });
      } catch (error) {
        await this.#rollback(done.reverse());
        throw error;
      }
    }
  }

  async #rollback(done: readonly { step: Step; undo: () => void }[]): Promise<void> {
    for (const { step, undo } of done) {
      await this.beforeStep?.(step, 'rollback');
      try {
        this.#fail(step, 'rollback');
        undo();
      } catch {
        // The error that made the plan fail is the one to report; the rest is still undone.
      }
    }
  }

  async revert(plan: Plan): Promise<void> {
    let first: unknown;
    for (const step of plan.toReversed()) {
      await this.beforeStep?.(step, 'revert');
      try {
        this.#fail(step, 'revert');
        undoStep(this.#state, step);
      } catch (error) {
        first ??= error;
      }
    }
    if (first instanceof Error) throw first;
  }

  sysctl(key: string): string | undefined {
    return this.#state.host.sysctls.get(key);
  }

  facts(query: Parameters<Kernel['facts']>[0] = {}): ReturnType<Kernel['facts']> {
    return Promise.resolve(fakeFacts(this.#state, query));
  }

  remove(orphan: Orphan): Promise<void> {
    const state = this.#state;
    switch (orphan.kind) {
      case 'link': {
        const link = findLink(state, orphan.netns, orphan.name);
        if (link?.mark !== undefined) removeLink(link);
        break;
      }
      case 'netns':
        undoStep(state, { do: 'netns.add', path: orphan.path });
        break;
      case 'element':
      case 'entry':
        undoStep(state, orphan.step);
        break;
      case 'accept':
        state.accepts = state.accepts.filter((rule) => !isAccept(rule, orphan.bridge, orphan.network));
        break;
    }
    return Promise.resolve();
  }

  watch(listener: (change: KernelChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  prepare(): Promise<void> {
    this.#state.elements ??= new Map();
    return Promise.resolve();
  }

  /** There is nobody to listen to. */
  bindSockets(): readonly number[] {
    return [];
  }

  drainDatagrams(): void {
    // Nothing ever comes in.
  }

  /** Nobody answers. */
  askNeighbours(): Promise<readonly []> {
    return Promise.resolve([]);
  }

  probeSocket(): ProbeSocket {
    return { drain: nothing, send: nothing, close: nothing };
  }

  sendUnfinished(): void {
    // Nobody is there to hear.
  }

  /** A wire on which nobody answers. */
  tapLink(link: string): LinkTap {
    if (!this.#state.host.links.has(link)) throw new KernelError('ioctl', 'ENODEV');
    return { admit: () => undefined, send: () => true, receive: () => undefined, close: () => undefined };
  }

  /** Nothing has passed yet. */
  vtepCounters(): Promise<ReadonlyMap<string, VtepCounters>> {
    return Promise.resolve(new Map([...this.#state.vteps].map((name) => [name, { sent: 0, delivered: 0 }])));
  }

  counters(): ReadonlyMap<string, PacketCount> {
    const { elements } = this.#state;
    const keys = OPEN.flatMap((set) => [...(elements?.get(set)?.keys() ?? [])]);
    return new Map(keys.map((key) => [key, this.#counts.get(key) ?? { packets: 0, bytes: 0 }]));
  }

  ruleset(): Promise<string> {
    const { elements } = this.#state;
    if (elements === undefined) return Promise.reject(new KernelError('nft', 'exit 1', 'No such file'));
    return Promise.resolve(rulesetText(elements));
  }

  count(key: string, count: PacketCount): void {
    this.#counts.set(key, count);
  }

  close(): Promise<void> {
    this.#listeners.clear();
    return Promise.resolve();
  }

  failAt(when: (step: Step, phase: FakePhase) => boolean, errno: string, times = Infinity): () => void {
    let left = times;
    const fault = (step: Step, phase: FakePhase): void => {
      if (left <= 0 || !when(step, phase)) return;
      left -= 1;
      throw new KernelError(`${phase} ${step.do}`, errno, 'injected');
    };
    this.#faults.add(fault);
    return () => this.#faults.delete(fault);
  }

  addNetns(path: NetnsPath): void {
    this.#state.netns.set(path, fakeNetns(path, false, this.#nextIndex));
  }

  destroyNetns(path: NetnsPath): void {
    const netns = this.#state.netns.get(path);
    if (netns !== undefined) removeNetns(this.#state, netns);
    this.#emit('links');
  }

  giveUpNetns(path: NetnsPath): () => void {
    const netns = this.#state.netns.get(path);
    this.#state.netns.delete(path);
    return () => {
      if (netns !== undefined) removeNetns(this.#state, netns);
      this.#emit('links');
    };
  }

  moveAway(name: string, path: NetnsPath, as = name): void {
    const link = need(this.#state, undefined, name);
    if (!this.#state.netns.has(path)) this.addNetns(path);
    const to = this.#state.netns.get(path);
    if (to !== undefined) moveLink(link, to, as);
    link.up = true;
    this.#emit('links');
  }

  moveBack(path: NetnsPath, as: string, name: string): void {
    moveLink(need(this.#state, path, as), this.#state.host, name);
    this.#emit('links');
  }

  addLink(link: StrangerLink, path?: NetnsPath): void {
    const netns = path === undefined ? this.#state.host : this.#state.netns.get(path);
    if (netns === undefined) throw new KernelError(`netns ${path ?? ''}`, 'ENOENT');
    this.#stranger(netns, link);
    this.#emit('links');
  }

  destroyLink(name: string, path?: NetnsPath): void {
    removeLink(need(this.#state, path, name));
    this.#emit('links');
  }

  switchLink(name: string, up: boolean): void {
    switchLink(need(this.#state, undefined, name), up);
    this.#emit('links');
  }

  destroyAddress(link: string, prefix: Prefix, path?: NetnsPath): void {
    const { addresses, ownAddresses } = need(this.#state, path, link);
    addresses.delete(prefix);
    ownAddresses.delete(prefix);
    this.#emit('links');
  }

  occupyPort(ports: Ports, process: string): void {
    this.#state.ports.occupy(ports, process);
  }

  flushFirewall(): void {
    this.#state.elements = undefined;
    this.#emit('firewall');
  }

  resetAcceptChain(chain: { readonly v4: boolean; readonly v6: boolean }): void {
    Object.assign(this.#state.acceptChain, chain);
    this.#state.accepts = [];
    this.#emit('firewall');
  }

  snapshot(): unknown {
    return snapshotOf(this.#state);
  }

  readonly #nextIndex = (): number => {
    this.#lastIndex += 1;
    return this.#lastIndex;
  };

  #fail(step: Step, phase: FakePhase): void {
    for (const fault of this.#faults) fault(step, phase);
  }

  #emit(what: KernelChange['what']): void {
    for (const listener of this.#listeners) listener({ what });
  }

  #stranger(netns: FakeNetns, stranger: StrangerLink): void {
    const { master, addresses, link: kind, ...link } = stranger;
    const parent =
      kind?.kind === 'macvlan' || kind?.kind === 'vlan'
        ? need(this.#state, netns.path, kind.parent)
        : undefined;
    const made = addLink(netns, { mtu: 1500, up: true, ...link, ...(kind && { kind: kind.kind }) });
    if (kind !== undefined) putOn(made, parent, kind);
    for (const prefix of addresses ?? []) made.addresses.add(prefix);
    const bridge = master === undefined ? undefined : netns.links.get(master);
    if (bridge !== undefined) enslave(made, bridge);
  }
}

function need(state: FakeState, path: NetnsPath | undefined, name: string): FakeLink {
  const link = findLink(state, path, name);
  if (link === undefined) throw new KernelError(`link ${name}`, 'ENODEV', 'no such link in the fake');
  return link;
}
