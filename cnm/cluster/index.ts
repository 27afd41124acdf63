/** The control plane through a cluster store: hosts as leases, networks and endpoints as records that all hosts watch. */
import type { Ip } from '../../address/ip.ts';
import type { Prefix } from '../../address/prefix.ts';
import type { ClusterLease, ClusterStore } from '../../store/cluster.ts';
import type { Agreement, ControlPlane, Place, RemoteNews, Session, Terms } from '../control.ts';
import { CnmError } from '../errors.ts';
import type { Log } from '../log.ts';
import { Queues } from '../queue.ts';
import { Heard } from './heard.ts';
import { decodeNetwork, hostKey, networkId, NETWORKS, onNetwork } from './keys.ts';
import { Membership } from './membership.ts';
import { Networks, type OwnNetwork, unreachable } from './networks.ts';
import type { DoubtPace, OthersParts } from './others.ts';
import { ClusterSession } from './session.ts';

export interface ClusterPlaneOptions {
  readonly store: ClusterStore;
  /** As OthersParts.records. */
  readonly records: OthersParts['records'];
  /** `id`: of this host's records, kept with them; `name` for people; `boot`: another one at every boot of the machine. */
  readonly host: { readonly id: string; readonly name: string; readonly boot: string };
  /** As NetworksParts.shared. */
  readonly shared: () => readonly Prefix[];
  /** The networks of this host that the cluster should know of. */
  readonly own: () => readonly OwnNetwork[];
  /** As OthersParts.isThere. */
  readonly isThere: (address: Ip) => Promise<boolean>;
  readonly log: Log;
  readonly pace?: Partial<Pace>;
}

export interface Pace extends DoubtPace {
  /** Seconds after which a host that does not answer counts as dead: its records go. */
  readonly ttl: number;
  /** Milliseconds between attempts while the store does not answer. */
  readonly retry: number;
}

export const PACE: Pace = { ttl: 15, retry: 500, ask: 1000, askAgain: 5000, back: 5000 };
export const CLUSTER = 'cluster';

export interface ClusterPlane extends ControlPlane {
  /** Why this host is not in the cluster; empty when it is. */
  readonly trouble: string;
  /** With which what this host says of itself is to go; undefined while it is not in the cluster. */
  readonly lease: ClusterLease | undefined;
  start(): void;
}

export function clusterPlane(options: ClusterPlaneOptions): ClusterPlane {
  return new Plane(options);
}

class Plane implements ClusterPlane {
  readonly name = CLUSTER;
  readonly #options: ClusterPlaneOptions;
  readonly #pace: Pace;
  readonly #networks: Networks;
  readonly #membership: Membership;
  readonly #sessions = new Set<ClusterSession>();
  /** One change at a time of the record of a network. */
  readonly #queues = new Queues();
  /** Networks that this host joined since it runs: their records here may not be written yet. */
  readonly #joined = new Set<string>();
  #generation = 0;
  /** Its records are to outlive this daemon. */
  #stays = false;
  #closed = false;
  #settling: Promise<void> | undefined;
  #again = false;
  readonly #complaints = new Set<string>();

  constructor(options: ClusterPlaneOptions) {
    const { store, host, shared, log } = options;
    this.#options = options;
    this.#pace = { ...PACE, ...options.pace };
    this.#networks = new Networks({ store, plane: CLUSTER, me: host, shared });
    this.#membership = new Membership({
      ...{ cluster: store, me: host.id, key: hostKey(host.id), log },
      ...{ ttl: this.#pace.ttl, retry: this.#pace.retry },
      record: { name: host.name, boot: host.boot },
      onChange: () => {
        this.#renew();
      },
    });
  }

  start(): void {
    this.#membership.start();
  }

  get trouble(): string {
    return this.#membership.trouble;
  }

  get lease(): ClusterLease | undefined {
    return this.#membership.entered ? this.#membership.lease : undefined;
  }

  agree(terms: Terms, how: 'join' | 'look'): Promise<Agreement> {
    const id = networkId(terms.name);
    return this.#queues.run(id, async () => {
      if (how === 'look') return this.#networks.agree(terms, how);
      try {
        const agreement = await this.#networks.agree(terms, how);
        this.#joined.add(id);
        return agreement;
      } catch (error) {
        // It may have been done, and its answer lost.
        this.#later();
        throw error;
      }
    });
  }

  /** Whatever cannot be told now is found out when this host is in the cluster the next time. */
  leave({ id }: Agreement): void {
    this.#joined.delete(id);
    void this.#leave(id);
  }

  async #leave(id: string): Promise<void> {
    const told = await this.#queues.run(id, async () => this.#joined.has(id) || this.#networks.leave(id));
    if (!told) this.#later();
  }

  enter(agreement: Agreement, place: Place, listener: (news: RemoteNews) => void): Session {
    const { store, records, host, log, isThere } = this.#options;
    const session = new ClusterSession({
      ...{ store, records, me: host, agreement, place, log, isThere },
      ...{ retry: this.#pace.retry, pace: this.#pace },
      lease: () => this.lease,
      onGeneration: (heard) => {
        this.#generation = Math.max(this.#generation, heard);
      },
      listener,
    });
    this.#sessions.add(session);
    session.start();
    return {
      put: (endpoint) => {
        session.put(endpoint);
      },
      drop: (endpoint) => {
        session.drop(endpoint);
      },
      describe: (details) => {
        session.describe(details);
      },
      close: (left) => {
        session.close(left);
        this.#stays ||= !left;
        // What it has to take back it takes back before it is forgotten.
        void session.idle().then(() => this.#sessions.delete(session));
      },
    };
  }

  quit({ id }: Agreement): void {
    const { records, log } = this.#options;
    new Heard({ records, prefix: onNetwork(id), log }).clear();
  }

  generation(): number {
    // Beyond that no other host would read it.
    return Math.min(this.#generation + 1, Number.MAX_SAFE_INTEGER);
  }

  async forget(host: string): Promise<boolean> {
    const { store } = this.#options;
    const [member, found] = [await store.get(hostKey(host)), await store.list(NETWORKS)];
    if (!member.ok) throw unreachable(member);
    if (!found.ok) throw unreachable(found);
    if (member.entry !== undefined)
      throw new CnmError('request-invalid', `The host ${host} is there: stop cnmd on it first`);
    const its = found.entries.filter(({ value }) => decodeNetwork(value)?.hosts[host] !== undefined);
    for (const { key } of its) {
      const done = await this.#networks.leave(key.slice(NETWORKS.length), host);
      if (!done) throw new CnmError('cluster-unreachable', `Host ${host} has networks still: ask again`);
    }
    return its.length > 0;
  }

  async close(): Promise<void> {
    this.#closed = true;
    const stays = this.#stays || this.#sessions.size > 0;
    for (const session of this.#sessions) session.end();
    await Promise.all([...this.#sessions].map((session) => session.idle()));
    await this.#settling;
    // Its containers stay: the others keep its records for as long as its lease lasts, or until it is back.
    await this.#queues.idle();
    await this.#membership.close(!stays);
  }

  #renew(): void {
    if (this.#membership.lease === undefined || !this.#membership.entered) return;
    for (const session of this.#sessions) session.renew();
    this.#later(0);
  }

  #later(milliseconds = 10 * this.#pace.retry): void {
    if (this.#closed) return;
    setTimeout(() => {
      this.#begin();
    }, milliseconds).unref();
  }

  /** What is being settled may go by records of before: once more then. */
  #begin(): void {
    this.#again = this.#settling !== undefined;
    this.#settling ??= this.#settle().finally(() => {
      this.#settling = undefined;
      if (this.#again && !this.#closed) this.#begin();
    });
  }

  /** What the cluster says of this host's networks, and what it has: brought to agree. */
  async #settle(): Promise<void> {
    const { store, own, host } = this.#options;
    const found = await store.list(NETWORKS);
    if (this.#closed) return;
    if (!found.ok) {
      this.#later();
      return;
    }
    const mine = new Map(own().map((network) => [network.agreement.id, network]));
    for (const { key, value } of found.entries) {
      const id = key.slice(NETWORKS.length);
      const listed = decodeNetwork(value)?.hosts[host.id] !== undefined;
      const isUncertain = this.#networks.isUncertain(id);
      if ((listed || isUncertain) && !mine.has(id)) await this.#leave(id);
      if (listed && !isUncertain) mine.delete(id);
    }
    for (const network of mine.values()) await this.#restore(network);
  }

  async #restore(network: OwnNetwork): Promise<void> {
    const { id } = network.agreement;
    // It may have gone since it was compared.
    const isOwn = () => this.#options.own().some(({ agreement }) => agreement.id === id);
    const told = await this.#queues
      .run(id, async () => !isOwn() || this.#networks.restore(network))
      .catch((error: unknown) => this.#complain(error));
    if (!told) this.#later();
  }

  /** Once; somebody may see to it. */
  #complain(error: unknown): false {
    if (!(error instanceof CnmError)) throw error;
    if (!this.#complaints.has(error.message)) this.#options.log.error({}, error.message);
    this.#complaints.add(error.message);
    return false;
  }
}
