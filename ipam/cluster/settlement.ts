/** Bringing the cluster's records of one pool to say what this host's own records say. */
import { ipFromValue, ipValue } from '../../address/ip.ts';
import type { Ip } from '../../address/ip.ts';
import { familyOfPrefix } from '../../address/prefix.ts';
import type { Prefix } from '../../address/prefix.ts';
import { CnmError } from '../../cnm/errors.ts';
import type { ClusterChange, Condition } from '../../store/cluster.ts';
import type { Lease } from '../lease.ts';
import type { Pool } from '../pool.ts';
import { blockOf, forgetHost, give, partsOf, share, unshare } from './block.ts';
import type { Block } from './block.ts';
import { ADDED, poolKey } from './keys.ts';
import type { PoolState } from './pool-state.ts';
import type { Records } from './records.ts';
import { busy, hostText } from './refusals.ts';
import { joined, within } from '../spans.ts';
import type { Span } from '../spans.ts';

const TRIES = 100;
/** Blocks in one transaction: each may come with the end of its lead. */
const TOGETHER = 40;

export class Settlement {
  readonly #records: Records;
  readonly #prefix: Prefix;
  readonly #also: readonly Condition[];

  /** @param also Further conditions of every transaction. */
  constructor(records: Records, prefix: Prefix, also: readonly Condition[] = []) {
    this.#records = records;
    this.#prefix = prefix;
    this.#also = also;
  }

  /**
   * This host is among those that have the pool.
   * @param alone Unless others have it.
   * @param name Under which it is had by whoever says it; unless another pool is had so.
   * @throws CnmError `pool-overlap`, ClusterProblem.
   */
  async register(alone: boolean, name?: string): Promise<void> {
    const { me, mirror } = this.#records;
    const key = poolKey(this.#prefix);
    await this.#tries(async () => {
      const { record } = this.#state;
      if (record?.hosts.includes(me) === true && (name === undefined || record.name === name)) return true;
      const namesake = name === undefined ? undefined : mirror.named(name, familyOfPrefix(this.#prefix));
      if (namesake !== undefined && namesake.pool !== this.#prefix) throw this.#overlap(namesake);
      const named = name === undefined ? {} : { name };
      if (record?.hosts.includes(me) === true)
        return this.#change(
          [mirror.unchanged(ADDED), mirror.unchanged(key)],
          [
            { put: ADDED, value: this.#prefix },
            { put: key, value: { ...record, ...named } },
          ],
        );
      if (record !== undefined && alone) throw this.#overlap(this.#state);
      if (record !== undefined) {
        const put = { put: key, value: { ...record, hosts: [...record.hosts, me].sort() } };
        return this.#change([mirror.unchanged(key)], [put]);
      }
      const other = mirror.overlapping(this.#prefix);
      if (other !== undefined) throw this.#overlap(other);
      const added = { put: ADDED, value: this.#prefix };
      return this.#change(
        [mirror.unchanged(ADDED), { key, is: 'absent' }],
        [added, { put: key, value: { hosts: [me], ...named } }],
      );
    });
  }

  /**
   * Writes every block that this host has a part in once more, as it is. What it asked for before it was killed may still be
   * on its way to the store; it was asked for under the condition that the block is what it was, and so cannot be done any more.
   */
  async confirm(): Promise<void> {
    const { me } = this.#records;
    const done = new Set<bigint>();
    await this.#tries(async () => {
      const left = this.#blocks((block) => partsOf(block, me).length > 0).filter(
        ([{ first }]) => !done.has(first),
      );
      const some = left.slice(0, TOGETHER);
      if (some.length === 0) return true;
      const changes = some.map(([span, block]) => this.#records.blockChange(this.#state, span, block));
      const written = await this.#change(
        changes.flatMap(({ when }) => when),
        changes.flatMap(({ then }) => then),
      );
      if (written) for (const [{ first }] of some) done.add(first);
      return false;
    }, Infinity);
  }

  /**
   * What this host's leases say is in the records again, after the store lost it or somebody declared this host gone; and
   * this host shares nothing that it has no lease of, but for what it is `sharing` just now. @returns the addresses that are others' by now.
   */
  async assert({ leases }: Pool, sharing: ReadonlySet<bigint>): Promise<readonly Ip[]> {
    const blocks = this.#leasedByBlock(leases);
    for (const [span, own] of blocks) await this.block(span, (now) => this.#asserted(now, own));
    const { me } = this.#records;
    await this.everyBlock((now) => {
      const over = [...now.shared].filter(
        ([at, { hosts }]) => hosts.includes(me) && !sharing.has(at) && !leases.has(this.#address(at)),
      );
      return over.length === 0 ? undefined : over.reduce((left, [at]) => unshare(left, at, me), now);
    });
    return blocks.flatMap(([span, own]) => {
      const block = this.#state.block(span);
      const lost = [...own].filter(([at, { address }]) => leases.has(address) && !this.#isMine(block, at));
      return lost.map(([, { address }]) => address);
    });
  }

  /** Nothing of the pool is this host's any more. */
  async retreat(): Promise<void> {
    const { me } = this.#records;
    await this.everyBlock((now) => {
      const shares = [...now.shared.values()].some(({ hosts }) => hosts.includes(me));
      return partsOf(now, me).length > 0 || shares ? forgetHost(now, me) : undefined;
    });
    await this.leave(me);
  }

  /** The host is no longer among those that have the pool; with the last one the pool goes. */
  async leave(host: string): Promise<void> {
    const key = poolKey(this.#prefix);
    await this.#tries(async () => {
      const { record } = this.#state;
      if (record?.hosts.includes(host) !== true) return true;
      const hosts = record.hosts.filter((one) => one !== host);
      const change = hosts.length === 0 ? { delete: key } : { put: key, value: { ...record, hosts } };
      return this.#change([this.#records.mirror.unchanged(key)], [change]);
    });
  }

  async everyBlock(next: (now: Block) => Block | undefined): Promise<void> {
    for (const [span] of this.#blocks((block) => next(block) !== undefined)) await this.block(span, next);
  }

  /** Changes a block as often as others get in between; `next` says undefined when nothing is to be done. */
  block(span: Span, next: (now: Block) => Block | undefined): Promise<void> {
    return this.#tries(async () => {
      const now = this.#state.block(span);
      const wanted = now && next(now);
      if (wanted === undefined) return true;
      const { when, then } = this.#records.blockChange(this.#state, span, wanted);
      return this.#change(when, then);
    });
  }

  get #state(): PoolState {
    return this.#records.mirror.pool(this.#prefix);
  }

  #blocks(wanted: (block: Block) => boolean): (readonly [Span, Block])[] {
    return this.#state.blocks.flatMap(([span, block]) =>
      block !== undefined && wanted(block) ? [[span, block] as const] : [],
    );
  }

  async #change(when: readonly Condition[], then: readonly ClusterChange[]): Promise<boolean> {
    return (await this.#records.change([...when, ...this.#also], then)) === 'done';
  }

  async #tries(work: () => Promise<boolean>, most = TRIES): Promise<void> {
    for (let tries = 0; tries < most; tries++) if (await work()) return;
    throw busy(this.#prefix);
  }

  #overlap({ pool, record }: PoolState): CnmError {
    const [host = '?'] = record?.hosts ?? [];
    const holder = hostText(host, this.#records.mirror.hosts);
    return new CnmError(
      'pool-overlap',
      `Pool overlaps with other one on this address space: ${this.#prefix} meets ${pool} of ${holder} in the cluster; choose a subnet apart from it, or the same one`,
    );
  }

  #address(value: bigint): Ip {
    return ipFromValue(familyOfPrefix(this.#prefix), value);
  }

  #leasedByBlock(leases: ReadonlyMap<Ip, Lease>): readonly (readonly [Span, ReadonlyMap<bigint, Lease>])[] {
    const found = new Map<bigint, readonly [Span, Map<bigint, Lease>]>();
    for (const lease of leases.values()) {
      const at = ipValue(lease.address);
      const span = blockOf(this.#prefix, at);
      const known = found.get(span.first) ?? [span, new Map<bigint, Lease>()];
      known[1].set(at, lease);
      found.set(span.first, known);
    }
    return [...found.values()];
  }

  #asserted(now: Block, own: ReadonlyMap<bigint, Lease>): Block | undefined {
    const { me } = this.#records;
    const wanted = [...own].reduce<Block>((block, [at, { purpose }]) => {
      if (this.#isMine(block, at)) return block;
      const shared = block.shared.get(at);
      const free = shared === undefined && !within(joined(block.parts), at);
      if (purpose === 'endpoint') return free ? give(block, me, [{ first: at, last: at }]) : block;
      return free || shared?.purpose === purpose ? share(block, at, me, purpose) : block;
    }, now);
    return wanted === now ? undefined : wanted;
  }

  #isMine(block: Block | undefined, at: bigint): boolean {
    const { me } = this.#records;
    if (block === undefined) return false;
    return within(partsOf(block, me), at) || block.shared.get(at)?.hosts.includes(me) === true;
  }
}
