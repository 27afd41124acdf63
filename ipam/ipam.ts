/** IPAM as Docker's protocol and our own standalone networks call it. */
import type { Ip } from '../address/ip.ts';
import type { Prefix } from '../address/prefix.ts';

export interface PoolRequest {
  /** An address space of ours: `cnm-local` or `cnm-global`. */
  readonly space: string;
  /** Absent = choose one; an unspecified address (`0.0.0.0/26`) = choose one of that length. */
  readonly pool?: Prefix;
  /** `--ip-range`: dynamic addresses come only from here. */
  readonly subPool?: Prefix;
  readonly v6: boolean;
  /** `--ipam-opt`: see options.ts. */
  readonly options: Readonly<Record<string, string>>;
  /**
   * The standalone network that the pool is for; absent for Docker's. Kept with the pool, so that after a crash a pool
   * whose network was never recorded is known to be ours to release.
   */
  readonly owner?: string;
}

export interface PoolAnswer {
  /** Opaque to Docker; stable for the same pool and range. */
  readonly poolId: string;
  readonly pool: Prefix;
}

export interface AddressRequest {
  /** Absent = choose one. */
  readonly address?: Ip;
  /** What it is for: the gateway, or an endpoint (whose name Engine ≥ 29 and standalone networks tell). */
  readonly gateway: boolean;
  /** Set aside for nobody of ours (`--aux-address`), where the one who asks can tell: Docker does not. */
  readonly aux?: true;
  readonly name?: string;
  readonly serial: boolean;
}

/**
 * Every answer is durable before it is given. Releases of something unknown are success. Throws CnmError:
 * `pool-unknown`, `pool-overlap`, `option-invalid`, `pool-exhausted`, `address-invalid`, `address-taken`, `store`, `cluster-unreachable`, and `request-invalid` for
 * what is no address space or no pool id. An error leaves everything as it was.
 */
export interface Ipam {
  readonly localSpace: string;
  readonly globalSpace: string;
  /** Of networks that say nothing of it: one of the two. */
  readonly defaultSpace: string;
  requestPool(request: PoolRequest): Promise<PoolAnswer>;
  releasePool(poolId: string): Promise<void>;
  /** The address with the pool's prefix length. */
  requestAddress(poolId: string, request: AddressRequest): Promise<Prefix>;
  releaseAddress(poolId: string, address: Ip): Promise<void>;
  pools(): readonly PoolView[];
  /** Absent: the global space is this host's own. */
  readonly cluster?: ClusterView;
  /** Gives back to the cluster what this host holds and does not use. */
  close(): Promise<void>;
}

/** The cluster as this host last heard of it. */
export interface ClusterView {
  /** Of its store, for people. */
  readonly name: string;
  /** Whether this host hears of changes now. */
  readonly reachable: boolean;
  /** Why this host is not in it; empty when it is. */
  readonly trouble: string;
  readonly hosts: readonly ClusterHost[];
  /**
   * Frees everything that a host holds, which is away and gone for good.
   * @throws CnmError `request-invalid` while it is there, or for one that nobody knows; `cluster-unreachable`.
   */
  forget(host: string): Promise<void>;
}

export interface ClusterHost {
  readonly id: string;
  /** As it says itself; absent when it is away. */
  readonly name?: string;
  readonly advertise?: string;
  readonly state: 'self' | 'there' | 'away';
  /** Pools that it has. */
  readonly pools: number;
}

/** A pool that hosts of the cluster have together. */
export interface SharedPoolView {
  /** Addresses of the range that no host holds. */
  readonly unheld: bigint;
  /** How many each host holds: those that it has given, and those that it may give without asking. */
  readonly held: ReadonlyMap<string, bigint>;
  /** In use here, and held by another host. */
  readonly conflicts: readonly Ip[];
  /** Who holds it, in words; undefined when nobody does. */
  holder(address: Ip): string | undefined;
}

export interface PoolView {
  readonly poolId: string;
  readonly space: string;
  readonly pool: Prefix;
  readonly subPool?: Prefix;
  /** How many pool ids share the pool's addresses: 1, or the number of its ranges. */
  readonly users: number;
  /** As in PoolRequest. */
  readonly owner?: string;
  /** As they were given. */
  readonly options: Readonly<Record<string, string>>;
  /** Counted when it is read. */
  readonly usage: PoolUsage;
  /** In order of address; made when it is read. */
  readonly leases: readonly LeaseView[];
  /** Of this pool id, the longest free first; made when it is read. */
  readonly formers: readonly FormerView[];
  /** Of a pool in the cluster; made when it is read. */
  readonly shared?: SharedPoolView | undefined;
}

/** Of one pool id, in addresses. */
export interface PoolUsage {
  /** What may be chosen: its range, or its pool, without what is reserved. */
  readonly choosable: bigint;
  /** What is given only to those who name it: the rest of the pool, without what nobody may have. */
  readonly reserved: bigint;
  /** Held by leases of this pool id. */
  readonly used: number;
  /** Of those that may be chosen, not held by anybody; in a cluster, of those that this host holds. Those at rest are among them. */
  readonly free: bigint;
  /** Freed so lately that they are still at rest. */
  readonly resting: number;
}

export interface LeaseView {
  readonly address: Ip;
  readonly purpose: 'gateway' | 'endpoint' | 'aux';
  readonly name?: string;
  /** When it was given, in milliseconds since 1970; absent where the record cannot tell. */
  readonly since?: number;
}

export interface FormerView {
  readonly address: Ip;
  readonly name?: string;
  /** Milliseconds since 1970. */
  readonly freed: number;
  /** It has not been free for long enough. */
  readonly resting: boolean;
}
