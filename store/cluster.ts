/**
 * Records that the hosts of a cluster share: JSON values under string keys, in a store of their own (etcd).
 *
 * What differs from `Store`: others write too, so nothing is answered from memory and every change says under which
 * conditions it may be made; the network may fail, so every answer may be a failure, and a failure is data; and a record
 * may live only as long as the host that wrote it (a lease).
 *
 * Revisions are etcd's: one number for the whole store that grows with every change. An entry's revision is that of its
 * last change, so "unchanged since I read it" is one comparison.
 */

export interface ClusterEntry {
  readonly key: string;
  readonly value: unknown;
  /** Of its last change. */
  readonly revision: number;
  /** The id of the lease that it goes with. */
  readonly lease?: string;
}

/** Must hold at the moment of a transaction. */
export type Condition =
  | { readonly key: string; readonly is: 'absent' | 'present' }
  /** Unchanged since it was read with this revision. */
  | { readonly key: string; readonly revision: number };

/** @param entry What there is under the condition's key. */
export function isMet(condition: Condition, entry: ClusterEntry | undefined): boolean {
  if ('revision' in condition) return entry?.revision === condition.revision;
  return (entry === undefined) === (condition.is === 'absent');
}

export type ClusterChange =
  | { readonly put: string; readonly value: unknown; readonly lease?: ClusterLease }
  | { readonly delete: string };

/**
 * Why there is no answer.
 * - `unreachable`: no member answered within the deadline;
 * - `lease-lost`: a change named a lease that has ended; nothing was changed;
 * - `refused`: the store does not take it (too large, no space, not allowed); nothing was changed;
 * - `invalid`: a value that is not JSON, too many changes, a key twice; nothing was changed;
 * - `closed`: after close().
 */
export interface Failure {
  readonly ok: false;
  readonly reason: 'unreachable' | 'lease-lost' | 'refused' | 'invalid' | 'closed';
  /** A sentence for a person; names the members that were tried. */
  readonly message: string;
  /** The change may have been made, or may yet be made: only its conditions still protect from it. */
  readonly uncertain: boolean;
}

export type Result<T> = ({ readonly ok: true } & T) | Failure;

/** No more changes than this in a transaction (etcd's default of `--max-txn-ops` is 128). */
export const MOST_CHANGES = 100;

export interface ClusterStore {
  /** For people: `etcd://10.0.0.1:2379`. */
  readonly name: string;
  /** The entry as of now: no older than any answer that anybody had before (a linearizable read). */
  get(key: string): Promise<Result<{ readonly entry?: ClusterEntry; readonly revision: number }>>;
  /** All entries whose key starts with `prefix`, in key order (by UTF-8 bytes), all of one revision. */
  list(
    prefix: string,
  ): Promise<Result<{ readonly entries: readonly ClusterEntry[]; readonly revision: number }>>;
  /**
   * All changes or none, in one step: they are made when all conditions hold (`done`). `revision` is the store's after it.
   * No key twice among the changes. When it fails with `uncertain`, read what there is before anything is done again.
   */
  transact(
    when: readonly Condition[],
    then: readonly ClusterChange[],
  ): Promise<Result<{ readonly done: boolean; readonly revision: number }>>;
  /** Entries put with it vanish when it ends. It is kept alive from here until release() or the end of the process. */
  lease(ttlSeconds: number): Promise<Result<{ readonly lease: ClusterLease }>>;
  /**
   * Follows all entries under `prefix`. Without `after`, or when the changes since then are no longer to be had
   * (compaction, a store that was set up anew), it begins with a snapshot, which replaces all that was known. Goes on by
   * itself, with nothing left out and nothing told twice, after any interruption. The listener is not called after close().
   */
  watch(prefix: string, listener: WatchListener, after?: number): ClusterWatch;
  /** Ends watches; leases are left to run out, or to be taken up again. */
  close(): Promise<void>;
}

export interface ClusterLease {
  readonly id: string;
  /** As granted. */
  readonly ttlSeconds: number;
  /**
   * Aborted when the lease has ended, or may have: no confirmation came for its whole time, counted by this host's
   * monotonic clock from before the last confirmed keep-alive was sent. So it is never late, and may be early.
   */
  readonly lost: AbortSignal;
  /** Ends it now, with its entries; without an answer from the store, it ends when its time is up. */
  release(): Promise<void>;
}

export type WatchEvent =
  /** Everything there is. */
  | { readonly kind: 'snapshot'; readonly revision: number; readonly entries: readonly ClusterEntry[] }
  /** All changes up to `revision`, in their order; of one key several may come. */
  | { readonly kind: 'changes'; readonly revision: number; readonly changes: readonly WatchChange[] }
  /** What is known may be old from here on, until `resumed`. */
  | { readonly kind: 'interrupted'; readonly message: string }
  | { readonly kind: 'resumed' };

export type WatchChange =
  | { readonly put: ClusterEntry }
  /** By somebody, or because its lease ended. */
  | { readonly delete: string; readonly revision: number };

/** Must not throw. */
export type WatchListener = (event: WatchEvent) => void;

export interface ClusterWatch {
  close(): void;
}
