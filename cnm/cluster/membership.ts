/** That this host is there: a record with a lease, renewed for as long as the daemon runs, and written again where somebody took it out. */
import type { ClusterEntry, ClusterLease, ClusterStore, Condition, WatchEvent } from '../../store/cluster.ts';
import type { Log } from '../log.ts';

/** What a host says of itself, at the least. */
export interface MemberRecord {
  /** Of the machine, for people. */
  readonly name: string;
  /** Which boot of its machine: another one under the same id is a copy of its state. */
  readonly boot: string;
}

export interface MembershipOptions {
  readonly cluster: ClusterStore;
  readonly me: string;
  /** Of the record. */
  readonly key: string;
  readonly record: MemberRecord;
  /** Seconds after which a host that does not answer counts as away. */
  readonly ttl: number;
  /** Milliseconds between attempts. */
  readonly retry: number;
  readonly log: Log;
  /** The record is there, for the first time or again; or somebody else is there instead. */
  readonly onChange: () => void;
}

export class Membership {
  readonly #options: MembershipOptions;
  #lease: ClusterLease | undefined;
  /** The lease with which its record was written. */
  #written: string | undefined;
  /** The record may not be so any more. */
  #doubtful = false;
  #entered = false;
  #closed = false;
  #wake: () => void = () => undefined;
  #running: Promise<void> | undefined;
  /** Why the host is not in the cluster. */
  #trouble = 'it has not been asked yet';

  constructor(options: MembershipOptions) {
    this.#options = options;
  }

  /** Undefined while this host is not known to be there. */
  get lease(): ClusterLease | undefined {
    return this.#lease?.lost.aborted === false ? this.#lease : undefined;
  }

  /** That this host was let in, and no other has come in its name since. */
  get entered(): boolean {
    return this.#entered;
  }

  get trouble(): string {
    return this.#trouble;
  }

  start(): void {
    this.#running = this.#run();
  }

  /** @param release The record goes at once, and not with its time: when the store answers. */
  async close(release: boolean): Promise<void> {
    this.#closed = true;
    this.#wake();
    await this.#running;
    if (release) await this.#lease?.release();
  }

  async #run(): Promise<void> {
    const { cluster, key } = this.#options;
    const watch = cluster.watch(key, (event) => {
      this.#hear(event);
    });
    while (!this.#closed) {
      const lease = await this.#enter();
      if (lease === undefined) await this.#pause();
      else await this.#while(lease);
    }
    watch.close();
  }

  /** What is told late may be otherwise by now: it only says when to look. */
  #hear(event: WatchEvent): void {
    const { key } = this.#options;
    const isOther = (entry: ClusterEntry | undefined) => entry?.lease !== this.#written;
    if (event.kind === 'snapshot') this.#doubtful ||= isOther(event.entries.find((one) => one.key === key));
    if (event.kind === 'changes')
      for (const change of event.changes) {
        if ('put' in change) this.#doubtful ||= change.put.key === key && isOther(change.put);
        else this.#doubtful ||= change.delete === key;
      }
    if (this.#doubtful) this.#wake();
  }

  async #while(lease: ClusterLease): Promise<void> {
    this.#lease = lease;
    this.#trouble = '';
    this.#entered = true;
    this.#options.onChange();
    lease.lost.addEventListener('abort', () => {
      this.#wake();
    });
    while (!lease.lost.aborted && !this.#closed) {
      if (!this.#doubtful) await this.#news(lease);
      else if (!(await this.#look(lease))) await this.#pause();
    }
    if (this.#closed || !this.entered) return;
    this.#trouble = 'its lease has ended';
    this.#options.log.warn(
      {},
      'this host was cut off from the cluster for so long that it counts as away there',
    );
  }

  #news(lease: ClusterLease): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
      if (lease.lost.aborted || this.#closed || this.#doubtful) resolve();
    });
  }

  /** Whether the record is there; written again where it is not. @returns false when that is not known, and to be looked for later. */
  async #look(lease: ClusterLease): Promise<boolean> {
    const { cluster, key, record, log, onChange } = this.#options;
    this.#doubtful = false;
    const found = await cluster.get(key);
    if (found.ok && found.entry?.lease === lease.id) return true;
    if (found.ok && this.#isAnothers(found.entry)) {
      // What is under this host's id is that machine's now.
      void lease.release();
      return true;
    }
    this.#doubtful = true;
    if (!found.ok) return false;
    const put = await cluster.transact([asFound(key, found.entry)], [{ put: key, value: record, lease }]);
    // Somebody ended the lease, too: it is had anew at once.
    if (!put.ok && put.reason === 'lease-lost') void lease.release();
    if (put.ok ? !put.done : !put.uncertain) return false;
    log.warn({ key }, 'the record of this host was not in the cluster any more, and is there again');
    onChange();
    return true;
  }

  async #enter(): Promise<ClusterLease | undefined> {
    const { cluster, me, key, record, ttl } = this.#options;
    this.#doubtful = false;
    const found = await cluster.get(key);
    if (!found.ok) return this.#failed(found.message);
    if (this.#isAnothers(found.entry)) return undefined;
    const granted = await cluster.lease(ttl);
    if (!granted.ok) return this.#failed(granted.message);
    const { lease } = granted;
    this.#written = lease.id;
    const put = await cluster.transact([asFound(key, found.entry)], [{ put: key, value: record, lease }]);
    if (put.ok && put.done) return lease;
    void lease.release();
    return this.#failed(put.ok ? `the record of the host ${me} was changed by somebody else` : put.message);
  }

  /** One of this boot is our own, from before the daemon was killed: the lock on the state says that it is gone. */
  #isAnothers(entry: ClusterEntry | undefined): boolean {
    const { me, record, onChange } = this.#options;
    const there = entry && memberOf(entry.value);
    if (there === undefined || there.boot === record.boot) return false;
    this.#entered = false;
    onChange();
    this.#failed(
      `the host ${me} is in the cluster already, from another machine (${there.name}): if this one's state was copied from there, remove it here`,
    );
    return true;
  }

  /** No lease, and why. */
  #failed(trouble: string): ClusterLease | undefined {
    if (trouble !== this.#trouble) this.#options.log.warn({ trouble }, 'this host is not in the cluster yet');
    this.#trouble = trouble;
    return undefined;
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#closed) resolve();
      this.#wake = resolve;
      setTimeout(resolve, this.#options.retry).unref();
    });
  }
}

function asFound(key: string, entry: ClusterEntry | undefined): Condition {
  return entry === undefined ? { key, is: 'absent' } : { key, revision: entry.revision };
}

/** Undefined: no machine says that of itself. */
function memberOf(value: unknown): MemberRecord | undefined {
  const { name, boot } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return typeof boot === 'string' ? { name: typeof name === 'string' ? name : '?', boot } : undefined;
}
