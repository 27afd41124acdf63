/** Our IPAM: chooses in memory, and answers once the choice is on disk. */
import { randomBytes } from 'node:crypto';
import { familyOf, ipValue } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import { covers, familyOfPrefix, firstOf, lengthOf, parsePrefix, prefixOf } from '../address/prefix.ts';
import type { Prefix } from '../address/prefix.ts';
import { CnmError, messageOf } from '../cnm/errors.ts';
import { silent } from '../cnm/log.ts';
import type { Log } from '../cnm/log.ts';
import type { ClusterStore } from '../store/cluster.ts';
import type { Change, Store } from '../store/store.ts';
import { hostId } from './cluster/identity.ts';
import { obtain } from './cluster/obtain.ts';
import { ClusterSpace, PACE } from './cluster/space.ts';
import type { ClusterIdentity, ClusterPace, OwnPools } from './cluster/space.ts';
import { common } from './spans.ts';
import { clusterView, sharedView } from './cluster/view.ts';
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
import type { AddressRequest, ClusterView, Ipam, PoolAnswer, PoolRequest, PoolView } from './ipam.ts';
import { deleteFormer, deleteLease, putFormer, putLease } from './lease.ts';
import type { FormerLease, Lease } from './lease.ts';
import { loadSpaces } from './load.ts';
import { SPACE, poolOptions, sharedName } from './options.ts';
import { GLOBAL_SPACE, LOCAL_SPACE, SPACES, deletePool, parsePoolId, putPool } from './pool.ts';
import type { AddressSpace, Pool, Range } from './pool.ts';
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
  /** Of networks that say nothing of it. Default: the local one. */
  readonly defaultSpace?: typeof LOCAL_SPACE | typeof GLOBAL_SPACE;
  /** With others, the global space is in the cluster's store. */
  readonly cluster?: ClusterMembership;
}

export interface ClusterMembership extends Omit<ClusterIdentity, 'id'> {
  readonly store: ClusterStore;
  /** Where a test cannot wait as long as the daemon does. */
  readonly pace?: Partial<ClusterPace>;
}

const REST_MS = 60_000;

/** @throws RangeError for default pools that nothing can be cut out of. */
export async function createIpam(options: IpamOptions): Promise<Ipam> {
  checkDefaultPools(options.defaultPools ?? []);
  const spaces = await loadSpaces(options.store, (options.now ?? Date.now)(), options.log);
  const id = options.cluster === undefined ? '' : await hostId(options.store);
  return new DurableIpam(options, spaces, id);
}

const ULA = 'ipam/ula';

class DurableIpam implements Ipam {
  readonly localSpace = LOCAL_SPACE;
  readonly globalSpace = GLOBAL_SPACE;
  readonly defaultSpace: string;
  readonly #options: IpamOptions;
  readonly #spaces: ReadonlyMap<string, AddressSpace>;
  readonly #releasing = new Map<Lease, Promise<void>>();
  readonly #cluster: ClusterSpace | undefined;
  readonly cluster?: ClusterView;
  #ula: Prefix | undefined;

  constructor(options: IpamOptions, spaces: ReadonlyMap<string, AddressSpace>, hostId: string) {
    this.#options = options;
    this.#spaces = spaces;
    this.defaultSpace = options.defaultSpace ?? LOCAL_SPACE;
    if (options.cluster === undefined) return;
    this.#cluster = this.#openCluster(options.cluster, hostId);
    this.cluster = clusterView(this.#cluster);
    for (const pool of this.#globalPools()) this.#narrow(pool, []);
    this.#cluster.start();
  }

  async close(): Promise<void> {
    await this.#cluster?.close();
  }

  async requestPool(request: PoolRequest): Promise<PoolAnswer> {
    const space = this.#space(request.options[SPACE] ?? request.space);
    const explicit = explicitPool(request);
    const candidates = explicit === undefined ? await this.#candidates(request, space.name) : [];
    const host = explicit === undefined ? await this.#options.hostPrefixes?.() : undefined;
    const cluster = this.#clusterOf(space.name);
    const name = explicit === undefined ? sharedName(request.options, cluster !== undefined) : undefined;
    for (;;) {
      const named = name === undefined ? undefined : cluster?.named(name, request.v6 ? 6 : 4);
      const pool = explicit ?? named ?? this.#choosePool(request, space.name, candidates, host ?? []);
      const range = this.#addRange(request, space, pool);
      try {
        await cluster?.join(range.parent, explicit === undefined && named === undefined, name);
      } catch (error) {
        this.#removeRange(range, space);
        // Another host was quicker: the next one.
        if (explicit === undefined && error instanceof CnmError && error.code === 'pool-overlap') continue;
        throw error;
      }
      await this.#write(`The pool ${pool}`, this.#poolChanges(range), () => {
        this.#removeRange(range, space);
      });
      return { poolId: range.poolId, pool };
    }
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
    const { lease, former } = await this.#lease(range, request);
    const changes = [putLease(lease), ...(former === undefined ? [] : [deleteFormer(former)])];
    await this.#write(`The address ${lease.address}`, changes, () => {
      parent.drop(lease);
      if (former !== undefined && range.releasing === undefined) parent.remember(former);
      if (lease.purpose !== 'endpoint') this.#clusterOf(range.space)?.follow(parent.prefix);
    });
    return prefixOf(lease.address, lengthOf(parent.prefix));
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
    return ranges.map((range) => {
      const cluster = this.#clusterOf(range.space);
      const shared = cluster && (() => sharedView(cluster, range));
      return viewOf(range, this.#restedBy(range), shared);
    });
  }

  /** In memory: held by it from now on. */
  async #lease(range: Range, request: AddressRequest): Promise<Taken> {
    const cluster = this.#clusterOf(range.space);
    const take = (address: Ip) => this.#take(range, request, address);
    if (cluster === undefined) {
      const { address } = request;
      return take(address === undefined ? chosen(range, request) : checkedAddress(range, address));
    }
    const holding = await cluster.holding(range.parent);
    return obtain(holding, range, request, () => this.#restedBy(range), take);
  }

  #take(range: Range, request: AddressRequest, address: Ip): Taken {
    const { poolId, parent } = range;
    if (range.releasing !== undefined) throw unknownPool(poolId);
    const lease: Lease = {
      poolId,
      address,
      purpose: purposeOf(request),
      ...(request.name !== undefined && { name: request.name }),
      since: this.#now(),
    };
    const former = parent.formers.get(address);
    parent.take(lease);
    return { lease, former };
  }

  /** Held in memory before anyone else looks: nothing may come between the check and this. */
  #addRange(request: PoolRequest, space: AddressSpace, pool: Prefix): Range {
    const subPool = checkedRange(pool, request.subPool);
    const options = poolOptions(pool, request.options);
    space.check(pool, subPool);
    const { owner, options: given } = request;
    const name = { pool, ...(subPool !== undefined && { subPool }) };
    const range = space.add(name, { ...(owner !== undefined && { owner }), options, given });
    if (this.#clusterOf(space.name) !== undefined) this.#narrow(range.parent);
    return range;
  }

  #removeRange(range: Range, space: AddressSpace): void {
    space.remove(range);
    this.#clusterOf(space.name)?.follow(range.pool);
  }

  #poolChanges(range: Range): readonly Change[] {
    const ula = this.#ula !== undefined && covers(this.#ula, range.pool);
    return [putPool(range), ...(ula ? [{ put: ULA, value: this.#ula }] : [])];
  }

  #clusterOf(space: string): ClusterSpace | undefined {
    return space === GLOBAL_SPACE ? this.#cluster : undefined;
  }

  #globalPools(): readonly Pool[] {
    return [...(this.#spaces.get(GLOBAL_SPACE)?.pools.values() ?? [])];
  }

  #openCluster({ store, pace, ...identity }: ClusterMembership, id: string): ClusterSpace {
    const global = this.#spaces.get(GLOBAL_SPACE);
    const own: OwnPools = {
      pool: (prefix) => global?.pools.get(prefix),
      pools: () => this.#globalPools(),
      restedBy: ({ ranges }) => Math.min(...[...ranges.values()].map((range) => this.#restedBy(range))),
      changed: (pool) => {
        this.#narrow(pool);
      },
    };
    const log = this.#options.log ?? silent;
    return new ClusterSpace({
      cluster: store,
      identity: { ...identity, id },
      own,
      log,
      pace: { ...PACE, ...pace },
    });
  }

  /** Of a cluster's pool, only what this host holds is given. */
  #narrow(pool: Pool, available = this.#cluster?.available(pool) ?? []): void {
    const base = ipValue(firstOf(pool.prefix));
    const offsets = available.map(({ first, last }) => ({ first: first - base, last: last - base }));
    for (const range of pool.ranges.values()) pool.narrow(range, common(range.bounds, offsets));
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
    if (purpose !== 'endpoint') this.#clusterOf(range.space)?.follow(parent.prefix);
  }

  async #releaseRange(range: Range, space: AddressSpace): Promise<void> {
    const { parent } = range;
    // Of the leases too: one may be on its way to become a former one.
    const held = parent.leasesOf(range).flatMap((lease) => [deleteLease(lease), deleteFormer(lease)]);
    const changes = [deletePool(range), ...held, ...parent.formersOf(range).map(deleteFormer)];
    await this.#write(`The release of the pool ${range.poolId}`, changes, () => {
      delete range.releasing;
    });
    this.#removeRange(range, space);
  }

  #now(): number {
    return (this.#options.now ?? Date.now)();
  }

  /** What was freed by then has rested. */
  #restedBy({ options }: Range): number {
    return this.#now() - (options.rest ?? this.#options.rest ?? REST_MS);
  }

  #choosePool(
    { v6, pool }: PoolRequest,
    space: string,
    candidates: readonly DefaultPool[],
    host: readonly Prefix[],
  ): Prefix {
    const family = v6 ? 6 : 4;
    const used = [...this.#spaces.values()].map((space) => space.used[family]);
    const cluster = this.#clusterOf(space)?.used(family);
    if (cluster !== undefined) used.push(cluster);
    const length = pool === undefined ? undefined : lengthOf(pool);
    const found = freeSubnet(candidates, [...used, intervalsOf(host, family)], length);
    if (found !== undefined) return found;
    const bases = candidates.map(({ base }) => base).join(', ');
    throw new CnmError(
      'pool-exhausted',
      `No IPv${family} subnet is free in the default address pools (${bases}): name one that is free, or remove unused networks`,
    );
  }

  /** Where a subnet may come from. */
  async #candidates({ v6 }: PoolRequest, space: string): Promise<readonly DefaultPool[]> {
    const cluster = this.#clusterOf(space);
    if (cluster === undefined) return this.#defaultPools(space, v6 ? 6 : 4);
    await cluster.ready();
    if (!v6) return GLOBAL_POOLS;
    return [{ base: await cluster.ula(() => randomUla(randomBytes)), size: 64 }];
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
      const reason = messageOf(error);
      throw new CnmError('store', `${what} could not be recorded, so nothing was changed: ${reason}`, {
        cause: error,
      });
    }
  }
}

interface Taken {
  readonly lease: Lease;
  /** What was remembered of the address until then. */
  readonly former: FormerLease | undefined;
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
