/**
 * The cluster's address space on this host: which pools it has with others, and bringing the cluster's records and this
 * host's own to agree, at the start, after every interruption, and from time to time.
 */
import type { Ip } from '../../address/ip.ts';
import { familyOfPrefix } from '../../address/prefix.ts';
import type { Prefix } from '../../address/prefix.ts';
import { Membership } from '../../cnm/cluster/membership.ts';
import { CnmError } from '../../cnm/errors.ts';
import type { Log } from '../../cnm/log.ts';
import { Queues } from '../../cnm/queue.ts';
import type { ClusterStore } from '../../store/cluster.ts';
import { Intervals } from '../intervals.ts';
import type { Pool } from '../pool.ts';
import { forgetHost, spanOf } from './block.ts';
import type { Block } from './block.ts';
import { Holding } from './holding.ts';
import { ULA, hostKey } from './keys.ts';
import type { Ask } from './keys.ts';
import { Mirror } from './mirror.ts';
import { ClusterProblem, Records, unreachable } from './records.ts';
import { hostText } from './refusals.ts';
import { Settlement } from './settlement.ts';
import type { Span } from '../spans.ts';

export interface ClusterIdentity {
  /** Of this host's records: kept with them. */
  readonly id: string;
  /** Of the machine, for people. */
  readonly name: string;
  readonly advertise?: Ip;
  /** Another one at every boot of the machine. */
  readonly boot: string;
}

export interface ClusterPace {
  /** Seconds after which a host that does not answer counts as away. */
  readonly ttl: number;
  /** The rest in milliseconds. Between attempts while the store does not answer. */
  readonly retry: number;
  /** For another host to give back what it does not need. */
  readonly answerTime: number;
  /** For this host to be in the cluster, when something is asked of it. */
  readonly readyTime: number;
  readonly upkeep: number;
}

export const PACE: ClusterPace = { ttl: 15, retry: 500, answerTime: 2000, readyTime: 3000, upkeep: 30_000 };

/** So many addresses are asked for at a time that are in use here and held by others. */
const RECOVERED = 20;

/** What the IPAM says of its own pools. */
export interface OwnPools {
  /** Undefined when this host does not have it. */
  pool(prefix: Prefix): Pool | undefined;
  pools(): readonly Pool[];
  restedBy(pool: Pool): number;
  /** What may be given of it is something else by now. */
  changed(pool: Pool): void;
}

export interface ClusterSpaceOptions {
  readonly cluster: ClusterStore;
  readonly identity: ClusterIdentity;
  readonly own: OwnPools;
  readonly log: Log;
  readonly pace: ClusterPace;
}

export class ClusterSpace {
  readonly #options: ClusterSpaceOptions;
  readonly #me: string;
  readonly #mirror: Mirror;
  readonly #presence: Membership;
  readonly #records: Records;
  readonly #holdings = new Map<Pool, Holding>();
  /** Addresses that this host has given and that are others' by now. */
  readonly #conflicts = new Map<Prefix, readonly Ip[]>();
  readonly #queues = new Queues();
  #upkeep: NodeJS.Timeout | undefined;
  /** Nobody else is in the cluster under this host's identity. */
  #entered = false;
  #closed = false;

  constructor(options: ClusterSpaceOptions) {
    const { cluster, identity, log, pace } = options;
    const { id, name, advertise, boot } = identity;
    this.#options = options;
    this.#me = id;
    this.#mirror = new Mirror(id, {
      onPool: (pool) => {
        this.#changed(pool);
      },
      onAsk: (key, by, ask) => void this.#answer(key, by, ask),
      onCaughtUp: () => {
        this.#settleAll();
      },
    });
    this.#records = new Records(cluster, this.#mirror, id);
    const record = { name, boot, ...(advertise !== undefined && { advertise }) };
    const { ttl, retry } = pace;
    const onChange = () => {
      this.#enter();
    };
    this.#presence = new Membership({
      ...{ cluster, me: id, key: hostKey(id), record, ttl, retry, log, onChange },
    });
  }

  start(): void {
    this.#mirror.start(this.#options.cluster);
    this.#presence.start();
    this.#upkeep = setInterval(() => {
      this.#settleAll();
    }, this.#options.pace.upkeep);
    this.#upkeep.unref();
  }

  /** Gives back what is free, as far as the store answers, and says that this host is away. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#upkeep);
    const answers = this.#mirror.current;
    await Promise.all([...this.#holdings.values()].map((holding) => holding.close(answers)));
    await this.#queues.idle();
    this.#mirror.close();
    await this.#presence.close(answers);
  }

  get mirror(): Mirror {
    return this.#mirror;
  }

  get me(): string {
    return this.#me;
  }

  get name(): string {
    return this.#options.cluster.name;
  }

  /** Why this host is not in the cluster; empty when it is. */
  get trouble(): string {
    return this.#presence.trouble;
  }

  conflicts(pool: Prefix): readonly Ip[] {
    return this.#conflicts.get(pool) ?? [];
  }

  /** @throws CnmError `cluster-unreachable` when this host is not in the cluster, and does not come to be in time. */
  async ready(): Promise<void> {
    const { readyTime } = this.#options.pace;
    const inTime = await this.#mirror.until(() => this.#mirror.known && this.#entered, readyTime);
    if (inTime) return;
    throw new CnmError(
      'cluster-unreachable',
      `The pools of cnm-global are in ${this.name}, and this host is not in that cluster yet: ${this.#presence.trouble}`,
    );
  }

  /** What this host holds of a pool that it has; when it resolves, it may be given. @throws CnmError. */
  async holding(pool: Pool): Promise<Holding> {
    const holding = this.#holdingOf(pool);
    if (holding.confirmed) return holding;
    await this.ready();
    try {
      await this.#settle(pool.prefix);
    } catch (error) {
      throw unreachable(`This host has not come to terms with the cluster about ${pool.prefix} yet`, error);
    }
    return holding;
  }

  /** What may be given of it at this moment. */
  available(pool: Pool): readonly Span[] {
    return this.#holdings.get(pool)?.available ?? [];
  }

  /** The pool that hosts chose under a name. */
  named(name: string, family: 4 | 6): Prefix | undefined {
    return this.#mirror.named(name, family)?.pool;
  }

  /** What the pools of the cluster cover. */
  used(family: 4 | 6): Intervals {
    const found = new Intervals();
    for (const { pool } of this.#mirror.pools) {
      const { first, last } = spanOf(pool);
      if (familyOfPrefix(pool) === family) found.add(first, last);
    }
    return found;
  }

  /** The cluster's /48, made with the first pool that is to come out of it. @throws CnmError. */
  async ula(random: () => Prefix): Promise<Prefix> {
    for (;;) {
      const known = this.#mirror.entry(ULA)?.value;
      if (typeof known === 'string') return known as Prefix;
      try {
        await this.#records.change([{ key: ULA, is: 'absent' }], [{ put: ULA, value: random() }]);
      } catch (error) {
        throw unreachable('The cluster has no IPv6 prefix of its own yet', error);
      }
    }
  }

  /**
   * The pool, which this host has from now on, is had with others.
   * @param alone Only if no other has it: it was chosen, not named.
   * @param name Under which others have it, too.
   * @throws CnmError `pool-overlap`, `cluster-unreachable`.
   */
  async join(pool: Pool, alone: boolean, name?: string): Promise<void> {
    await this.ready();
    try {
      await this.#settle(pool.prefix, alone, name);
    } catch (error) {
      throw unreachable(`The pool ${pool.prefix} cannot be had with the cluster`, error);
    }
  }

  /** Something of the pool has gone: what the cluster has of it follows, now or when it answers again. */
  follow(pool: Prefix): void {
    this.#settle(pool).catch((error: unknown) => {
      this.#options.log.debug({ pool, error: String(error) }, 'the cluster is told later');
    });
  }

  /**
   * Everything that a host holds is free again. Only for one that is away, and by somebody who knows that it is gone: what it
   * cannot tell any more is which addresses its containers still use.
   * @throws CnmError `request-invalid`, `cluster-unreachable`.
   */
  async forget(host: string): Promise<void> {
    const { hosts } = this.#mirror;
    if (hosts.has(host))
      throw new CnmError('request-invalid', `${hostText(host, hosts)} is there: stop cnmd on it first`);
    try {
      for (const { pool } of this.#mirror.pools) await this.#forgetIn(pool, host);
    } catch (error) {
      throw unreachable(`What the host ${host} holds could not be freed`, error);
    }
  }

  async #forgetIn(pool: Prefix, host: string): Promise<void> {
    const settlement = new Settlement(this.#records, pool, [{ key: hostKey(host), is: 'absent' }]);
    await settlement.everyBlock((now) => {
      const next = forgetHost(now, host);
      return next.parts.length === now.parts.length && !sharedBy(now, host) ? undefined : next;
    });
    await settlement.leave(host);
  }

  #holdingOf(pool: Pool): Holding {
    const known = this.#holdings.get(pool);
    if (known !== undefined) return known;
    const { own, pace } = this.#options;
    const holding = new Holding({
      pool,
      records: this.#records,
      lease: () => this.#presence.lease,
      restedBy: () => own.restedBy(pool),
      onChange: () => {
        own.changed(pool);
      },
      answerTime: pace.answerTime,
      retry: pace.retry,
    });
    this.#holdings.set(pool, holding);
    return holding;
  }

  #changed(prefix: Prefix): void {
    const pool = this.#options.own.pool(prefix);
    const holding = pool && this.#holdings.get(pool);
    if (pool === undefined || holding === undefined) return;
    this.#options.own.changed(pool);
    // The store lost it, or somebody declared this host gone.
    const member = this.#mirror.pool(prefix).record?.hosts.includes(this.#me) === true;
    if (holding.confirmed && !member && !this.#closed) this.follow(prefix);
  }

  #enter(): void {
    this.#entered = this.#presence.entered;
    if (!this.#entered) for (const holding of this.#holdings.values()) holding.suspend();
    this.#mirror.look();
    this.#settleAll();
  }

  #settleAll(): void {
    if (this.#closed || !this.#entered || !this.#mirror.current) return;
    const here = this.#mirror.pools.filter((state) => state.isOf(this.#me)).map(({ pool }) => pool);
    const own = this.#options.own.pools().map(({ prefix }) => prefix);
    for (const pool of new Set([...here, ...own])) this.follow(pool);
  }

  /** One at a time for a pool. @throws CnmError, ClusterProblem. */
  #settle(prefix: Prefix, alone = false, name?: string): Promise<void> {
    return this.#queues.run(prefix, async () => {
      if (this.#closed || !this.#entered) return;
      const pool = this.#options.own.pool(prefix);
      const settlement = new Settlement(this.#records, prefix);
      for (const [known, holding] of this.#holdings) {
        if (known.prefix !== prefix || known === pool) continue;
        this.#holdings.delete(known);
        await holding.close(false);
      }
      if (pool === undefined) {
        await settlement.retreat();
        this.#conflicts.delete(prefix);
        return;
      }
      await settlement.register(alone, name);
      const holding = this.#holdingOf(pool);
      if (!holding.confirmed) await settlement.confirm();
      holding.confirm();
      const lost = await settlement.assert(pool, holding.sharing);
      for (const address of lost.slice(0, RECOVERED)) await holding.recover(address);
      this.#note(prefix, lost.length === 0 ? [] : await settlement.assert(pool, holding.sharing));
      await holding.trim();
    });
  }

  #note(pool: Prefix, conflicts: readonly Ip[]): void {
    const known = this.conflicts(pool);
    const fresh = conflicts.filter((address) => !known.includes(address));
    this.#conflicts.set(pool, conflicts);
    if (fresh.length > 0)
      this.#options.log.error(
        { pool, addresses: fresh },
        'in use here, and held by another host of the cluster: this host was declared gone, or the cluster lost its records. See cnm ipam check',
      );
  }

  async #answer(key: string, by: string, ask: Ask | undefined): Promise<void> {
    const pool = ask && this.#options.own.pool(ask.pool);
    const holding = pool && this.#holdings.get(pool);
    try {
      if (ask !== undefined && holding?.confirmed === true) await holding.answer(ask, by);
      await this.#records.change([], [{ delete: key }]);
    } catch (error) {
      if (!(error instanceof ClusterProblem) && !(error instanceof CnmError)) throw error;
      this.#options.log.debug({ key, error: error.message }, 'another host asked for addresses in vain');
    }
  }
}

function sharedBy({ shared }: Block, host: string): boolean {
  return [...shared.values()].some(({ hosts }) => hosts.includes(host));
}
