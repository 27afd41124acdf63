/**
 * One network that this host has endpoints on and other hosts have as well: what they say of it, kept as entries in the kernel. Entries are
 * brought to agree with records change by change; what a daemon before this one left is looked at once, when all records are known.
 */
import { type EntryStep, isEntry } from '../kernel/entry.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Plan } from '../kernel/step.ts';
import { type Batch, Claims } from './claims.ts';
import type { ControlPlane, Remote, RemoteNews, Session, Sharing } from './control.ts';
import { messageOf } from './errors.ts';
import type { Log } from './log.ts';
import type { EndpointId, EndpointRecord, NetworkRecord } from './model.ts';

export interface ReachedParts {
  /** With its presence and its agreement. */
  readonly network: NetworkRecord;
  readonly sharing: Sharing;
  readonly kernel: Kernel;
  readonly log: Log;
  /** It has come, changed or gone. */
  readonly onRemote: (id: string) => void;
}

/** What an endpoint of this host is called, and which ports it has. */
export interface Introduction {
  readonly names: readonly string[];
  readonly ports: readonly string[];
}

const RETRY_MS = 1000;
const MOST_REFUSED = 8;

/** With what the kernel said. */
type Refused = ReadonlyMap<EntryStep, unknown>;

export class Reached {
  #parts: ReachedParts;
  readonly #claims = new Claims();
  readonly #remotes = new Map<string, Remote>();
  readonly #introduced = new Map<EndpointId, Introduction>();
  readonly #first: PromiseWithResolvers<void> = Promise.withResolvers();
  #session: Session | undefined;
  /** All records are known; or those that were, once: entries are made then, and none is taken for stale. */
  #known = false;
  #remembered = false;
  #looked = false;
  #running: Promise<void> | undefined;
  #retry: NodeJS.Timeout | undefined;
  #complaint: string | undefined;
  #closed = false;

  constructor(parts: ReachedParts) {
    this.#parts = parts;
  }

  enter(plane: ControlPlane): void {
    const { network, sharing } = this.#parts;
    if (network.agreement === undefined) return;
    this.#session = plane.enter(network.agreement, sharing.place(network), (news) => {
      this.#hear(news);
    });
  }

  /** Its presence is another: the links may have another size. */
  changed(network: NetworkRecord): void {
    this.#parts = { ...this.#parts, network };
    this.#session?.describe(this.#parts.sharing.place(network).details);
  }

  /** Resolves when what the others have is in the kernel for the first time; never later than `milliseconds`. */
  async first(milliseconds: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const timer = setTimeout(resolve, milliseconds, undefined);
    await Promise.race([this.#first.promise, promise]);
    clearTimeout(timer);
  }

  /** All entries that the kernel should hold; undefined while records are not known: what it holds then stays. */
  wanted(): readonly EntryStep[] | undefined {
    return this.#known ? this.#claims.wanted() : undefined;
  }

  /** Somebody else has changed entries, by what was wanted a moment before. */
  look(): void {
    this.#looked = false;
    this.#work();
  }

  remotes(): readonly Remote[] {
    return [...this.#remotes.values()];
  }

  remote(id: string): Remote | undefined {
    return this.#remotes.get(id);
  }

  /** An endpoint of this host, in whatever state. */
  own(endpoint: EndpointRecord): void {
    const { network, sharing } = this.#parts;
    const { id, mac, generation = 0, state } = endpoint;
    const addresses = [endpoint.address, endpoint.addressV6].filter((one) => one !== undefined);
    const { names = [], ports = [] } = this.#introduced.get(id) ?? {};
    const own = { id, mac, addresses, generation, names, ports };
    const { at } = sharing.place(network);
    const entries = sharing.remote(network, { kind: 'endpoint', host: '', at, ...own });
    this.#claims.put(id, Infinity, entries.filter(isEntry), true);
    if (state === 'ready') this.#session?.put(own);
    else if (state === 'removing') this.#session?.drop(id);
    this.#work();
  }

  gone(endpoint: EndpointId): void {
    this.#introduced.delete(endpoint);
    this.#claims.drop(endpoint);
    this.#session?.drop(endpoint);
    this.#work();
  }

  introduce(endpoint: EndpointRecord, introduction: Introduction): void {
    const known = this.#introduced.get(endpoint.id);
    if (JSON.stringify(known) === JSON.stringify(introduction)) return;
    this.#introduced.set(endpoint.id, introduction);
    this.own(endpoint);
  }

  /** As Session.close. What is under way in the kernel ends first. */
  async close(left: boolean): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#session?.close(left);
    this.#first.resolve();
    await this.#running;
    if (left) for (const id of this.#remotes.keys()) this.#forget(id);
  }

  #hear(news: RemoteNews): void {
    if (this.#closed) return;
    if (news.what === 'all') {
      const kept = new Set(news.remotes.map(({ id }) => id));
      for (const id of this.#remotes.keys()) if (!kept.has(id)) this.#forget(id);
      this.#known = true;
    } else if (news.what === 'remembered') this.#remembered = true;
    for (const id of news.what === 'changes' ? news.gone : []) this.#forget(id);
    for (const remote of news.what === 'changes' ? news.put : news.remotes) this.#learn(remote);
    this.#work();
  }

  #learn(remote: Remote): void {
    const { network, sharing, onRemote } = this.#parts;
    const generation = remote.kind === 'host' ? 0 : remote.generation;
    this.#remotes.set(remote.id, remote);
    this.#claims.put(remoteOwner(remote.id), generation, sharing.remote(network, remote).filter(isEntry));
    onRemote(remote.id);
  }

  #forget(id: string): void {
    if (!this.#remotes.delete(id)) return;
    this.#claims.drop(remoteOwner(id));
    this.#parts.onRemote(id);
  }

  /** One batch at a time, each with all that has come since the last one. */
  #work(): void {
    if (this.#running !== undefined || !(this.#known || this.#remembered) || this.#closed) return;
    this.#running = this.#settle().finally(() => {
      this.#running = undefined;
      if (this.#isOpen() && this.#retry === undefined) this.#work();
    });
  }

  #isOpen(): boolean {
    return !this.#claims.isSettled || (this.#known && !this.#looked);
  }

  async #settle(): Promise<void> {
    // What comes within one turn of the event loop is one batch.
    await Promise.resolve();
    try {
      while (this.#isOpen() && !this.#isClosed())
        await (this.#known && !this.#looked ? this.#look() : this.#apply());
      this.#complaint = undefined;
      this.#first.resolve();
    } catch (error) {
      this.#again(error);
    }
  }

  #isClosed(): boolean {
    return this.#closed;
  }

  async #apply(): Promise<void> {
    const batch = this.#claims.take();
    let refused: Refused = new Map();
    try {
      if (batch.undo.length > 0) await this.#parts.kernel.revert(batch.undo);
      refused = await this.#make(batch.make);
    } catch (error) {
      this.#claims.failed(batch);
      throw error;
    }
    const isRefused = ([, then]: Batch['slots'][number]) => then !== undefined && refused.has(then);
    this.#claims.done({ ...batch, slots: batch.slots.filter((slot) => !isRefused(slot)) });
    this.#claims.failed({ ...batch, slots: batch.slots.filter(isRefused) });
    const [error] = refused.values();
    if (refused.size > 0) throw error;
  }

  /** Those that the kernel refuses are found by halves: what is wrong with one keeps no other one out. */
  async #make(entries: readonly EntryStep[]): Promise<Refused> {
    if (entries.length === 0) return new Map();
    try {
      await this.#parts.kernel.apply(entries);
      return new Map();
    } catch (error) {
      if (entries.length === 1) return new Map(entries.map((entry) => [entry, error]));
      const half = Math.ceil(entries.length / 2);
      const first = await this.#make(entries.slice(0, half));
      // It is not the entries that something is wrong with.
      if (first.size >= MOST_REFUSED) throw error;
      return new Map([...first, ...(await this.#make(entries.slice(half)))]);
    }
  }

  /** What the kernel holds already, by a daemon before this one: what no record speaks for goes. */
  async #look(): Promise<void> {
    const { kernel, network } = this.#parts;
    const { presence = [] } = network;
    // Before it: what is asked for meanwhile is another look.
    this.#looked = true;
    const facts = await kernel.facts({ plans: [presence], firewall: false });
    this.#claims.found(entriesOf(presence, facts.netns));
  }

  #again(error: unknown): void {
    const { network, log } = this.#parts;
    const about = { network: network.id.slice(0, 12), error: messageOf(error) };
    // Said once, and tried again for as long as it takes.
    if (about.error !== this.#complaint)
      log.warn(about, 'entries for other hosts could not be made; tried again');
    this.#complaint = about.error;
    this.#looked = false;
    // What is heard meanwhile is tried at once, and may fail as well.
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.#work();
    }, RETRY_MS);
    this.#retry.unref();
  }
}

/** Endpoints of this host and of others are told apart, also when one has moved and kept its id. */
function remoteOwner(id: string): string {
  return `remote ${id}`;
}

/** The entries of the links that a presence makes, but for those that it makes itself. */
export function entriesOf(
  presence: Plan,
  netns: ReadonlyMap<string, { readonly entries?: ReadonlyMap<string, EntryStep> }>,
): readonly EntryStep[] {
  const links = new Set(
    presence.flatMap((step) => (step.do === 'link.add' ? [`${step.netns ?? ''} ${step.name}`] : [])),
  );
  const own = new Set(presence.filter(isEntry).map((step) => JSON.stringify(step)));
  return [...netns.values()]
    .flatMap(({ entries }) => [...(entries?.values() ?? [])])
    .filter((step) => links.has(`${step.netns ?? ''} ${step.link}`) && !own.has(JSON.stringify(step)));
}
