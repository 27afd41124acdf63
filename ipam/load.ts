import type { Log } from '../cnm/log.ts';
import type { Change, Store } from '../store/store.ts';
import { LEASES, decodeLease } from './lease.ts';
import { AddressSpace, POOLS, SPACES, parsePoolId, putPool } from './pool.ts';
import type { Range } from './pool.ts';

/**
 * What the store holds. A record's key says all that keeps an address from being given twice, so that one with a damaged
 * value still counts, and a lease whose pool's record is lost brings the pool back.
 */
export async function loadSpaces(store: Store, log?: Log): Promise<ReadonlyMap<string, AddressSpace>> {
  const spaces = new Map(SPACES.map((name) => [name, new AddressSpace(name)]));
  for (const [key, value] of store.list(POOLS)) {
    const { owner } = (value ?? {}) as { readonly owner?: unknown };
    const range = rangeOf(spaces, key.slice(POOLS.length), typeof owner === 'string' ? owner : undefined);
    if (range === undefined) log?.error({ key }, 'A record of a pool cannot be read and is left alone');
  }
  const repairs: Change[] = [];
  for (const [key, value] of store.list(LEASES)) {
    const lease = decodeLease(key, value);
    const known = lease && find(spaces, lease.poolId);
    const range = known ?? (lease && rangeOf(spaces, lease.poolId));
    if (lease === undefined || range === undefined) {
      log?.error({ key }, 'A record of an address cannot be read and is left alone');
      continue;
    }
    if (known === undefined) {
      log?.warn(
        { poolId: lease.poolId },
        'The record of a pool with addresses in use was lost, and is made again',
      );
      repairs.push(putPool(range));
    }
    range.parent.take(lease);
  }
  if (repairs.length > 0) await store.write(repairs);
  return spaces;
}

type Spaces = ReadonlyMap<string, AddressSpace>;

function find(spaces: Spaces, poolId: string): Range | undefined {
  const name = parsePoolId(poolId);
  return name && spaces.get(name.space)?.pools.get(name.pool)?.ranges.get(poolId);
}

function rangeOf(spaces: Spaces, poolId: string, owner?: string): Range | undefined {
  const name = parsePoolId(poolId);
  return name && spaces.get(name.space)?.add(name, owner);
}
