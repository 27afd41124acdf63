/**
 * The cluster store in etcd (API v3), over etcd3's calls and @grpc/grpc-js's connections.
 *
 * Only etcd3's calls are used. Its retries are off, since a transaction that is sent twice may fail on itself; its circuit
 * breaker is off, since it goes on refusing after etcd is back; its leases count by the wall clock; and its watcher takes the
 * revision of the "created" answer for one that it has seen, so that two interruptions in a row lose what came between. What
 * takes their place is in etcd-watch.ts and etcd-lease.ts.
 */
import type { ChannelOptions } from '@grpc/grpc-js';
import { changesProblem } from './cluster-changes.ts';
import type {
  ClusterChange,
  ClusterEntry,
  ClusterLease,
  ClusterStore,
  ClusterWatch,
  Condition,
  Result,
  WatchListener,
} from './cluster.ts';
import { endOf, entryOf, keyBytes, revisionOf } from './etcd-entry.ts';
import { grantLease } from './etcd-lease.ts';
import { Members } from './etcd-members.ts';
import type { EtcdTls, Member } from './etcd-members.ts';
import { EtcdWatch } from './etcd-watch.ts';

export interface EtcdOptions {
  /** `host:port`, of members of one etcd cluster. */
  readonly members: readonly string[];
  /** Absent: in the clear. */
  readonly tls?: EtcdTls;
  /** In front of every key. */
  readonly root?: string;
  /** Milliseconds for a request, whichever members are tried. Default 5 s. */
  readonly deadline?: number;
}

/** Milliseconds. etcd ends connections that ask more often than every 5 s (`--grpc-keepalive-min-time`). */
const CHANNEL: ChannelOptions = {
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 5_000,
  'grpc.initial_reconnect_backoff_ms': 100,
  'grpc.min_reconnect_backoff_ms': 100,
  'grpc.max_reconnect_backoff_ms': 1_000,
  'grpc.max_receive_message_length': -1,
};

/** Entries in one answer: some megabytes at most. */
const PAGE = 2000;

/** Connects when it is first asked. */
export function openEtcd(options: EtcdOptions): ClusterStore {
  const { members, tls, root = '/cnm/', deadline = 5000 } = options;
  return new EtcdStore(new Members({ hosts: members, deadline, channel: CHANNEL, tls }), root);
}

class EtcdStore implements ClusterStore {
  readonly name: string;
  readonly #members: Members;
  readonly #root: string;
  readonly #watches = new Set<ClusterWatch>();

  constructor(members: Members, root: string) {
    this.#members = members;
    this.#root = root;
    this.name = members.name;
  }

  get(key: string): Promise<Result<{ readonly entry?: ClusterEntry; readonly revision: number }>> {
    return this.#members.call('read', async ({ client, options }) => {
      const answer = await client.kv.range({ key: keyBytes(this.#root, key) }, options);
      const [found] = answer.kvs;
      const entry = found && entryOf(this.#root, found);
      return { ok: true as const, ...(entry && { entry }), revision: revisionOf(answer.header) };
    });
  }

  list(prefix: string) {
    return this.#members.call('read', (member) => this.#list(member, prefix));
  }

  async transact(
    when: readonly Condition[],
    then: readonly ClusterChange[],
  ): Promise<Result<{ readonly done: boolean; readonly revision: number }>> {
    const problem = changesProblem(then);
    if (problem !== undefined) return problem;
    const request = {
      compare: when.map((condition) => compareOf(this.#root, condition)),
      success: then.map((change) => operationOf(this.#root, change)),
    };
    return this.#members.call('change', async ({ client, options }) => {
      const { succeeded, header } = await client.kv.txn(request, options);
      return { ok: true as const, done: succeeded, revision: revisionOf(header) };
    });
  }

  lease(ttlSeconds: number): Promise<Result<{ readonly lease: ClusterLease }>> {
    return grantLease(this.#members, ttlSeconds);
  }

  watch(prefix: string, listener: WatchListener, after?: number): ClusterWatch {
    const list = () => this.list(prefix);
    const watch = new EtcdWatch({ members: this.#members, root: this.#root, prefix, listener, list, after });
    this.#watches.add(watch);
    return {
      close: () => {
        this.#watches.delete(watch);
        watch.close();
      },
    };
  }

  close(): Promise<void> {
    for (const watch of this.#watches) watch.close();
    this.#watches.clear();
    this.#members.close();
    return Promise.resolve();
  }

  /** In pages of one revision, which cannot be compacted in the time that a request has. */
  async #list({ client, options }: Member, prefix: string) {
    const entries: ClusterEntry[] = [];
    const end = endOf(this.#root, prefix);
    let from = keyBytes(this.#root, prefix);
    let revision: number | undefined;
    for (;;) {
      const page = { key: from, range_end: end, limit: PAGE, ...(revision !== undefined && { revision }) };
      const answer = await client.kv.range(page, options);
      revision ??= revisionOf(answer.header);
      entries.push(...answer.kvs.map((found) => entryOf(this.#root, found)));
      const last = answer.kvs.at(-1);
      if (!answer.more || last === undefined) return { ok: true as const, entries, revision };
      from = Buffer.concat([last.key, Buffer.of(0)]);
    }
  }
}

function compareOf(root: string, condition: Condition) {
  const key = keyBytes(root, condition.key);
  if ('revision' in condition)
    return { key, target: 'Mod', result: 'Equal', mod_revision: condition.revision } as const;
  // A key that does not exist has the revision 0 (etcd, server/etcdserver/apply.go, compareKV).
  const result = condition.is === 'absent' ? 'Equal' : 'NotEqual';
  return { key, target: 'Create', result, create_revision: 0 } as const;
}

function operationOf(root: string, change: ClusterChange) {
  if ('delete' in change) return { request_delete_range: { key: keyBytes(root, change.delete) } };
  const value = Buffer.from(JSON.stringify(change.value));
  const lease = change.lease && { lease: change.lease.id };
  return { request_put: { key: keyBytes(root, change.put), value, ...lease } };
}
