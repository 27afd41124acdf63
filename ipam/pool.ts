/** Pools and the ranges that share them: what overlaps, what is taken, and their records in the store. */
import { ipFromValue, ipValue } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import {
  familyOfPrefix,
  firstOf,
  lastOf,
  lengthOf,
  networkOf,
  overlaps,
  parsePrefix,
} from '../address/prefix.ts';
import type { Prefix } from '../address/prefix.ts';
import { CnmError } from '../cnm/errors.ts';
import type { Change } from '../store/store.ts';
import { Allocator, segments } from './allocator.ts';
import type { Segment } from './allocator.ts';
import { Intervals } from './intervals.ts';
import type { FormerLease, Lease } from './lease.ts';
import { DEFAULTS } from './options.ts';
import type { PoolOptions } from './options.ts';
import { dynamicBounds } from './policy.ts';
import { type Span, within } from './spans.ts';

export const LOCAL_SPACE = 'cnm-local';
export const GLOBAL_SPACE = 'cnm-global';
export const SPACES: readonly string[] = [LOCAL_SPACE, GLOBAL_SPACE];

/** What a pool id names. */
export interface PoolName {
  readonly space: string;
  readonly pool: Prefix;
  readonly subPool?: Prefix;
}

/** `cnm-local/10.0.0.0/24`, and with a range `cnm-local/10.0.0.0/24/10.0.0.128/25`. */
export function poolIdOf({ space, pool, subPool }: PoolName): string {
  return [space, pool, ...(subPool === undefined ? [] : [subPool])].join('/');
}

/** The exact inverse of poolIdOf(): no other spelling of the same pool is read. */
export function parsePoolId(text: string): PoolName | undefined {
  const parts = text.split('/');
  const [space = '', ...rest] = parts;
  const pool = parsePrefix(rest.slice(0, 2).join('/'));
  const subPool = parsePrefix(rest.slice(2).join('/'));
  if (pool === undefined || !SPACES.includes(space)) return undefined;
  const name = { space, pool, ...(subPool !== undefined && { subPool }) };
  return poolIdOf(name) === text && networkOf(pool) === pool ? name : undefined;
}

/** One pool id: a pool, or a range in one. */
export interface Range extends PoolName {
  readonly poolId: string;
  readonly parent: Pool;
  /** What may be given to those who name no address. */
  readonly bounds: readonly Span[];
  /** What of it is given now: all, or what this host holds of a cluster's pool. */
  choices: readonly Segment[];
  readonly owner?: string;
  readonly options: PoolOptions;
  /** As they were given, for the record. */
  readonly given: Readonly<Record<string, string>>;
  /** Where the serial option goes on from; forgotten at a restart, as Docker's own is. */
  lastSerial?: bigint;
  /** Set once it is being released. */
  releasing?: Promise<void>;
}

export const POOLS = 'ipam/pool/';

export function putPool({ poolId, space, pool, subPool, owner, given }: Range): Change {
  const options = Object.keys(given).length === 0 ? undefined : given;
  return { put: POOLS + poolId, value: { space, pool, subPool, owner, options } };
}

export function deletePool({ poolId }: Range): Change {
  return { delete: POOLS + poolId };
}

/** Addresses of a pool that once were held are remembered up to this many; of more, those that have rested the longest go. */
const REMEMBERED = 4096;

/** The addresses of one subnet, whichever ranges ask for them. */
export class Pool {
  readonly prefix: Prefix;
  readonly ranges = new Map<string, Range>();
  readonly leases = new Map<Ip, Lease>();
  readonly formers = new Map<Ip, FormerLease>();
  /** The last address of a name that it may have back. */
  readonly #byName = new Map<string, Ip>();
  readonly #first: bigint;
  readonly #allocator: Allocator;

  constructor(pool: Prefix) {
    this.prefix = pool;
    this.#first = ipValue(firstOf(pool));
    this.#allocator = new Allocator((familyOfPrefix(pool) === 4 ? 32 : 128) - lengthOf(pool));
  }

  open(range: Range): void {
    this.ranges.set(range.poolId, range);
    this.#allocator.open(range.choices);
  }

  close(range: Range): void {
    this.ranges.delete(range.poolId);
    this.#allocator.close(range.choices);
    for (const lease of this.leasesOf(range)) this.drop(lease);
    for (const former of this.formersOf(range)) this.forget(former);
  }

  /** From now on only these are chosen for the range. */
  narrow(range: Range, to: readonly Span[]): void {
    this.#allocator.close(range.choices);
    range.choices = segments(to);
    this.#allocator.open(range.choices);
  }

  /** A free address of the range's, or undefined when it has none. */
  choose(range: Range, serial: boolean, name?: string): Ip | undefined {
    const own = this.formerOf(range, name);
    if (own !== undefined && within(range.choices, this.#offset(own))) return own;
    const { choices, lastSerial } = range;
    const inTurn = serial || range.options.serial;
    const offset =
      inTurn && lastSerial !== undefined
        ? this.#allocator.nextAfter(choices, lastSerial)
        : this.#allocator.next(choices);
    if (offset === undefined) return undefined;
    if (inTurn) range.lastSerial = offset;
    return ipFromValue(familyOfPrefix(this.prefix), this.#first + offset);
  }

  take(lease: Lease): void {
    this.leases.set(lease.address, lease);
    this.#forgetFormer(lease.address);
    this.#allocator.take(this.#offset(lease.address));
  }

  /** As if it had never been, unless the address has gone to another lease meanwhile. */
  drop(lease: Lease): void {
    if (this.leases.get(lease.address) !== lease) return;
    this.leases.delete(lease.address);
    this.#allocator.forget(this.#offset(lease.address));
  }

  /** The lease ends, and its address rests. Nothing, when the lease is gone already. */
  retire(lease: Lease, former: FormerLease): void {
    if (this.leases.get(lease.address) !== lease) return;
    this.leases.delete(lease.address);
    this.remember(former);
  }

  /** Of a free address. */
  remember(former: FormerLease): void {
    const { address, name, poolId, freed } = former;
    this.formers.set(address, former);
    if (name !== undefined) this.#byName.set(nameKey(poolId, name), address);
    this.#allocator.free(this.#offset(address), freed);
  }

  /** As if the address had never been held, unless it is held again. */
  forget(former: FormerLease): void {
    if (this.formers.get(former.address) !== former) return;
    this.#forgetFormer(former.address);
    this.#allocator.forget(this.#offset(former.address));
  }

  /** What need not be remembered any more when one more comes: they have rested, and are the oldest. */
  surplus(restedBy: number): readonly FormerLease[] {
    let excess = this.formers.size + 1 - REMEMBERED;
    const found: FormerLease[] = [];
    for (const former of this.formers.values()) {
      if (excess-- <= 0 || former.freed > restedBy) break;
      found.push(former);
    }
    return found;
  }

  leasesOf({ poolId }: Range): readonly Lease[] {
    return [...this.leases.values()].filter((lease) => lease.poolId === poolId);
  }

  formersOf({ poolId }: Range): readonly FormerLease[] {
    return [...this.formers.values()].filter((former) => former.poolId === poolId);
  }

  /** How many of the addresses that a range chooses from are held, by whomever. */
  heldIn({ choices }: Range): number {
    let held = 0;
    for (const address of this.leases.keys()) if (within(choices, this.#offset(address))) held++;
    return held;
  }

  /** The free address of the range's that the name had last, whether it may be chosen now or not. */
  formerOf({ poolId, bounds, options }: Range, name: string | undefined): Ip | undefined {
    if (name === undefined || !options.sticky) return undefined;
    const address = this.#byName.get(nameKey(poolId, name));
    return address !== undefined && within(bounds, this.#offset(address)) ? address : undefined;
  }

  #forgetFormer(address: Ip): void {
    const former = this.formers.get(address);
    if (former === undefined) return;
    this.formers.delete(address);
    if (former.name === undefined) return;
    const key = nameKey(former.poolId, former.name);
    if (this.#byName.get(key) === address) this.#byName.delete(key);
  }

  #offset(address: Ip): bigint {
    return ipValue(address) - this.#first;
  }
}

/** A pool id has no spaces. */
function nameKey(poolId: string, name: string): string {
  return `${poolId} ${name}`;
}

/** Pools of one address space. They never overlap each other; those of two spaces may. */
export class AddressSpace {
  readonly name: string;
  readonly pools = new Map<Prefix, Pool>();
  readonly used = { 4: new Intervals(), 6: new Intervals() };

  constructor(name: string) {
    this.name = name;
  }

  /** @throws CnmError pool-overlap that names both. A range of a pool that is there shares its addresses. */
  check(pool: Prefix, subPool: Prefix | undefined): void {
    const parent = this.pools.get(pool);
    if (parent !== undefined && subPool !== undefined) {
      const same = parent.ranges.get(poolIdOf({ space: this.name, pool, subPool }));
      if (same !== undefined) throw inUse(`the range ${subPool} of ${pool}`, same);
      return;
    }
    if (
      this.used[familyOfPrefix(pool)].overlapping(ipValue(firstOf(pool)), ipValue(lastOf(pool))) === undefined
    )
      return;
    const other = [...this.pools.values()].find(({ prefix }) => overlaps(prefix, pool));
    const [range] = other?.ranges.values() ?? [];
    if (range !== undefined) throw inUse(pool, range);
  }

  add(
    { pool, subPool }: Pick<PoolName, 'pool' | 'subPool'>,
    { owner, options = DEFAULTS, given = {} }: Partial<Pick<Range, 'owner' | 'options' | 'given'>> = {},
  ): Range {
    const parent = this.pools.get(pool) ?? this.#addPool(pool);
    const name = { space: this.name, pool, ...(subPool !== undefined && { subPool }) };
    const bounds = dynamicBounds(pool, subPool, options.reserved);
    const range: Range = {
      ...name,
      poolId: poolIdOf(name),
      parent,
      bounds,
      choices: segments(bounds),
      ...(owner !== undefined && { owner }),
      options,
      given,
    };
    parent.open(range);
    return range;
  }

  /** With the leases that it asked for; the pool itself goes with its last range. */
  remove(range: Range): void {
    const { parent } = range;
    parent.close(range);
    if (parent.ranges.size > 0) return;
    this.pools.delete(parent.prefix);
    this.used[familyOfPrefix(parent.prefix)].delete(
      ipValue(firstOf(parent.prefix)),
      ipValue(lastOf(parent.prefix)),
    );
  }

  #addPool(prefix: Prefix): Pool {
    const pool = new Pool(prefix);
    this.pools.set(prefix, pool);
    this.used[familyOfPrefix(prefix)].add(ipValue(firstOf(prefix)), ipValue(lastOf(prefix)));
    return pool;
  }
}

function inUse(wanted: string, { pool, owner, space }: Range): CnmError {
  const holder = owner === undefined ? 'another network' : `the network ${owner}`;
  return new CnmError(
    'pool-overlap',
    `Pool overlaps with other one on this address space: ${wanted} meets ${pool}, which ${holder} holds in ${space}; choose a subnet apart from it`,
  );
}
