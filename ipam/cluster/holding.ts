/**
 * What this host holds of one pool: takes more before it is needed, gives back what it does not need, and asks others for
 * theirs when nothing is left.
 *
 * The rule that all else rests on: an address that is in a part of this host's may be given by it at any time, and by nobody
 * else; it stops being so only by a transaction, before which this host has stopped giving it.
 */
import { ipFromValue, ipValue } from '../../address/ip.ts';
import type { Ip } from '../../address/ip.ts';
import { familyOfPrefix, firstOf } from '../../address/prefix.ts';
import type { Prefix } from '../../address/prefix.ts';
import { CnmError } from '../../cnm/errors.ts';
import type { ClusterLease } from '../../store/cluster.ts';
import type { Pool, Range } from '../pool.ts';
import { askHosts } from './asking.ts';
import { blockOf, give, share, spanOf } from './block.ts';
import type { Block, Shared } from './block.ts';
import { freeOf, half, surplus } from './choice.ts';
import { GivingBack } from './giving-back.ts';
import { batchKey, poolKey } from './keys.ts';
import type { Ask } from './keys.ts';
import { pause } from './pause.ts';
import type { PoolState, Spot } from './pool-state.ts';
import { ClusterProblem, unreachable } from './records.ts';
import type { Records } from './records.ts';
import { busy, exhausted, taken, takenByHost } from './refusals.ts';
import { common, lowest, sizeOfSpans, within, without } from '../spans.ts';
import type { Span } from '../spans.ts';

export interface HoldingOptions {
  readonly pool: Pool;
  readonly records: Records;
  readonly lease: () => ClusterLease | undefined;
  /** What was freed by then has rested. */
  readonly restedBy: () => number;
  /** What may be given has changed. */
  readonly onChange: () => void;
  /** Milliseconds. */
  readonly answerTime: number;
  readonly retry: number;
}

/** So often may others be quicker, before it counts as a failure. */
const TRIES = 100;
/** At most this many addresses are taken ahead of need. */
const MOST_AHEAD = 256;

export class Holding {
  readonly #options: HoldingOptions;
  readonly #records: Records;
  readonly #pool: Pool;
  readonly #prefix: Prefix;
  readonly #givingBack: GivingBack;
  #available: readonly Span[] | undefined;
  #availableOf: readonly Span[] = [];
  readonly #filling = new Map<string, Promise<void>>();
  #waiting = 0;
  /** Told when nobody waits here any more. */
  readonly #calm: (() => void)[] = [];
  #asking: Promise<void> | undefined;
  /** Shared in the cluster, and not yet, or just now, leased here. */
  readonly #sharing = new Set<bigint>();
  #confirmed = false;
  #closed = false;

  constructor(options: HoldingOptions) {
    this.#options = options;
    this.#records = options.records;
    this.#pool = options.pool;
    this.#prefix = options.pool.prefix;
    this.#givingBack = new GivingBack({
      ...{ prefix: this.#prefix, records: options.records, retry: options.retry },
      state: () => this.#state,
      onChange: () => {
        this.#available = undefined;
        options.onChange();
      },
    });
  }

  /** Nothing is given before it is certain that nothing is on its way that would take it away (`Settlement.confirm`). */
  get confirmed(): boolean {
    return this.#confirmed;
  }

  confirm(): void {
    if (this.#confirmed) return;
    this.#confirmed = true;
    this.#options.onChange();
  }

  /** Nothing is given until it is confirmed again. */
  suspend(): void {
    this.#confirmed = false;
    this.#options.onChange();
  }

  get sharing(): ReadonlySet<bigint> {
    return this.#sharing;
  }

  /** What this host may give, in order. */
  get available(): readonly Span[] {
    if (!this.#confirmed) return [];
    const { own } = this.#state;
    if (this.#available === undefined || this.#availableOf !== own) {
      this.#available = without(own, this.#givingBack.withheld);
      this.#availableOf = own;
    }
    return this.#available;
  }

  holds(address: Ip): boolean {
    return within(this.available, ipValue(address));
  }

  isNobodys(address: Ip): boolean {
    return this.#state.holder(ipValue(address)) === 'nobody';
  }

  /**
   * Nothing is asked of it any more.
   * @param giveBack Whether to give back what was never used: nobody will give it here.
   */
  async close(giveBack: boolean): Promise<void> {
    const all = this.#givingBack.giveBack(() => (giveBack ? this.#free(this.available).fresh : []));
    await Promise.race([all.catch(() => undefined), pause(this.#options.answerTime)]);
    this.#closed = true;
    this.#givingBack.close();
    this.#confirmed = false;
  }

  /**
   * Resolves when there is more to choose from than before, of what the range may choose.
   * @throws CnmError `pool-exhausted` when the cluster has no more, `cluster-unreachable`.
   */
  async more(range: Range): Promise<void> {
    this.#waiting++;
    try {
      // One that was begun ahead of need gives up sooner.
      const before = this.#filling.get(range.poolId);
      const filled = before?.then(
        () => true,
        () => false,
      );
      if ((await filled) !== true) await this.#fill(range);
    } catch (error) {
      throw unreachable(
        `No address of ${this.#prefix} is left on this host, and no more are to be had`,
        error,
      );
    } finally {
      this.#waiting--;
      if (this.#waiting === 0) for (const calm of this.#calm.splice(0)) calm();
    }
  }

  /** Takes more in the background when little is left. A failure shows when it is needed. */
  ahead(range: Range): void {
    if (this.#closed || this.#fresh() >= this.#window() / 2) return;
    const [oldest] = this.#pool.formers.values();
    if (oldest !== undefined && oldest.freed <= this.#options.restedBy()) return;
    this.#fill(range).catch(() => undefined);
  }

  /** @throws CnmError `address-taken`, `cluster-unreachable`. */
  async claim(address: Ip): Promise<void> {
    await this.#named(address, async (state, span, now) => {
      const holder = state.holder(ipValue(address));
      if (holder === 'nobody') return this.#put(span, give(now, this.#records.me, [spanAt(address)]));
      if (typeof holder === 'object' && 'shared' in holder)
        throw taken(this.#prefix, address, 'the gateway of the pool, or set aside');
      return undefined;
    });
  }

  /**
   * An address that the hosts of the pool bear alike, as a gateway that each of them has on its own bridge: the one that is
   * named; or one that they have and this host has not yet; or else the lowest that is free.
   * @param use Called at the moment when it is shared: what it leases is this host's from then on.
   * @throws CnmError `address-taken`, `pool-exhausted`, `cluster-unreachable`.
   */
  async share<T>(
    range: Range,
    purpose: Shared['purpose'],
    named: Ip | undefined,
    use: (address: Ip) => T,
  ): Promise<T> {
    for (let tries = 0; tries < TRIES; tries++) {
      const address = named ?? this.#gatewayFor(range, purpose);
      if (address === undefined) {
        await this.more(range);
        continue;
      }
      this.#sharing.add(ipValue(address));
      try {
        await this.#shareAt(address, purpose);
        return use(address);
      } catch (error) {
        if (named !== undefined || !(error instanceof CnmError) || error.code !== 'address-taken')
          throw error;
      }
    }
    throw busy(this.#prefix);
  }

  /** Asks those who hold an address that is in use here for it: they may not have given it yet. */
  async recover(address: Ip): Promise<void> {
    const holder = this.#state.holder(ipValue(address));
    if (typeof holder === 'object' && 'host' in holder && holder.host !== this.#records.me)
      await askHosts(this.#options, [holder.host], { pool: this.#prefix, address });
  }

  /** Gives back what is free and not needed soon; what rests stays, and so does what a name may have again. */
  async trim(keep = this.#window()): Promise<void> {
    if (sizeOfSpans(this.available) - BigInt(this.#pool.leases.size) <= BigInt(2 * keep)) return;
    await this.#givingBack.giveBack(() => surplus(this.#free(this.available), keep));
  }

  /** The one that is named, if it is free; or half of what is free and not waited for here. */
  async answer({ address, range }: Ask, by: string): Promise<void> {
    // Who waits here may want all of it, or less than was taken for them: that shows in a moment.
    if (address === undefined && this.#waiting > 0) await this.#untilCalm();
    await this.#givingBack.giveBack(() => {
      const wanted = range === undefined ? this.available : common(this.available, [spanOf(range)]);
      if (address !== undefined)
        return this.holds(address) && !this.#pool.leases.has(address) ? [ipValue(address)] : [];
      return half(this.#free(wanted), this.#waiting);
    }, by);
  }

  get #state(): PoolState {
    return this.#records.mirror.pool(this.#prefix);
  }

  /** Enough for a quarter more than there is; the fewer, the smaller the pool is. */
  #window(): number {
    const size = Number(sizeOfSpans([spanOf(this.#prefix)]));
    const least = Math.max(1, Math.min(8, Math.floor(size / 32)));
    return Math.min(MOST_AHEAD, Math.max(least, this.#pool.leases.size / 4), Math.max(1, size / 16)) | 0;
  }

  /** About how many were never used. */
  #fresh(): bigint {
    return sizeOfSpans(this.available) - BigInt(this.#pool.leases.size + this.#pool.formers.size);
  }

  #fill(range: Range): Promise<void> {
    const running = this.#filling.get(range.poolId);
    if (running !== undefined) return running;
    const filling = this.#take(range).finally(() => this.#filling.delete(range.poolId));
    this.#filling.set(range.poolId, filling);
    return filling;
  }

  async #take(range: Range): Promise<void> {
    const bounds = this.#boundsOf(range);
    let asked = 0;
    for (let tries = 0; tries < TRIES; tries++) {
      await this.#asMember();
      const skip = tries === 0 ? 0 : Math.floor(Math.random() * 2 * tries);
      const spot = this.#state.spot(bounds, skip) ?? this.#state.spot(bounds);
      if (spot !== undefined) {
        if (await this.#open(spot)) return;
      } else if (this.#waiting === 0 || asked++ === 2) {
        throw exhausted(range, [...this.#state.held(bounds).keys()], this.#records.mirror.hosts);
      } else {
        const before = this.available;
        await this.#askAll(range);
        if (sizeOfSpans(common(without(this.available, before), bounds)) > 0n) return;
      }
    }
    throw busy(this.#prefix);
  }

  async #open({ block, span, now, free, lead }: Spot): Promise<boolean> {
    const { me, mirror } = this.#records;
    const taken = lowest(free, this.#window() + this.#waiting);
    const { when, then } = this.#records.blockChange(this.#state, span, give(now, me, taken));
    when.push({ key: poolKey(this.#prefix), is: 'present' });
    const lease = this.#options.lease();
    const key = batchKey(this.#prefix, block);
    if (lead && lease !== undefined) {
      when.push(mirror.unchanged(key));
      then.push({ put: key, value: me, lease });
    }
    try {
      return (await this.#records.change(when, then)) === 'done';
    } catch (error) {
      // The next try is without it, or with the next one.
      if (error instanceof ClusterProblem && error.failure.reason === 'lease-lost') return false;
      throw error;
    }
  }

  async #shareAt(address: Ip, purpose: Shared['purpose']): Promise<void> {
    const at = ipValue(address);
    const { me } = this.#records;
    await this.#named(
      address,
      async (state, span, now) => {
        const holder = state.holder(at);
        if (holder === 'nobody') return this.#put(span, share(now, at, me, purpose));
        if (typeof holder === 'object' && 'shared' in holder) {
          if (holder.shared.purpose !== purpose)
            throw taken(this.#prefix, address, `shared as ${holder.shared.purpose}`);
          return holder.shared.hosts.includes(me) || this.#put(span, share(now, at, me, purpose));
        }
        // Out of this host's own part, where it is free.
        if (typeof holder !== 'object' || holder.host !== me || this.#pool.leases.has(address))
          return undefined;
        await this.#givingBack.giveBack(() => (this.#pool.leases.has(address) ? [] : [at]));
        return false;
      },
      true,
    );
  }

  /**
   * Tries until the address is had: `attempt` says true when it is, false to look again, undefined when another host has it,
   * which is asked once for it.
   */
  async #named(
    address: Ip,
    attempt: (state: PoolState, span: Span, now: Block) => Promise<boolean | undefined>,
    shared = false,
  ): Promise<void> {
    const span = blockOf(this.#prefix, ipValue(address));
    const asked = new Set<string>();
    for (let tries = 0; tries < TRIES; tries++) {
      if (!shared && this.holds(address)) return;
      // On its way back.
      if (within(this.#givingBack.withheld, ipValue(address))) await this.#givingBack.settled;
      await this.#orUnreachable(address, () => this.#asMember());
      // No await from here to the transaction, whose condition is that the block is what it is now.
      const state = this.#state;
      const now = state.block(span);
      if (now === undefined) throw taken(this.#prefix, address, 'a record that cannot be read');
      const had = await this.#orUnreachable(address, () => attempt(state, span, now));
      if (had === true) return;
      const holder = this.#state.holder(ipValue(address));
      if (had === undefined && typeof holder === 'object' && 'host' in holder) {
        if (holder.host === this.#records.me && this.#pool.leases.has(address))
          throw taken(this.#prefix, address, 'this host');
        if (asked.has(holder.host))
          throw takenByHost(this.#prefix, address, holder.host, this.#records.mirror.hosts);
        asked.add(holder.host);
        await this.#orUnreachable(address, () => this.recover(address));
      }
    }
    throw busy(this.#prefix);
  }

  async #orUnreachable<T>(address: Ip, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw unreachable(`Whether ${address} of ${this.#prefix} is free cannot be told`, error);
    }
  }

  async #put(span: Span, next: Block): Promise<boolean> {
    const { when, then } = this.#records.blockChange(this.#state, span, next);
    when.push({ key: poolKey(this.#prefix), is: 'present' });
    return (await this.#records.change(when, then)) === 'done';
  }

  #untilCalm(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, this.#options.answerTime / 2);
      this.#calm.push(() => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  /** All hosts that hold addresses that the range could choose. */
  #askAll(range: Range): Promise<void> {
    const { subPool } = range;
    const holding = this.#state.held(this.#boundsOf(range)).keys();
    const ask = { pool: this.#prefix, ...(subPool !== undefined && { range: subPool }) };
    this.#asking ??= askHosts(this.#options, holding, ask).finally(() => (this.#asking = undefined));
    return this.#asking;
  }

  #free(spans: readonly Span[]) {
    return freeOf(this.#pool, spans, this.#options.restedBy());
  }

  #gatewayFor(range: Range, purpose: Shared['purpose']): Ip | undefined {
    const known = this.#state.sharedAs(purpose).map((at) => this.#address(at));
    const other = known.find((address) => !this.#pool.leases.has(address));
    if (other !== undefined) return other;
    const bounds = this.#boundsOf(range);
    const spot = this.#state.spot(bounds)?.free[0]?.first;
    const own = this.#free(common(this.available, bounds)).fresh[0];
    const lower = own === undefined || (spot !== undefined && spot < own) ? spot : own;
    return lower === undefined ? undefined : this.#address(lower);
  }

  #boundsOf({ bounds }: Pick<Range, 'bounds'>): readonly Span[] {
    const base = ipValue(firstOf(this.#prefix));
    return bounds.map(({ first, last }) => ({ first: base + first, last: base + last }));
  }

  #address(value: bigint): Ip {
    return ipFromValue(familyOfPrefix(this.#prefix), value);
  }

  /** It may have been lost with the store's records, and is then on its way back into them. */
  async #asMember(): Promise<void> {
    const { mirror, me } = this.#records;
    const isMember = () => this.#state.record?.hosts.includes(me) === true;
    if (!this.#closed && (isMember() || (await mirror.until(isMember, this.#options.answerTime)))) return;
    throw new Error(`this host is not among those that have the pool ${this.#prefix} yet`);
  }
}

function spanAt(address: Ip): Span {
  const value = ipValue(address);
  return { first: value, last: value };
}
