/** This host on one network of the cluster: its own records there, kept written under its lease, and the others' as they change. */
import { MOST_CHANGES } from '../../store/cluster.ts';
import type {
  ClusterChange,
  ClusterEntry,
  ClusterLease,
  ClusterStore,
  ClusterWatch,
  WatchEvent,
} from '../../store/cluster.ts';
import type { Agreement, OwnEndpoint, Place, Remote, RemoteNews, Session } from '../control.ts';
import type { Log } from '../log.ts';
import {
  decodeRemote,
  endpointKey,
  type EndpointRecord,
  onNetwork,
  placeKey,
  type PlaceRecord,
} from './keys.ts';

export interface SessionParts {
  readonly store: ClusterStore;
  readonly me: { readonly id: string; readonly name: string };
  readonly agreement: Agreement;
  readonly place: Place;
  readonly listener: (news: RemoteNews) => void;
  /** A revision of the store, or an endpoint's generation, was heard of. */
  readonly onGeneration: (generation: number) => void;
  /** Undefined while this host is not in the cluster. */
  readonly lease: () => ClusterLease | undefined;
  /** Milliseconds between attempts. */
  readonly retry: number;
  readonly log: Log;
}

export class ClusterSession implements Session {
  readonly #parts: SessionParts;
  readonly #prefix: string;
  /** What this host's records are to be, by key. */
  readonly #own = new Map<string, PlaceRecord | EndpointRecord>();
  /** Keys whose records are not known to be so. */
  #open = new Set<string>();
  /** By key under the prefix. */
  readonly #remotes = new Map<string, Remote>();
  #watch: ClusterWatch | undefined;
  #running: Promise<void> | undefined;
  #closed = false;
  #wake: () => void = () => undefined;

  constructor(parts: SessionParts) {
    const { agreement, me, place } = parts;
    this.#parts = parts;
    this.#prefix = onNetwork(agreement.id);
    this.#put(placeKey(agreement.id, me.id), { name: me.name, at: place.at, details: place.details });
  }

  start(): void {
    this.#watch = this.#parts.store.watch(this.#prefix, (event) => {
      this.#hear(event);
    });
  }

  put({ id, ...endpoint }: OwnEndpoint): void {
    const { agreement, me, place } = this.#parts;
    this.#put(endpointKey(agreement.id, me.id, id), { ...endpoint, at: place.at });
  }

  drop(endpoint: string): void {
    const { agreement, me } = this.#parts;
    this.#drop(endpointKey(agreement.id, me.id, endpoint));
  }

  close(left: boolean): void {
    this.#watch?.close();
    if (left) for (const key of [...this.#own.keys()]) this.#drop(key);
    else this.end();
  }

  /** Nothing is written any more, but for what is under way. */
  end(): void {
    this.#closed = true;
    this.#wake();
  }

  /** This host is in the cluster, perhaps again: with a lease under which nothing is written yet. */
  renew(): void {
    for (const key of this.#own.keys()) this.#open.add(key);
    this.#work();
  }

  /** Resolves when all is written, or cannot be written now. */
  async idle(): Promise<void> {
    await this.#running;
  }

  #put(key: string, record: PlaceRecord | EndpointRecord): void {
    if (JSON.stringify(this.#own.get(key)) === JSON.stringify(record)) return;
    this.#own.set(key, record);
    this.#open.add(key);
    this.#work();
  }

  #drop(key: string): void {
    if (!this.#own.delete(key)) return;
    this.#open.add(key);
    this.#work();
  }

  #work(): void {
    if (this.#running !== undefined || this.#closed) return;
    this.#running = this.#settle().finally(() => {
      this.#running = undefined;
    });
  }

  async #settle(): Promise<void> {
    // What comes within one turn of the event loop is one transaction.
    await Promise.resolve();
    while (this.#open.size > 0 && !this.#isClosed()) {
      // Whoever gets a lease calls again.
      const lease = this.#parts.lease();
      if (lease === undefined) return;
      const keys = [...this.#open].slice(0, MOST_CHANGES);
      for (const key of keys) this.#open.delete(key);
      const changes = keys.map((key): ClusterChange => {
        const value = this.#own.get(key);
        return value === undefined ? { delete: key } : { put: key, value, lease };
      });
      const done = await this.#parts.store.transact([], changes);
      if (done.ok) continue;
      for (const key of keys) this.#open.add(key);
      this.#parts.log.debug(
        { network: this.#parts.agreement.name, error: done.message },
        'the cluster is told later',
      );
      if (done.reason === 'closed') return;
      await this.#pause();
    }
  }

  #isClosed(): boolean {
    return this.#closed;
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
      setTimeout(resolve, this.#parts.retry).unref();
    });
  }

  #hear(event: WatchEvent): void {
    if ('revision' in event) this.#parts.onGeneration(event.revision);
    if (event.kind === 'snapshot') this.#replace(event.entries);
    if (event.kind !== 'changes') return;
    const put = new Map<string, Remote>();
    const gone = new Set<string>();
    for (const change of event.changes) {
      const key = 'put' in change ? change.put.key : change.delete;
      const former = this.#remotes.get(key);
      const remote = 'put' in change ? this.#learn(change.put) : undefined;
      if (remote === undefined) this.#remotes.delete(key);
      if (former !== undefined && former.id !== remote?.id) gone.add(former.id);
      if (remote === undefined) put.delete(former?.id ?? '');
      else put.set(remote.id, remote);
    }
    // Of two keys with one id (an endpoint that has come from another host under its own id) the one that is there counts.
    for (const { id } of this.#remotes.values()) gone.delete(id);
    if (put.size + gone.size > 0)
      this.#parts.listener({ what: 'changes', put: [...put.values()], gone: [...gone] });
  }

  #replace(entries: readonly ClusterEntry[]): void {
    this.#remotes.clear();
    const there = new Set<string>();
    for (const entry of entries) {
      this.#learn(entry);
      if (this.#isOwn(entry.key)) there.add(entry.key);
    }
    // Of a daemon before this one: written, or to be removed. What should be there and is not is written as well.
    for (const key of new Set([...there, ...this.#own.keys()]))
      if (!there.has(key) || !this.#own.has(key)) this.#open.add(key);
    this.#parts.listener({ what: 'all', remotes: [...this.#remotes.values()] });
    this.#work();
  }

  /** Undefined: this host's own, or not written by us. */
  #learn({ key, value }: ClusterEntry): Remote | undefined {
    const remote = this.#isOwn(key) ? undefined : decodeRemote(key.slice(this.#prefix.length), value);
    if (remote?.kind === 'endpoint') this.#parts.onGeneration(remote.generation);
    if (remote !== undefined) this.#remotes.set(key, remote);
    return remote;
  }

  #isOwn(key: string): boolean {
    const own = `${this.#prefix}${this.#parts.me.id}`;
    return key === own || key.startsWith(`${own}/`);
  }
}
