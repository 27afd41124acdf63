/**
 * A cluster store in memory, for tests: one server, a client for each host, time that the test moves, and networks that
 * lose a request, or its answer, when the test says so. `cluster-suite.ts` holds it equal to etcd.
 */
import { setImmediate } from 'node:timers/promises';
import { changesProblem } from './cluster-changes.ts';
import type {
  ClusterChange,
  ClusterEntry,
  ClusterLease,
  ClusterStore,
  ClusterWatch,
  Condition,
  Failure,
  Result,
  WatchChange,
  WatchEvent,
  WatchListener,
} from './cluster.ts';
import { isMet } from './cluster.ts';

/**
 * What becomes of a request: answered; never arrived; done, but its answer lost; or still under way when the client gives
 * up, and done at `deliverLate()`.
 */
export type Fate = 'answered' | 'lost' | 'unanswered' | 'late';

export interface FakeClient extends ClusterStore {
  /** No request arrives, no answer and no change comes back, until `heal()`. Leases run out meanwhile. */
  cut(): void;
  heal(): void;
  /** Asked for each request; default: answered. */
  fate: (what: 'read' | 'change') => Fate;
}

interface Live {
  readonly id: string;
  readonly ttl: number;
  ends: number;
  readonly alive: () => boolean;
  readonly end: () => void;
}

interface Follower {
  readonly prefix: string;
  readonly tell: () => void;
}

export class FakeCluster {
  readonly #entries = new Map<string, ClusterEntry>();
  #history: { readonly revision: number; readonly change: WatchChange }[] = [];
  /** Changes up to this revision are forgotten. */
  #compacted = 0;
  #revision = 1;
  #now = 0;
  #leases = new Map<string, Live>();
  #lastLease = 0;
  readonly #followers = new Set<Follower>();
  #late: (() => void)[] = [];

  client(name = 'fake://cluster'): FakeClient {
    return new Client(this, name);
  }

  get revision(): number {
    return this.#revision;
  }

  /** Leases whose clients can reach the server are kept alive; the others end when their time is up. */
  advance(milliseconds: number): void {
    this.#now += milliseconds;
    for (const lease of this.#leases.values()) {
      if (lease.alive()) lease.ends = this.#now + lease.ttl * 1000;
      else if (lease.ends <= this.#now) this.endLease(lease.id);
    }
  }

  compact(): void {
    this.#compacted = this.#revision;
    this.#history = [];
  }

  /** Requests that their clients have given up arrive after all. */
  deliverLate(): void {
    for (const work of this.#late.splice(0)) work();
  }

  later(work: () => void): void {
    this.#late.push(work);
  }

  entry(key: string): ClusterEntry | undefined {
    return this.#entries.get(key);
  }

  entries(prefix: string): readonly ClusterEntry[] {
    return [...this.#entries.values()].filter(({ key }) => key.startsWith(prefix)).sort(byKey);
  }

  /** @returns the changes since then, or undefined when they are not to be had. */
  since(after: number, prefix: string): readonly WatchChange[] | undefined {
    if (after < this.#compacted || after > this.#revision) return undefined;
    return this.#history
      .filter(({ revision, change }) => revision > after && keyOf(change).startsWith(prefix))
      .map(({ change }) => change);
  }

  transact(
    when: readonly Condition[],
    then: readonly ClusterChange[],
  ): Result<{ done: boolean; revision: number }> {
    const leases = then.map((change) => ('put' in change ? change.lease : undefined));
    if (!when.every((condition) => this.#holds(condition)))
      return { ok: true, done: false, revision: this.#revision };
    if (leases.some((lease) => lease !== undefined && !this.#leases.has(lease.id)))
      return { ok: false, reason: 'lease-lost', message: 'the lease has ended', uncertain: false };
    this.#apply(then);
    return { ok: true, done: true, revision: this.#revision };
  }

  grant(ttl: number, alive: () => boolean, end: () => void): string {
    const id = String(++this.#lastLease);
    this.#leases.set(id, { id, ttl, ends: this.#now + ttl * 1000, alive, end });
    return id;
  }

  endLease(id: string): void {
    const lease = this.#leases.get(id);
    if (lease === undefined) return;
    this.#leases.delete(id);
    const held = [...this.#entries.values()].filter((entry) => entry.lease === id);
    this.#apply(held.map(({ key }) => ({ delete: key })));
    lease.end();
  }

  follow(follower: Follower): () => void {
    this.#followers.add(follower);
    return () => this.#followers.delete(follower);
  }

  #holds(condition: Condition): boolean {
    return isMet(condition, this.#entries.get(condition.key));
  }

  #apply(changes: readonly ClusterChange[]): void {
    const real = changes.filter((change) => 'put' in change || this.#entries.has(change.delete));
    if (real.length === 0) return;
    const revision = ++this.#revision;
    for (const change of real) {
      if ('delete' in change) this.#entries.delete(change.delete);
      const told: WatchChange =
        'delete' in change ? { delete: change.delete, revision } : { put: entryOf(change, revision) };
      if ('put' in told) this.#entries.set(told.put.key, told.put);
      this.#history.push({ revision, change: told });
    }
    for (const follower of this.#followers) follower.tell();
  }
}

function entryOf(change: Extract<ClusterChange, { put: string }>, revision: number): ClusterEntry {
  const value: unknown = JSON.parse(JSON.stringify(change.value));
  return { key: change.put, value, revision, ...(change.lease && { lease: change.lease.id }) };
}

function byKey(a: ClusterEntry, b: ClusterEntry): number {
  return Buffer.compare(Buffer.from(a.key), Buffer.from(b.key));
}

function keyOf(change: WatchChange): string {
  return 'put' in change ? change.put.key : change.delete;
}

class Client implements FakeClient {
  readonly name: string;
  fate: FakeClient['fate'] = () => 'answered';
  readonly #server: FakeCluster;
  readonly #watches = new Set<{ run: () => void; stop: () => void }>();
  #cut = false;
  #closed = false;

  constructor(server: FakeCluster, name: string) {
    this.#server = server;
    this.name = name;
  }

  cut(): void {
    this.#cut = true;
    for (const watch of this.#watches) watch.run();
  }

  heal(): void {
    this.#cut = false;
    for (const watch of this.#watches) watch.run();
  }

  get(key: string) {
    return this.#request('read', () => {
      const entry = this.#server.entry(key);
      return { ok: true as const, ...(entry && { entry: copyOf(entry) }), revision: this.#server.revision };
    });
  }

  list(prefix: string) {
    return this.#request('read', () => ({
      ok: true as const,
      entries: this.#server.entries(prefix).map(copyOf),
      revision: this.#server.revision,
    }));
  }

  async transact(when: readonly Condition[], then: readonly ClusterChange[]) {
    const problem = changesProblem(then);
    if (problem !== undefined) return problem;
    const own = then.map((change) =>
      'put' in change ? { ...change, value: structuredClone(change.value) } : change,
    );
    return this.#request('change', () => this.#server.transact(when, own));
  }

  lease(ttlSeconds: number) {
    return this.#request('change', () => {
      const lost = new AbortController();
      const alive = () => !this.#cut && !this.#closed;
      const id = this.#server.grant(ttlSeconds, alive, () => {
        lost.abort();
      });
      const release = async () => {
        await this.#request('change', () => {
          this.#server.endLease(id);
          return { ok: true as const };
        });
        lost.abort();
      };
      const lease: ClusterLease = { id, ttlSeconds, lost: lost.signal, release };
      return { ok: true as const, lease };
    });
  }

  watch(prefix: string, listener: WatchListener, after?: number): ClusterWatch {
    const watch = new Following(this.#server, prefix, listener, () => this.#cut, after);
    this.#watches.add(watch);
    return {
      close: () => {
        this.#watches.delete(watch);
        watch.stop();
      },
    };
  }

  close(): Promise<void> {
    this.#closed = true;
    for (const watch of this.#watches) watch.stop();
    this.#watches.clear();
    return Promise.resolve();
  }

  async #request<T>(what: 'read' | 'change', work: () => Result<T>): Promise<Result<T>> {
    if (this.#closed) return failure('closed', 'the cluster store is closed', false);
    // Nobody may come to lean on an answer within the same turn.
    await setImmediate();
    const fate = this.#cut ? 'lost' : this.fate(what);
    if (fate === 'late') this.#server.later(work);
    const answer = fate === 'lost' || fate === 'late' ? undefined : work();
    await setImmediate();
    if (fate === 'answered' && !this.#cut && answer !== undefined) return answer;
    // A client that is cut off cannot tell whether its request got through before.
    return failure(
      'unreachable',
      `${this.name} does not answer`,
      what === 'change' && (this.#cut || fate !== 'lost'),
    );
  }
}

class Following {
  readonly #server: FakeCluster;
  readonly #prefix: string;
  readonly #listener: WatchListener;
  readonly #isCut: () => boolean;
  #after: number | undefined;
  #interrupted = false;
  #scheduled = false;
  #stopped = false;
  readonly #unfollow: () => void;

  constructor(
    server: FakeCluster,
    prefix: string,
    listener: WatchListener,
    isCut: () => boolean,
    after: number | undefined,
  ) {
    this.#server = server;
    this.#prefix = prefix;
    this.#listener = listener;
    this.#isCut = isCut;
    this.#after = after;
    this.#unfollow = server.follow({
      prefix,
      tell: () => {
        this.run();
      },
    });
    this.run();
  }

  stop(): void {
    this.#stopped = true;
    this.#unfollow();
  }

  /** Tells in a later turn, as a network does. */
  run(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    void setImmediate().then(() => {
      this.#scheduled = false;
      if (!this.#stopped) this.#deliver();
    });
  }

  #deliver(): void {
    if (this.#isCut()) {
      if (!this.#interrupted) this.#tell({ kind: 'interrupted', message: 'cut off' });
      this.#interrupted = true;
      return;
    }
    const revision = this.#server.revision;
    const resumed = this.#interrupted;
    this.#interrupted = false;
    const changes = this.#after === undefined ? undefined : this.#server.since(this.#after, this.#prefix);
    this.#after = revision;
    if (resumed) this.#tell({ kind: 'resumed' });
    if (changes === undefined)
      this.#tell({ kind: 'snapshot', revision, entries: this.#server.entries(this.#prefix).map(copyOf) });
    else if (changes.length > 0) this.#tell({ kind: 'changes', revision, changes: structuredClone(changes) });
  }

  #tell(event: WatchEvent): void {
    if (!this.#stopped) this.#listener(event);
  }
}

function copyOf(entry: ClusterEntry): ClusterEntry {
  return structuredClone(entry);
}

function failure(reason: Failure['reason'], message: string, uncertain: boolean): Failure {
  return { ok: false, reason, message, uncertain };
}
