/** That this host is there: a record with a lease, renewed for as long as the daemon runs. */
import type { ClusterLease, ClusterStore } from '../../store/cluster.ts';
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
  /** The lease is there, for the first time or again; or somebody else is there instead. */
  readonly onChange: () => void;
}

export class Membership {
  readonly #options: MembershipOptions;
  #lease: ClusterLease | undefined;
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
    while (!this.#closed) {
      const lease = await this.#enter();
      if (lease === undefined) await this.#pause();
      else await this.#while(lease);
    }
  }

  async #while(lease: ClusterLease): Promise<void> {
    this.#lease = lease;
    this.#trouble = '';
    this.#entered = true;
    this.#options.onChange();
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      lease.lost.addEventListener('abort', () => {
        resolve();
      });
      if (lease.lost.aborted || this.#closed) resolve();
    });
    if (this.#closed) return;
    this.#trouble = 'its lease has ended';
    this.#options.log.warn(
      {},
      'this host was cut off from the cluster for so long that it counts as away there',
    );
  }

  async #enter(): Promise<ClusterLease | undefined> {
    const { cluster, me, key, record, ttl } = this.#options;
    const found = await cluster.get(key);
    if (!found.ok) return this.#failed(found.message);
    const { entry } = found;
    // One of this boot is our own, from before the daemon was killed: the lock on the state says that it is gone.
    const there = entry === undefined ? undefined : memberOf(entry.value);
    if (there !== undefined && there.boot !== record.boot) {
      this.#entered = false;
      this.#options.onChange();
      return this.#failed(
        `the host ${me} is in the cluster already, from another machine (${there.name}): if this one's state was copied from there, remove it here`,
      );
    }
    const granted = await cluster.lease(ttl);
    if (!granted.ok) return this.#failed(granted.message);
    const { lease } = granted;
    const when = entry === undefined ? { key, is: 'absent' as const } : { key, revision: entry.revision };
    const put = await cluster.transact([when], [{ put: key, value: record, lease }]);
    if (put.ok && put.done) return lease;
    void lease.release();
    return this.#failed(put.ok ? `the record of the host ${me} was changed by somebody else` : put.message);
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

function memberOf(value: unknown): MemberRecord {
  const { name, boot } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return { name: typeof name === 'string' ? name : '?', boot: typeof boot === 'string' ? boot : '' };
}
