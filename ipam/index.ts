/** Our IPAM: chooses in memory, and answers once the choice is on disk. */
import { randomBytes } from 'node:crypto';
import { familyOf } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import { covers, familyOfPrefix, firstOf, lengthOf, parsePrefix, prefixOf } from '../address/prefix.ts';
import type { Prefix } from '../address/prefix.ts';
import { CnmError } from '../cnm/errors.ts';
import type { Log } from '../cnm/log.ts';
import type { Change, Store } from '../store/store.ts';
import {
  GLOBAL_POOLS,
  LOCAL_POOLS,
  checkDefaultPools,
  freeSubnet,
  intervalsOf,
  randomUla,
} from './default-pools.ts';
import type { DefaultPool } from './default-pools.ts';
import { checkedAddress, checkedRange, chosen, explicitPool, malformed, unknownPool } from './checks.ts';
import type { AddressRequest, Ipam, PoolAnswer, PoolRequest, PoolView } from './ipam.ts';
import { deleteFormer, deleteLease, putFormer, putLease } from './lease.ts';
import type { FormerLease, Lease } from './lease.ts';
import { loadSpaces } from './load.ts';
import { poolOptions } from './options.ts';
import { GLOBAL_SPACE, LOCAL_SPACE, SPACES, deletePool, parsePoolId, putPool } from './pool.ts';
import type { AddressSpace, Range } from './pool.ts';
import { viewOf } from './view.ts';

export interface IpamOptions {
  readonly store: Store;
  readonly log?: Log;
  /** What chosen subnets stay clear of, asked for each time: the host's routes and name servers. */
  readonly hostPrefixes?: () => Promise<readonly Prefix[]>;
  /** For the local address space, of both families; without an IPv6 one, a random ULA /48 is made and kept. */
  readonly defaultPools?: readonly DefaultPool[];
  /** Milliseconds for which a freed address rests, in pools that say nothing of it. Default 60 s. */
  readonly rest?: number;
  readonly now?: () => number;
}

const REST_MS = 60_000;

/** @throws RangeError for default pools that nothing can be cut out of. */
export async function createIpam(options: IpamOptions): Promise<Ipam> {
  checkDefaultPools(options.defaultPools ?? []);
  return new DurableIpam(options, await loadSpaces(options.store, (options.now ?? Date.now)(), options.log));
}

const ULA = 'ipam/ula';

class DurableIpam implements Ipam {
  readonly localSpace = LOCAL_SPACE;
  readonly globalSpace = GLOBAL_SPACE;
  readonly #options: IpamOptions;
  readonly #spaces: ReadonlyMap<string, AddressSpace>;
  readonly #releasing = new Map<Lease, Promise<void>>();
  #ula: Prefix | undefined;

  constructor(options: IpamOptions, spaces: ReadonlyMap<string, AddressSpace>) {
    this.#options = options;
    this.#spaces = spaces;
  }

  async requestPool(request: PoolRequest): Promise<PoolAnswer> {
    const space = this.#space(request.space);
    const explicit = explicitPool(request);
    const host = explicit === undefined ? await this.#options.hostPrefixes?.() : undefined;
    // No await from here to the write: what is checked or chosen is held before anyone else looks.
    const pool = explicit ?? this.#choosePool(request, host ?? []);
    const subPool = checkedRange(pool, request.subPool);
    const options = poolOptions(pool, request.options);
    space.check(pool, subPool);
    const { owner, options: given } = request;
    const range = space.add(
      { pool, ...(subPool !== undefined && { subPool }) },
      { ...(owner !== undefined && { owner }), options, given },
    );
    const changes: Change[] = [putPool(range)];
    if (this.#ula !== undefined && covers(this.#ula, pool)) changes.push({ put: ULA, value: this.#ula });
    await this.#write(`The pool ${pool}`, changes, () => {
      space.remove(range);
    });
    return { poolId: range.poolId, pool };
  }

  async releasePool(poolId: string): Promise<void> {
    const { range, space } = this.#find(poolId);
    if (range === undefined || space === undefined) return;
    range.releasing ??= this.#releaseRange(range, space);
    await range.releasing;
  }

  async requestAddress(poolId: string, request: AddressRequest): Promise<Prefix> {
    const { range } = this.#find(poolId);
    if (range === undefined || range.releasing !== undefined) throw unknownPool(poolId);
    const { parent } = range;
    const address =
      request.address === undefined ? chosen(range, request) : checkedAddress(range, request.address);
    const lease: Lease = {
      poolId,
      address,
      purpose: purposeOf(request),
      ...(request.name !== undefined && { name: request.name }),
      since: this.#now(),
    };
    const former = parent.formers.get(address);
    parent.take(lease);
    const changes = [putLease(lease), ...(former === undefined ? [] : [deleteFormer(former)])];
    await this.#write(`The address ${address}`, changes, () => {
      parent.drop(lease);
      if (former !== undefined && range.releasing === undefined) parent.remember(former);
    });
    return prefixOf(address, lengthOf(parent.prefix));
  }

  async releaseAddress(poolId: string, address: Ip): Promise<void> {
    const { range } = this.#find(poolId);
    const lease = range?.parent.leases.get(address);
    // A range that shares the pool may hold it: a late release must not take it away.
    if (range === undefined || lease?.poolId !== poolId) return;
    if (range.releasing !== undefined) {
      await range.releasing;
      return;
    }
    const release = this.#releasing.get(lease) ?? this.#releaseLease(lease, range);
    this.#releasing.set(lease, release);
    await release.finally(() => this.#releasing.delete(lease));
  }

  pools(): readonly PoolView[] {
    const ranges = [...this.#spaces.values()]
      .flatMap((space) => [...space.pools.values()])
      .flatMap((pool) => [...pool.ranges.values()]);
    return ranges.map((range) => viewOf(range, this.#restedBy(range)));
  }

  /** Freed in memory only after on disk: until then nobody else can be given it. */
  async #releaseLease(lease: Lease, range: Range): Promise<void> {
    const { poolId, address, purpose, name } = lease;
    const keeps = purpose === 'endpoint' && name !== undefined;
    const former: FormerLease = { poolId, address, freed: this.#now(), ...(keeps && { name }) };
    const { parent } = range;
    const surplus = parent.surplus(this.#restedBy(range));
    const changes = [deleteLease(lease), putFormer(former), ...surplus.map(deleteFormer)];
    await this.#write(`The release of ${address}`, changes);
    parent.retire(lease, former);
    for (const one of surplus) parent.forget(one);
  }

  async #releaseRange(range: Range, space: AddressSpace): Promise<void> {
    const { parent } = range;
    // Of the leases too: one may be on its way to become a former one.
    const held = parent.leasesOf(range).flatMap((lease) => [deleteLease(lease), deleteFormer(lease)]);
    const changes = [deletePool(range), ...held, ...parent.formersOf(range).map(deleteFormer)];
    await this.#write(`The release of the pool ${range.poolId}`, changes, () => {
      delete range.releasing;
    });
    space.remove(range);
  }

  #now(): number {
    return (this.#options.now ?? Date.now)();
  }

  /** What was freed by then has rested. */
  #restedBy({ options }: Range): number {
    return this.#now() - (options.rest ?? this.#options.rest ?? REST_MS);
  }

  #choosePool({ space, v6, pool }: PoolRequest, host: readonly Prefix[]): Prefix {
    const family = v6 ? 6 : 4;
    const candidates = this.#defaultPools(space, family);
    const used = [...this.#spaces.values()].map((space) => space.used[family]);
    const length = pool === undefined ? undefined : lengthOf(pool);
    const found = freeSubnet(candidates, [...used, intervalsOf(host, family)], length);
    if (found !== undefined) return found;
    const bases = candidates.map(({ base }) => base).join(', ');
    throw new CnmError(
      'pool-exhausted',
      `No IPv${family} subnet is free in the default address pools (${bases}): name one that is free, or remove unused networks`,
    );
  }

  #defaultPools(space: string, family: 4 | 6): readonly DefaultPool[] {
    const own = (this.#options.defaultPools ?? []).filter(({ base }) => familyOfPrefix(base) === family);
    if (space === LOCAL_SPACE && own.length > 0) return own;
    if (family === 4) return space === LOCAL_SPACE ? LOCAL_POOLS : GLOBAL_POOLS;
    // Recorded together with the first pool out of it; before that nobody has seen it.
    this.#ula ??= storedUla(this.#options.store) ?? randomUla(randomBytes);
    return [{ base: this.#ula, size: 64 }];
  }

  #space(name: string): AddressSpace {
    const space = this.#spaces.get(name);
    if (space !== undefined) return space;
    throw new CnmError(
      'request-invalid',
      `${JSON.stringify(name)} is not an address space: it must be ${SPACES.join(' or ')}`,
    );
  }

  /** @throws CnmError request-invalid for a text that is no pool id, so that a mistake is not taken for success. */
  #find(poolId: string): { readonly space?: AddressSpace; readonly range?: Range } {
    const name = parsePoolId(poolId);
    const space = name && this.#spaces.get(name.space);
    if (name === undefined || space === undefined) throw malformed(poolId);
    const range = space.pools.get(name.pool)?.ranges.get(poolId);
    return { space, ...(range !== undefined && { range }) };
  }

  async #write(what: string, changes: readonly Change[], undo?: () => void): Promise<void> {
    try {
      await this.#options.store.write(changes);
    } catch (error) {
      undo?.();
      const reason = error instanceof Error ? error.message : String(error);
      throw new CnmError('store', `${what} could not be recorded, so nothing was changed: ${reason}`, {
        cause: error,
      });
    }
  }
}

function purposeOf({ gateway, aux }: AddressRequest): Lease['purpose'] {
  if (gateway) return 'gateway';
  return aux === true ? 'aux' : 'endpoint';
}

function storedUla(store: Store): Prefix | undefined {
  const value = store.get(ULA);
  const stored = typeof value === 'string' ? parsePrefix(value) : undefined;
  return stored !== undefined && familyOf(firstOf(stored)) === 6 && lengthOf(stored) === 48
    ? stored
    : undefined;
}
