/** Following a prefix in etcd over interruptions, compaction and a store that was set up anew. */
import { setTimeout } from 'node:timers/promises';
import { InterceptingCall } from '@grpc/grpc-js';
import type { Interceptor } from '@grpc/grpc-js';
import type { Etcd3, IWatchResponse } from 'etcd3';
import type {
  ClusterEntry,
  ClusterWatch,
  Result,
  WatchChange,
  WatchEvent,
  WatchListener,
} from './cluster.ts';
import { endOf, entryOf, keyBytes, revisionOf } from './etcd-entry.ts';
import type { Members } from './etcd-members.ts';

export interface EtcdWatchOptions {
  readonly members: Members;
  readonly root: string;
  readonly prefix: string;
  readonly listener: WatchListener;
  readonly list: () => Promise<
    Result<{ readonly entries: readonly ClusterEntry[]; readonly revision: number }>
  >;
  readonly after: number | undefined;
}

/** Milliseconds between attempts. */
const FIRST_PAUSE = 100;
const LONGEST_PAUSE = 2000;

/** A member that is cut off from the others ends the stream instead of staying silent (etcd, `WithRequireLeader`). */
const requireLeader: Interceptor = (options, next) =>
  new InterceptingCall(next(options), {
    start(metadata, listener, proceed) {
      metadata.set('hasleader', 'true');
      proceed(metadata, listener);
    },
  });

/** Why a stream ended. */
type End =
  | { readonly kind: 'broken'; readonly message: string }
  /** The changes since then are not to be had. */
  | { readonly kind: 'forgotten' };

export class EtcdWatch implements ClusterWatch {
  readonly #options: EtcdWatchOptions;
  /** Everything up to this revision has been told. */
  #after: number | undefined;
  /** Which etcd cluster that was: one that is set up anew has another number. */
  #cluster: string | undefined;
  #interrupted = false;
  #pause = FIRST_PAUSE;
  readonly #closed = new AbortController();

  constructor(options: EtcdWatchOptions) {
    this.#options = options;
    this.#after = options.after;
    void this.#run();
  }

  close(): void {
    this.#closed.abort();
  }

  async #run(): Promise<void> {
    while (!this.#closed.signal.aborted) {
      const end = this.#after === undefined ? await this.#snapshot() : await this.#stream(this.#after);
      if (end?.kind === 'forgotten') this.#after = undefined;
      if (end?.kind === 'broken') await this.#wait(end.message);
    }
  }

  async #snapshot(): Promise<End | undefined> {
    const found = await this.#options.list();
    if (!found.ok) return { kind: 'broken', message: found.message };
    const { revision, entries } = found;
    this.#resume();
    this.#cluster = undefined;
    this.#after = revision;
    this.#tell({ kind: 'snapshot', revision, entries });
    return undefined;
  }

  async #wait(message: string): Promise<void> {
    if (!this.#interrupted) this.#tell({ kind: 'interrupted', message });
    this.#interrupted = true;
    const pause = this.#pause * (0.5 + Math.random() / 2);
    this.#pause = Math.min(2 * this.#pause, LONGEST_PAUSE);
    await setTimeout(pause, undefined, { signal: this.#closed.signal, ref: false }).catch(() => undefined);
  }

  async #stream(after: number): Promise<End> {
    const { members } = this.#options;
    const client = members.current;
    try {
      const end = await this.#follow(client, after);
      if (end.kind === 'broken') members.giveUp(client);
      return end;
    } catch (error) {
      members.giveUp(client);
      return { kind: 'broken', message: error instanceof Error ? error.message : String(error) };
    }
  }

  async #follow(client: Etcd3, after: number): Promise<End> {
    const { root, prefix } = this.#options;
    const stream = await client.watchClient.watch({ interceptors: [requireLeader] });
    const ended: PromiseWithResolvers<End> = Promise.withResolvers();
    const cancel = () => {
      stream.cancel();
      ended.resolve({ kind: 'broken', message: 'closed' });
    };
    this.#closed.signal.addEventListener('abort', cancel);
    stream.on('data', (answer) => {
      const end = this.#hear(answer);
      if (end !== undefined) ended.resolve(end);
    });
    stream.on('error', (error) => {
      ended.resolve({ kind: 'broken', message: error.message });
    });
    stream.on('end', () => {
      ended.resolve({ kind: 'broken', message: 'etcd ended the stream' });
    });
    const range = { key: keyBytes(root, prefix), range_end: endOf(root, prefix) };
    // From the last revision that was told on, which is passed over: compaction at the next one would leave its deletions
    // out without a word (etcd, mvcc/index.go: a tombstone goes with its revision), and only tells of what is older.
    stream.write({ create_request: { ...range, start_revision: Math.max(1, after), progress_notify: true } });
    if (this.#closed.signal.aborted) cancel();
    const end = await ended.promise;
    this.#closed.signal.removeEventListener('abort', cancel);
    stream.cancel();
    return end;
  }

  /** @returns when it cannot go on. */
  #hear(answer: IWatchResponse): End | undefined {
    const { header, canceled, compact_revision, created } = answer;
    if (canceled && compact_revision !== '0') return { kind: 'forgotten' };
    if (canceled) return { kind: 'broken', message: answer.cancel_reason };
    // Set up anew, or put back to an older state: what was told is not to be relied on.
    const renewed = this.#cluster !== undefined && this.#cluster !== header.cluster_id;
    if (renewed || revisionOf(header) < (this.#after ?? 0)) return { kind: 'forgotten' };
    this.#cluster = header.cluster_id;
    if (created) this.#resume();
    else this.#deliver(answer);
    return undefined;
  }

  #deliver({ header, events }: IWatchResponse): void {
    const after = this.#after ?? 0;
    const fresh = events.filter(({ kv }) => Number(kv.mod_revision) > after);
    const changes = fresh.map((event) => changeOf(this.#options.root, event));
    const last = events.at(-1);
    // Behind events there may be more up to the header's revision; an answer without any says that there are none.
    this.#after = last === undefined ? revisionOf(header) : Number(last.kv.mod_revision);
    if (changes.length > 0) this.#tell({ kind: 'changes', revision: this.#after, changes });
  }

  #resume(): void {
    this.#pause = FIRST_PAUSE;
    if (this.#interrupted) this.#tell({ kind: 'resumed' });
    this.#interrupted = false;
  }

  #tell(event: WatchEvent): void {
    if (!this.#closed.signal.aborted) this.#options.listener(event);
  }
}

function changeOf(root: string, { type, kv }: IWatchResponse['events'][number]): WatchChange {
  const entry = entryOf(root, kv);
  // etcd3's types say Delete, what is in etcd's protocol file arrives.
  return type.toUpperCase() === 'DELETE' ? { delete: entry.key, revision: entry.revision } : { put: entry };
}
