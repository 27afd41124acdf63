/** A pool id as the tools see it. Lists and counts are made only for who reads them: a pool may have a million leases. */
import { compareIp } from '../address/ip.ts';
import { broadcastOf, familyOfPrefix, lengthOf, sizeOf } from '../address/prefix.ts';
import type { Prefix } from '../address/prefix.ts';
import { sizeOfSpans } from './spans.ts';
import type { PoolUsage, PoolView, SharedPoolView } from './ipam.ts';
import type { Range } from './pool.ts';

/**
 * @param restedBy When an address must have been freed to be at rest no longer.
 * @param shared Of a pool in the cluster.
 */
export function viewOf(range: Range, restedBy: number, shared?: () => SharedPoolView): PoolView {
  const { poolId, space, pool, subPool, owner, given, parent } = range;
  return {
    poolId,
    space,
    pool,
    ...(subPool !== undefined && { subPool }),
    ...(owner !== undefined && { owner }),
    users: parent.ranges.size,
    options: given,
    get usage() {
      return usageOf(range, restedBy);
    },
    get leases() {
      return [...parent.leasesOf(range)]
        .sort((a, b) => compareIp(a.address, b.address))
        .map(({ address, purpose, name, since }) => ({
          address,
          purpose,
          ...(name !== undefined && { name }),
          ...(since !== undefined && { since }),
        }));
    },
    get formers() {
      return parent.formersOf(range).map(({ address, name, freed }) => ({
        address,
        ...(name !== undefined && { name }),
        freed,
        resting: freed > restedBy,
      }));
    },
    get shared() {
      return shared?.();
    },
  };
}

function usageOf(range: Range, restedBy: number): PoolUsage {
  const { pool, parent, bounds, choices } = range;
  const choosable = sizeOfSpans(bounds);
  return {
    choosable,
    reserved: usable(pool) - choosable,
    used: parent.leasesOf(range).length,
    free: sizeOfSpans(choices) - BigInt(parent.heldIn(range)),
    resting: parent.formersOf(range).filter(({ freed }) => freed > restedBy).length,
  };
}

/** How many addresses of it somebody may have: see `unusable` in policy.ts. */
function usable(pool: Prefix): bigint {
  const withAnycast = familyOfPrefix(pool) === 6 && lengthOf(pool) <= 126;
  if (withAnycast) return sizeOf(pool) - 1n;
  return broadcastOf(pool) === undefined ? sizeOf(pool) : sizeOf(pool) - 2n;
}
