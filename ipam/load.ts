import type { Log } from '../cnm/log.ts';
import type { Change, Store } from '../store/store.ts';
import { FORMER_LEASES, LEASES, decodeFormer, decodeLease } from './lease.ts';
import { DEFAULTS, poolOptions } from './options.ts';
import { AddressSpace, POOLS, SPACES, parsePoolId, putPool } from './pool.ts';
import type { PoolName, Range } from './pool.ts';

/**
 * What the store holds. A record's key says all that keeps an address from being given twice, so that one with a damaged
 * value still counts, and a lease whose pool's record is lost brings the pool back.
 */
export async function loadSpaces(
  store: Store,
  now: number,
  log?: Log,
): Promise<ReadonlyMap<string, AddressSpace>> {
  const spaces = new Map(SPACES.map((name) => [name, new AddressSpace(name)]));
  for (const [key, value] of store.list(POOLS)) {
    if (!loadPool(spaces, key.slice(POOLS.length), value, log))
      log?.error({ key }, 'A record of a pool cannot be read and is left alone');
  }
  const repairs = loadLeases(spaces, store, log);
  repairs.push(...loadFormers(spaces, store, now));
  if (repairs.length > 0) await store.write(repairs);
  return spaces;
}

type Spaces = ReadonlyMap<string, AddressSpace>;

function loadPool(spaces: Spaces, poolId: string, value: unknown, log: Log | undefined): boolean {
  const name = parsePoolId(poolId);
  if (name === undefined) return false;
  const { owner, options } = (value ?? {}) as { readonly owner?: unknown; readonly options?: unknown };
  spaces.get(name.space)?.add(name, {
    ...(typeof owner === 'string' && { owner }),
    ...optionsOf(name, options, log),
  });
  return true;
}

function optionsOf(
  name: PoolName,
  value: unknown,
  log: Log | undefined,
): Partial<Pick<Range, 'options' | 'given'>> {
  if (typeof value !== 'object' || value === null) return {};
  const given = Object.fromEntries(
    Object.entries(value).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
  try {
    return { given, options: poolOptions(name.pool, given) };
  } catch (error) {
    log?.error({ pool: name.pool, error: String(error) }, 'The options of a pool cannot be read');
    return { given, options: DEFAULTS };
  }
}

function loadLeases(spaces: Spaces, store: Store, log: Log | undefined): Change[] {
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
  return repairs;
}

/** One whose pool is gone or whose address is held says nothing any more. */
function loadFormers(spaces: Spaces, store: Store, now: number): readonly Change[] {
  const repairs: Change[] = [];
  const formers = store.list(FORMER_LEASES).flatMap(([key, value]) => {
    const former = decodeFormer(key, value, now);
    const parent = former && find(spaces, former.poolId)?.parent;
    if (former !== undefined && parent?.leases.has(former.address) === false) return [{ former, parent }];
    repairs.push({ delete: key });
    return [];
  });
  formers.sort((a, b) => a.former.freed - b.former.freed);
  for (const { former, parent } of formers) parent.remember(former);
  return repairs;
}

function find(spaces: Spaces, poolId: string): Range | undefined {
  const name = parsePoolId(poolId);
  return name && spaces.get(name.space)?.pools.get(name.pool)?.ranges.get(poolId);
}

function rangeOf(spaces: Spaces, poolId: string): Range | undefined {
  const name = parsePoolId(poolId);
  return name && spaces.get(name.space)?.add(name);
}
