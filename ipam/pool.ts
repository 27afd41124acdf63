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
import { Intervals } from './intervals.ts';
import type { Lease } from './lease.ts';
import { chooseOffset, dynamicBounds } from './policy.ts';
import type { Bounds } from './policy.ts';
import { NumberSet } from './range.ts';

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
  /** What is given to those who name no address. */
  readonly bounds: Bounds;
  readonly owner?: string;
  /** Where the serial option goes on from; forgotten at a restart, as Docker's own is. */
  lastSerial?: bigint;
  /** Set once it is being released. */
  releasing?: Promise<void>;
}

export const POOLS = 'ipam/pool/';

export function putPool({ poolId, space, pool, subPool, owner }: Range): Change {
  return { put: POOLS + poolId, value: { space, pool, subPool, owner } };
}

export function deletePool({ poolId }: Range): Change {
  return { delete: POOLS + poolId };
}

/** The addresses of one subnet, whichever ranges ask for them. */
export class Pool {
  readonly prefix: Prefix;
  readonly ranges = new Map<string, Range>();
  readonly leases = new Map<Ip, Lease>();
  readonly #first: bigint;
  readonly #taken: NumberSet;

  constructor(pool: Prefix) {
    this.prefix = pool;
    this.#first = ipValue(firstOf(pool));
    this.#taken = new NumberSet((familyOfPrefix(pool) === 4 ? 32 : 128) - lengthOf(pool));
  }

  /** A free address of the range's, or undefined when it has none. */
  choose(range: Range, serial: boolean): Ip | undefined {
    const offset = chooseOffset(this.#taken, range.bounds, serial ? range.lastSerial : undefined);
    if (offset === undefined) return undefined;
    if (serial) range.lastSerial = offset;
    return ipFromValue(familyOfPrefix(this.prefix), this.#first + offset);
  }

  take(lease: Lease): void {
    this.leases.set(lease.address, lease);
    this.#taken.add(ipValue(lease.address) - this.#first);
  }

  /** Unless the address has gone to another lease meanwhile. */
  drop(lease: Lease): void {
    if (this.leases.get(lease.address) !== lease) return;
    this.leases.delete(lease.address);
    this.#taken.delete(ipValue(lease.address) - this.#first);
  }

  leasesOf({ poolId }: Range): readonly Lease[] {
    return [...this.leases.values()].filter((lease) => lease.poolId === poolId);
  }
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

  add({ pool, subPool }: Pick<PoolName, 'pool' | 'subPool'>, owner?: string): Range {
    const parent = this.pools.get(pool) ?? this.#addPool(pool);
    const name = { space: this.name, pool, ...(subPool !== undefined && { subPool }) };
    const range: Range = {
      ...name,
      poolId: poolIdOf(name),
      parent,
      bounds: dynamicBounds(pool, subPool),
      ...(owner !== undefined && { owner }),
    };
    parent.ranges.set(range.poolId, range);
    return range;
  }

  /** With the leases that it asked for; the pool itself goes with its last range. */
  remove(range: Range): void {
    const { parent, poolId } = range;
    parent.ranges.delete(poolId);
    for (const lease of parent.leasesOf(range)) parent.drop(lease);
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
