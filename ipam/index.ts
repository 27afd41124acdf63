/** Our IPAM: chooses in memory, and answers once the choice is on disk. */
import { randomBytes } from 'node:crypto';
import { compareIp, familyOf } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import {
  addressOf,
  covers,
  familyOfPrefix,
  firstOf,
  isMulticast,
  lengthOf,
  networkOf,
  parsePrefix,
  prefixOf,
} from '../address/prefix.ts';
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
import type { AddressRequest, Ipam, PoolAnswer, PoolRequest, PoolView } from './ipam.ts';
import { deleteLease, putLease } from './lease.ts';
import type { Lease } from './lease.ts';
import { loadSpaces } from './load.ts';
import { unusable } from './policy.ts';
import { GLOBAL_SPACE, LOCAL_SPACE, SPACES, deletePool, parsePoolId, putPool } from './pool.ts';
import type { AddressSpace, Range } from './pool.ts';

export interface IpamOptions {
  readonly store: Store;
  readonly log?: Log;
  /** What chosen subnets stay clear of, asked for each time: the host's routes and name servers. */
  readonly hostPrefixes?: () => Promise<readonly Prefix[]>;
  /** For the local address space, of both families; without an IPv6 one, a random ULA /48 is made and kept. */
  readonly defaultPools?: readonly DefaultPool[];
}

/** @throws RangeError for default pools that nothing can be cut out of. */
export async function createIpam(options: IpamOptions): Promise<Ipam> {
  checkDefaultPools(options.defaultPools ?? []);
  return new DurableIpam(options, await loadSpaces(options.store, options.log));
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
    space.check(pool, subPool);
    const range = space.add({ pool, ...(subPool !== undefined && { subPool }) }, request.owner);
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
      purpose: request.gateway ? 'gateway' : 'endpoint',
      ...(request.name !== undefined && { name: request.name }),
    };
    parent.take(lease);
    await this.#write(`The address ${address}`, [putLease(lease)], () => {
      parent.drop(lease);
    });
    return prefixOf(address, lengthOf(parent.prefix));
  }

  async releaseAddress(poolId: string, address: Ip): Promise<void> {
    const { range } = this.#find(poolId);
    const lease = range?.parent.leases.get(address);
    // A range that shares the pool may hold it: a late release must not take it away.
    if (range === undefined || lease?.poolId !== poolId) return;
    const release = this.#releasing.get(lease) ?? this.#releaseLease(lease, range);
    this.#releasing.set(lease, release);
    await release.finally(() => this.#releasing.delete(lease));
  }

  pools(): readonly PoolView[] {
    const ranges = [...this.#spaces.values()]
      .flatMap((space) => [...space.pools.values()])
      .flatMap((pool) => [...pool.ranges.values()]);
    return ranges.map(viewOf);
  }

  /** Freed in memory only after on disk: until then nobody else can be given it. */
  async #releaseLease(lease: Lease, { parent }: Range): Promise<void> {
    await this.#write(`The release of ${lease.address}`, [deleteLease(lease)]);
    parent.drop(lease);
  }

  async #releaseRange(range: Range, space: AddressSpace): Promise<void> {
    const changes = [deletePool(range), ...range.parent.leasesOf(range).map(deleteLease)];
    await this.#write(`The release of the pool ${range.poolId}`, changes, () => {
      delete range.releasing;
    });
    space.remove(range);
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

/** Docker ≥ 29 asks for a subnet of a size of its own by an unspecified address: `0.0.0.0/26`. */
function isSizeOnly(pool: Prefix): boolean {
  return lengthOf(pool) > 0 && ['0.0.0.0', '::'].includes(addressOf(pool));
}

/** The subnet that the request names, its host bits cleared as Docker < 25 does (later ones refuse them); or none. */
function explicitPool({ pool, subPool }: PoolRequest): Prefix | undefined {
  if (pool === undefined || isSizeOnly(pool)) {
    if (subPool === undefined) return undefined;
    throw new CnmError(
      'address-invalid',
      `The range ${subPool} has no subnet to lie in: name both, or neither`,
    );
  }
  if (isMulticast(pool)) {
    throw new CnmError(
      'address-invalid',
      `${pool} is a multicast block: a container's subnet must be of unicast addresses`,
    );
  }
  return networkOf(pool);
}

function checkedRange(pool: Prefix, subPool: Prefix | undefined): Prefix | undefined {
  if (subPool === undefined || networkOf(subPool) === pool) return undefined;
  if (covers(pool, subPool)) return networkOf(subPool);
  throw new CnmError(
    'address-invalid',
    `The range ${subPool} is not inside the subnet ${pool}: it must be a part of it`,
  );
}

function chosen(range: Range, { serial }: AddressRequest): Ip {
  const address = range.parent.choose(range, serial);
  if (address !== undefined) return address;
  const { pool, subPool } = range;
  const where = subPool === undefined ? pool : `${subPool}, the range of ${pool}`;
  throw new CnmError(
    'pool-exhausted',
    `no available IPv${familyOfPrefix(pool)} addresses in ${where}: every one that may be given is in use`,
  );
}

/** Anywhere in the pool, also outside of the range: that is where Docker's users keep their fixed addresses. */
function checkedAddress({ parent }: Range, address: Ip): Ip {
  const reason = unusable(parent.prefix, address);
  if (reason !== undefined) {
    throw new CnmError(
      'address-invalid',
      `${address} cannot be used, it is ${reason}: choose a free address of ${parent.prefix}`,
    );
  }
  const lease = parent.leases.get(address);
  if (lease === undefined) return address;
  // Docker asks for an auxiliary address exactly as for an endpoint's.
  const other = lease.name ?? 'an endpoint or set aside with --aux-address';
  const holder = lease.purpose === 'gateway' ? 'the gateway' : other;
  throw new CnmError(
    'address-taken',
    `Address already in use: ${address} of ${parent.prefix} is held by ${holder}`,
  );
}

function unknownPool(poolId: string): CnmError {
  return new CnmError(
    'pool-unknown',
    `There is no pool ${poolId}: it was never requested, or has been released`,
  );
}

function malformed(poolId: string): CnmError {
  return new CnmError(
    'request-invalid',
    `${JSON.stringify(poolId)} is not a pool id: it must be as cnm-local/10.0.0.0/24`,
  );
}

function storedUla(store: Store): Prefix | undefined {
  const value = store.get(ULA);
  const stored = typeof value === 'string' ? parsePrefix(value) : undefined;
  return stored !== undefined && familyOf(firstOf(stored)) === 6 && lengthOf(stored) === 48
    ? stored
    : undefined;
}

function viewOf(range: Range): PoolView {
  const { poolId, space, pool, subPool, owner, parent } = range;
  return {
    poolId,
    space,
    pool,
    ...(subPool !== undefined && { subPool }),
    ...(owner !== undefined && { owner }),
    users: parent.ranges.size,
    leases: [...parent.leasesOf(range)]
      .sort((a, b) => compareIp(a.address, b.address))
      .map(({ address, purpose, name }) => ({ address, purpose, ...(name !== undefined && { name }) })),
  };
}
