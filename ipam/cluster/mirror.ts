/**
 * The cluster's records as this host last heard of them, in the order in which they changed. It may be behind, and never
 * decides anything: it says what to try, and a transaction says whether that was still so.
 */
import { familyOfPrefix, overlaps } from '../../address/prefix.ts';
import type { Prefix } from '../../address/prefix.ts';
import { isMet } from '../../store/cluster.ts';
import type { ClusterEntry, ClusterStore, ClusterWatch, Condition, WatchEvent } from '../../store/cluster.ts';
import { IPAM, decodeAsk, decodeHost, decodePool, parseKey } from './keys.ts';
import type { Ask, HostRecord } from './keys.ts';
import { PoolState } from './pool-state.ts';

export interface MirrorEvents {
  /** Something of the pool has changed. */
  readonly onPool: (pool: Prefix) => void;
  readonly onAsk: (key: string, by: string, ask: Ask | undefined) => void;
  /** All is known, for the first time or again. */
  readonly onCaughtUp: () => void;
}

export class Mirror {
  readonly #me: string;
  readonly #events: MirrorEvents;
  readonly #entries = new Map<string, ClusterEntry>();
  readonly #pools = new Map<Prefix, PoolState>();
  readonly #hosts = new Map<string, HostRecord>();
  readonly #waiting = new Set<() => void>();
  #watch: ClusterWatch | undefined;
  #revision = 0;
  #interrupted = true;

  constructor(me: string, events: MirrorEvents) {
    this.#me = me;
    this.#events = events;
  }

  start(cluster: ClusterStore): void {
    this.#watch = cluster.watch(IPAM, (event) => {
      this.#hear(event);
    });
  }

  close(): void {
    this.#watch?.close();
    for (const wake of this.#waiting) wake();
  }

  /** Whether there is a connection; without one it is as old as that. */
  get current(): boolean {
    return !this.#interrupted;
  }

  /** Nothing is known before the first snapshot. */
  get known(): boolean {
    return this.#revision > 0;
  }

  get revision(): number {
    return this.#revision;
  }

  get hosts(): ReadonlyMap<string, HostRecord> {
    return this.#hosts;
  }

  /** Only those that have a record of their own. */
  get pools(): readonly PoolState[] {
    return [...this.#pools.values()].filter(({ record }) => record !== undefined);
  }

  /** The pool that was chosen under a name. */
  named(name: string, family: 4 | 6): PoolState | undefined {
    return this.pools.find(({ pool, record }) => record?.name === name && familyOfPrefix(pool) === family);
  }

  /** What is known of a pool, a record of its own or not. */
  pool(pool: Prefix): PoolState {
    const known = this.#pools.get(pool);
    if (known !== undefined) return known;
    const made = new PoolState(pool, this.#me);
    this.#pools.set(pool, made);
    return made;
  }

  overlapping(pool: Prefix): PoolState | undefined {
    return this.pools.find((one) => one.pool !== pool && overlaps(one.pool, pool));
  }

  entry(key: string): ClusterEntry | undefined {
    return this.#entries.get(key);
  }

  /** The condition that a record is as it is here: with its revision, or absent. */
  unchanged(key: string): Condition {
    const entry = this.#entries.get(key);
    return entry === undefined ? { key, is: 'absent' } : { key, revision: entry.revision };
  }

  holds(condition: Condition): boolean {
    return isMet(condition, this.#entries.get(condition.key));
  }

  /** @returns false when it did not come about in that many milliseconds. */
  until(holds: () => boolean, milliseconds: number): Promise<boolean> {
    if (holds()) return Promise.resolve(true);
    return new Promise((resolve) => {
      const end = (came: boolean) => {
        clearTimeout(timer);
        this.#waiting.delete(look);
        resolve(came);
      };
      const look = () => {
        if (holds()) end(true);
      };
      const timer = setTimeout(end, milliseconds, false);
      this.#waiting.add(look);
    });
  }

  #hear(event: WatchEvent): void {
    if (event.kind === 'interrupted') this.#interrupted = true;
    if (event.kind === 'resumed') this.#caughtUp();
    if (event.kind === 'snapshot') this.#replace(event.entries, event.revision);
    if (event.kind === 'changes') {
      this.#revision = event.revision;
      for (const change of event.changes) {
        if ('put' in change) this.#set(change.put.key, change.put);
        else this.#set(change.delete, undefined);
      }
    }
    this.look();
  }

  /** Whoever waits looks again, also at what is not in here. */
  look(): void {
    for (const look of [...this.#waiting]) look();
  }

  #replace(entries: readonly ClusterEntry[], revision: number): void {
    const kept = new Set(entries.map(({ key }) => key));
    this.#revision = revision;
    for (const key of [...this.#entries.keys()]) if (!kept.has(key)) this.#set(key, undefined);
    for (const entry of entries) this.#set(entry.key, entry);
    this.#caughtUp();
  }

  #caughtUp(): void {
    this.#interrupted = false;
    if (this.known) this.#events.onCaughtUp();
  }

  #set(text: string, entry: ClusterEntry | undefined): void {
    if (entry === undefined) this.#entries.delete(text);
    else this.#entries.set(text, entry);
    const key = parseKey(text);
    if (key === undefined) return;
    if (key.kind === 'host') {
      if (entry === undefined) this.#hosts.delete(key.host);
      else this.#hosts.set(key.host, decodeHost(entry.value));
    } else if (key.kind === 'ask') {
      if (entry !== undefined && key.of === this.#me)
        this.#events.onAsk(text, key.by, decodeAsk(entry.value));
    } else {
      const state = this.pool(key.pool);
      if (key.kind === 'pool') state.record = entry && decodePool(entry.value);
      else if (key.kind === 'block') state.setBlock(key.block, entry);
      else state.setBatch(key.block, entry?.value);
      if (state.isEmpty) this.#pools.delete(key.pool);
      this.#events.onPool(key.pool);
    }
  }
}
