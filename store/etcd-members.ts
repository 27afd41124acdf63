/** The members of an etcd cluster: which of them is asked, and what its failures mean. */
import type { CallOptions, ChannelOptions } from '@grpc/grpc-js';
import { noop } from 'cockatiel';
import { Etcd3, EtcdLeaseInvalidError } from 'etcd3';
import type { Failure, Result } from './cluster.ts';

export interface Member {
  readonly client: Etcd3;
  /** With the deadline of this call. */
  readonly options: CallOptions;
}

/** Contents of files in PEM. */
export interface EtcdTls {
  /** What etcd's certificate must be signed by. */
  readonly ca: Buffer;
  /** What this host shows. */
  readonly own?: { readonly cert: Buffer; readonly key: Buffer };
}

export interface MembersOptions {
  readonly hosts: readonly string[];
  /** Milliseconds, of a call, whichever members are tried. */
  readonly deadline: number;
  readonly channel: ChannelOptions;
  readonly tls: EtcdTls | undefined;
}

export class Members {
  readonly name: string;
  readonly #connections: readonly Connection[];
  readonly #deadline: number;
  #current = 0;
  #closed = false;

  constructor({ hosts, deadline, channel, tls }: MembersOptions) {
    this.name = `etcd${tls === undefined ? '' : 's'}://${hosts.join(',')}`;
    this.#deadline = deadline;
    // One client for each: etcd3 would choose one at random for each call, also one that is known to be gone.
    this.#connections = hosts.map((host) => new Connection(host, channel, tls));
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The member that answered last, for streams. */
  get current(): Etcd3 {
    return this.#connection.client;
  }

  get #connection(): Connection {
    const connection = this.#connections[this.#current];
    if (connection === undefined) throw new RangeError('an etcd cluster has at least one member');
    return connection;
  }

  /** It does not answer: the next one is asked from now on, unless somebody has seen to that already. */
  giveUp(client: Etcd3): void {
    if (this.current === client) this.#current = (this.#current + 1) % this.#connections.length;
  }

  /** One member after another while nothing can have been done; a read is done again in any case. */
  async call<T>(what: 'read' | 'change', work: (member: Member) => Promise<Result<T>>): Promise<Result<T>> {
    const end = Date.now() + this.#deadline;
    // A member that is cut off takes all the time that it is given: leave some for another one.
    const share = this.#deadline / Math.min(2, this.#connections.length);
    let failed: Failure | undefined;
    for (let tried = 0; tried < this.#connections.length && Date.now() < end; tried++) {
      if (this.#closed) return this.#failure('closed', 'the connection to the cluster is closed', false);
      const connection = this.#connection;
      const { client } = connection;
      try {
        const result = await work({ client, options: { deadline: Math.min(end, Date.now() + share) } });
        connection.answered();
        return result;
      } catch (error) {
        failed = this.failureOf(error);
        if (failed.reason !== 'unreachable') return failed;
        this.giveUp(client);
        if (CONNECTING.test(failed.message)) connection.waits(client, this.#deadline);
        if (what === 'change' && failed.uncertain) return failed;
      }
    }
    const last = failed ?? this.#failure('unreachable', `${this.name} did not answer in time`, false);
    return what === 'read' ? { ...last, uncertain: false } : last;
  }

  failureOf(error: unknown): Failure {
    if (this.#closed) return this.#failure('closed', 'the connection to the cluster is closed', true);
    const text = error instanceof Error ? error.message : String(error);
    if (error instanceof EtcdLeaseInvalidError) return this.#failure('lease-lost', text, false);
    if (REFUSED.test(text)) return this.#failure('refused', `${this.name} refused: ${text}`, false);
    return this.#failure('unreachable', `${this.name} does not answer: ${text}`, !NOT_SENT.test(text));
  }

  close(): void {
    this.#closed = true;
    for (const { client } of this.#connections) client.close();
  }

  #failure(reason: Failure['reason'], message: string, uncertain: boolean): Failure {
    return { ok: false, reason, message, uncertain };
  }
}

/**
 * To one member. grpc-js waits for a connection for as long as the kernel does, which asks again after 1, 2, 4 and so on to 64 s (tcp(7),
 * tcp_syn_retries), or for ever where somebody accepts it and says nothing: a host that was cut off would be away long after it is back. So
 * there is another one in its place.
 */
class Connection {
  readonly #make: (generation: number) => Etcd3;
  #client: Etcd3;
  #generation = 0;
  /** Since when there is none; undefined while that is not known. */
  #since: number | undefined;

  constructor(host: string, channel: ChannelOptions, tls: EtcdTls | undefined) {
    this.#make = (generation) =>
      new Etcd3({
        hosts: host,
        // Those with the same options would share what there is (grpc-js, subchannel-pool.ts).
        grpcOptions: { ...channel, 'grpc.primary_user_agent': `cnmd-${generation}` },
        faultHandling: { host: () => noop, global: noop },
        ...(tls !== undefined && { credentials: credentialsOf(tls) }),
      });
    this.#client = this.#make(0);
  }

  get client(): Etcd3 {
    return this.#client;
  }

  answered(): void {
    this.#since = undefined;
  }

  /** There was none when a call ended; after `limit` milliseconds of that it is made anew. */
  waits(client: Etcd3, limit: number): void {
    if (client !== this.#client) return;
    this.#since ??= performance.now();
    if (performance.now() - this.#since < limit) return;
    this.#since = undefined;
    this.#generation += 1;
    this.#client = this.#make(this.#generation);
    client.close();
  }
}

function credentialsOf({ ca, own }: EtcdTls) {
  return { rootCertificate: ca, ...(own && { certChain: own.cert, privateKey: own.key }) };
}

/**
 * gRPC's codes, which etcd3 leaves in the text, for answers of etcd itself that say that nothing was done: INVALID_ARGUMENT,
 * NOT_FOUND, PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION, OUT_OF_RANGE, UNAUTHENTICATED.
 */
const REFUSED =
  /^(3|5|7|8|9|11|16) [A-Z]|^etcdserver: (mvcc: )?(database space exceeded|too many|request is too large|permission denied)/;

/** What grpc-js says of a call whose time was up before there was a connection (resolving-call.ts). */
const CONNECTING = /Waiting for LB pick/;

/** What grpc-js says of a call that never left this host (internal-channel.ts, resolving-call.ts). */
const NOT_SENT =
  /No connection established|Waiting for LB pick|Name resolution failed|Channel closed before call started|Channel has been shut down/;
