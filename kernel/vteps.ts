/**
 * The tunnel endpoints in user space. One thread runs them all, so that frames never wait for the daemon and the daemon never for frames;
 * what it does there is the composition root's file (`KernelOptions.vtepWorker`), for the switching is the driver's.
 */
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import type { KernelLog } from './linux.ts';
import { KernelError, type VtepCounters } from './kernel.ts';
import { withNetns } from './netns.ts';
import { entryName, slotOf } from './entry.ts';
import type { FdbAdd, NetnsPath, VtepRun } from './step.ts';
import type { Syscalls } from './syscall.ts';
import { attachTap } from './tap.ts';
import { formerVtep, vtepName } from './vtep-name.ts';

/** To the thread. It owns `tap`, a descriptor, from then on. Every message is answered with a VtepReply of its `id`. */
export type VtepOrder =
  | {
      readonly id: number;
      readonly do: 'add';
      readonly name: string;
      readonly tap: number;
      readonly vtep: VtepRun;
    }
  /** It goes on with other peers, under another name. */
  | {
      readonly id: number;
      readonly do: 'follow';
      readonly former: string;
      readonly name: string;
      readonly vtep: VtepRun;
    }
  | { readonly id: number; readonly do: 'remove' | 'count'; readonly name: string }
  /** Where MAC addresses are; that of all zeros: one more host of the network. In order. */
  | {
      readonly id: number;
      readonly do: 'place';
      readonly name: string;
      readonly changes: readonly PlaceChange[];
    }
  | { readonly id: number; readonly do: 'end' };

export interface PlaceChange {
  readonly verb: 'put' | 'remove';
  readonly entry: FdbAdd;
}

export interface VtepReply {
  readonly id: number;
  readonly error?: { readonly errno: string; readonly detail: string };
  /** Of the one that the order names: datagrams since it began, delivered, sent, and dropped by reason; with those of its port that were nobody's. */
  readonly counters: VtepCounters;
}

interface Waiting {
  readonly worker: Worker;
  readonly resolve: (reply: VtepReply) => void;
}
type Order = VtepOrder extends infer One ? (One extends VtepOrder ? Omit<One, 'id'> : never) : never;

export class Vteps {
  readonly #sys: Syscalls;
  readonly #file: URL | undefined;
  readonly #log: KernelLog;
  readonly #onLoss: () => void;
  readonly #running = new Map<string, VtepRun>();
  /** The entries of each that runs, by name and by slotOf(). */
  readonly #places = new Map<string, Map<string, FdbAdd>>();
  readonly #waiting = new Map<number, Waiting>();
  #worker: Worker | undefined;
  #next = 1;
  #starting = 0;

  constructor(sys: Syscalls, file: URL | undefined, log: KernelLog, onLoss: () => void) {
    this.#sys = sys;
    this.#file = file;
    this.#log = log;
    this.#onLoss = onLoss;
  }

  /**
   * False when it runs already. One that runs with the same device and socket and has other peers goes on with these: what is on its way
   * is not lost. @throws KernelError EADDRINUSE and others of its TAP device and its socket. */
  async start(vtep: VtepRun): Promise<boolean> {
    const name = vtepName(vtep);
    if (this.#running.has(name)) return false;
    this.#starting += 1;
    try {
      await this.#start(name, vtep);
      return true;
    } finally {
      this.#starting -= 1;
    }
  }

  async #start(name: string, vtep: VtepRun): Promise<void> {
    const worker = await this.#thread();
    const former = formerVtep(this.#running.keys(), vtep);
    if (former !== undefined) {
      const { error } = await this.#ask(worker, { do: 'follow', former, name, vtep });
      if (error !== undefined)
        throw new KernelError(
          `give the VXLAN endpoint on ${vtep.link} other peers`,
          error.errno,
          error.detail,
        );
      this.#running.delete(former);
      this.#places.delete(former);
      this.#running.set(name, vtep);
      this.#places.set(name, new Map());
      return;
    }
    const tap = withNetns(this.#sys, vtep.netns, () => attachTap(this.#sys, vtep.link));
    const { error } = await this.#ask(worker, { do: 'add', name, tap, vtep });
    if (error !== undefined) {
      closeSync(tap);
      throw new KernelError(`run a VXLAN endpoint on ${vtep.link}`, error.errno, error.detail);
    }
    this.#running.set(name, vtep);
    this.#places.set(name, new Map());
  }

  async stop(vtep: VtepRun): Promise<boolean> {
    const name = vtepName(vtep);
    this.#places.delete(name);
    if (!this.#running.delete(name) || this.#worker === undefined) return false;
    const { counters } = await this.#ask(this.#worker, { do: 'remove', name });
    this.#log.debug({ link: vtep.link, vni: vtep.vni, ...counters }, 'a VXLAN endpoint in user space ended');
    if (this.#running.size === 0 && this.#starting === 0) await this.close();
    return true;
  }

  /** Of a namespace that is about to go. */
  async stopIn(netns: NetnsPath): Promise<void> {
    for (const vtep of [...this.#running.values()]) if (vtep.netns === netns) await this.stop(vtep);
  }

  /** In order. Those of a tunnel endpoint that does not run are passed over: it has none when it starts. */
  async place(changes: readonly PlaceChange[]): Promise<void> {
    for (const [name, { netns, link }] of this.#running) {
      const own = changes.filter(({ entry }) => entry.netns === netns && entry.link === link);
      if (own.length === 0 || this.#worker === undefined) continue;
      const { error } = await this.#ask(this.#worker, { do: 'place', name, changes: own });
      if (error !== undefined)
        throw new KernelError(`put entries of the VXLAN endpoint on ${link}`, error.errno, error.detail);
      for (const change of own) note(this.#places.get(name), change);
    }
  }

  /** Of the tunnel endpoints in a namespace. */
  entries(netns: NetnsPath): readonly FdbAdd[] {
    return [...this.#running].flatMap(([name, vtep]) =>
      vtep.netns === netns ? [...(this.#places.get(name)?.values() ?? [])] : [],
    );
  }

  async counters(): Promise<ReadonlyMap<string, VtepCounters>> {
    const found = new Map<string, VtepCounters>();
    for (const name of this.#running.keys())
      if (this.#worker !== undefined)
        found.set(name, (await this.#ask(this.#worker, { do: 'count', name })).counters);
    return found;
  }

  running(): ReadonlySet<string> {
    return new Set(this.#running.keys());
  }

  async close(): Promise<void> {
    const worker = this.#worker;
    this.#worker = undefined;
    this.#running.clear();
    this.#places.clear();
    if (worker === undefined) return;
    const ended = once(worker, 'exit');
    worker.postMessage({ id: 0, do: 'end' } satisfies VtepOrder);
    await ended;
  }

  async #thread(): Promise<Worker> {
    if (this.#worker !== undefined) return this.#worker;
    if (this.#file === undefined)
      throw new KernelError('run a VXLAN endpoint', 'ENOSYS', 'there is no thread for it here');
    const worker = new Worker(this.#file, { name: 'vtep' });
    this.#worker = worker;
    worker.on('message', (reply: VtepReply) => {
      this.#waiting.get(reply.id)?.resolve(reply);
      this.#waiting.delete(reply.id);
    });
    worker.on('error', (error: unknown) => {
      this.#log.error({ error: String(error) }, 'the thread of the VXLAN endpoints in user space failed');
    });
    worker.on('exit', () => {
      this.#lost(worker);
    });
    await once(worker, 'online');
    return worker;
  }

  /** Its descriptors are still open, for they are the process's; what watches the kernel starts all of them again. */
  #lost(worker: Worker): void {
    for (const [id, waiting] of this.#waiting) {
      // The next one may run already.
      if (waiting.worker !== worker) continue;
      this.#waiting.delete(id);
      waiting.resolve({ id, error: { errno: 'EPIPE', detail: 'the thread has ended' }, counters: {} });
    }
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    this.#running.clear();
    this.#places.clear();
    this.#onLoss();
  }

  #ask(worker: Worker, order: Order): Promise<VtepReply> {
    const id = this.#next;
    this.#next += 1;
    const { promise, resolve }: PromiseWithResolvers<VtepReply> = Promise.withResolvers();
    this.#waiting.set(id, { worker, resolve });
    worker.postMessage({ ...order, id });
    return promise;
  }
}

/** As Vtep does: an older entry is replaced, and only the very one is removed. */
function note(places: Map<string, FdbAdd> | undefined, { verb, entry }: PlaceChange): void {
  const slot = slotOf(entry);
  const held = places?.get(slot);
  if (verb === 'put') places?.set(slot, entry);
  else if (held !== undefined && entryName(held) === entryName(entry)) places?.delete(slot);
}
