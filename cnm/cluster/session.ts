/** This host on one network of the cluster: its own records there, kept written under its lease, and the others' as they change. */
import { isDeepStrictEqual } from 'node:util';
import { MOST_CHANGES } from '../../store/cluster.ts';
import type {
  ClusterChange,
  ClusterEntry,
  ClusterLease,
  ClusterStore,
  ClusterWatch,
  WatchChange,
  WatchEvent,
} from '../../store/cluster.ts';
import type { Agreement, OwnEndpoint, Place, Session } from '../control.ts';
import { Others, type OthersParts } from './others.ts';
import {
  decodeNetwork,
  endpointKey,
  type EndpointRecord,
  hostKey,
  networkKey,
  onNetwork,
  placeKey,
  type PlaceRecord,
} from './keys.ts';

export interface SessionParts extends Omit<OthersParts, 'prefix' | 'me' | 'here' | 'saysAll'> {
  readonly store: ClusterStore;
  readonly me: { readonly id: string; readonly name: string };
  readonly agreement: Agreement;
  readonly place: Place;
  /** Undefined while this host is not in the cluster. */
  readonly lease: () => ClusterLease | undefined;
  /** Milliseconds between attempts. */
  readonly retry: number;
}

export class ClusterSession implements Session {
  readonly #parts: SessionParts;
  readonly #prefix: string;
  /** What this host's records are to be, by key. */
  readonly #own = new Map<string, PlaceRecord | EndpointRecord>();
  /** Keys whose records are not known to be so. */
  #open = new Set<string>();
  readonly #others: Others;
  #watch: ClusterWatch | undefined;
  #running: Promise<void> | undefined;
  /** What the network is built of on this host. */
  #details: Place['details'];
  /** Its place is to go when it has been told that it does. */
  #left: string | undefined;
  #closed = false;
  #wake: () => void = () => undefined;

  constructor(parts: SessionParts) {
    const { agreement, me, place } = parts;
    this.#parts = parts;
    this.#prefix = onNetwork(agreement.id);
    const saysAll = (host: string) => this.#saysAll(host);
    this.#others = new Others({ ...parts, prefix: this.#prefix, me: me.id, here: place.at, saysAll });
    this.#details = place.details;
    this.#put(placeKey(agreement.id, me.id), this.#place());
  }

  start(): void {
    this.#others.start();
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

  describe(details: Place['details']): void {
    const { agreement, me } = this.#parts;
    this.#details = details;
    this.#put(placeKey(agreement.id, me.id), this.#place());
  }

  close(left: boolean): void {
    this.#watch?.close();
    this.#others.close(left);
    if (left) this.#leave();
    else this.end();
  }

  /** Who says so is not looked for (others.ts). */
  #leave(): void {
    const { agreement, me } = this.#parts;
    const own = placeKey(agreement.id, me.id);
    this.#left = own;
    for (const key of [...this.#own.keys()]) if (key !== own) this.#drop(key);
    this.#put(own, { ...this.#place(), left: true });
  }

  #place(): PlaceRecord {
    const { me, place } = this.#parts;
    return { name: me.name, at: place.at, details: this.#details };
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
      if (done.ok) {
        if (this.#open.size === 0 && this.#left !== undefined && this.#own.delete(this.#left))
          this.#open.add(this.#left);
        continue;
      }
      for (const key of keys) this.#open.add(key);
      this.#parts.log.debug(
        { network: this.#parts.agreement.name, error: done.message },
        'the cluster is told later',
      );
      if (done.reason === 'closed') return;
      await this.#pause();
    }
  }

  /** It is in the cluster, and would have written what it has; or it has not got the network any more. */
  async #saysAll(host: string): Promise<boolean> {
    const { store, agreement } = this.#parts;
    const [member, network] = await Promise.all([
      store.get(hostKey(host)),
      store.get(networkKey(agreement.id)),
    ]);
    if (!member.ok || !network.ok) return false;
    const record = decodeNetwork(network.entry?.value);
    return member.entry !== undefined || (record !== undefined && record.hosts[host] === undefined);
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
    if (event.kind === 'snapshot') this.#compare(event.entries);
    if (event.kind === 'changes') this.#defend(event.changes);
    this.#others.hear(event);
  }

  /** What a daemon before this one wrote and is not to be there, and what is not there and should be. */
  #compare(entries: readonly ClusterEntry[]): void {
    const own = entries.map(({ key }) => key).filter((key) => this.#isOwn(key));
    const there = new Set(own);
    for (const key of [...own, ...this.#own.keys()])
      if (!there.has(key) || !this.#own.has(key)) this.#open.add(key);
    this.#work();
  }

  /** A session before this one says last that it leaves, or somebody else changed it: what is not as it should be is written again. */
  #defend(changes: readonly WatchChange[]): void {
    for (const change of changes) {
      const [key, value] = 'put' in change ? [change.put.key, change.put.value] : [change.delete, undefined];
      if (this.#isOwn(key) && !isDeepStrictEqual(value, asRead(this.#own.get(key)))) this.#open.add(key);
    }
    this.#work();
  }

  #isOwn(key: string): boolean {
    const { agreement, me } = this.#parts;
    const place = placeKey(agreement.id, me.id);
    return key === place || key.startsWith(`${place}/`);
  }
}

function asRead(record: PlaceRecord | EndpointRecord | undefined): unknown {
  return record === undefined ? undefined : JSON.parse(JSON.stringify(record));
}
