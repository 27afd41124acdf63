/** Pools and the addresses in them. */
import type { Ip } from '../../address/ip.ts';
import type { Prefix } from '../../address/prefix.ts';
import type { ClusterHost } from '../../ipam/ipam.ts';
import type { Named } from './named.ts';

/** One pool of the IPAM. Numbers of addresses are exact up to 2^53. */
export interface PoolSummary {
  readonly poolId: string;
  readonly space: string;
  readonly pool: Prefix;
  readonly range?: Prefix;
  /** The network that it is for, where one is known. */
  readonly network?: Named;
  readonly options: Readonly<Record<string, string>>;
  /** What may be chosen, and of that what is free. */
  readonly choosable: number;
  readonly free: number;
  readonly used: number;
  readonly resting: number;
  readonly reserved: number;
  /** Of a pool that hosts of a cluster have together. The numbers above are this host's. */
  readonly cluster?: SharedPoolSummary;
}

export interface SharedPoolSummary {
  /** Addresses that may be chosen and that no host holds. */
  readonly unheld: number;
  /** By the id of the host: how many it has given, or may give without asking. */
  readonly held: Readonly<Record<string, number>>;
}

/** `cnm ipam hosts`: the cluster as this host last heard of it. */
export interface ClusterSummary {
  /** Of its store; absent: this host is on its own. */
  readonly store?: string;
  /** Whether the store answers now. */
  readonly reachable: boolean;
  /** Why this host is not in it; absent when it is. */
  readonly trouble?: string;
  readonly hosts: readonly ClusterHost[];
}

export type AddressState = 'gateway' | 'endpoint' | 'aux' | 'resting' | 'free' | 'reserved' | 'unusable';

/** One address of a pool. */
export interface AddressView {
  readonly poolId: string;
  readonly address: Ip;
  /** `resting`: free, and lately used. `reserved`: free for who names it. `unusable`: nobody may have it. */
  readonly state: AddressState;
  /** The name that it was asked for with; of a free one, who had it last. */
  readonly name?: string;
  readonly network?: Named;
  /** The container or sandbox that has it, where one is known. */
  readonly holder?: Named;
  /** The host of the cluster that holds it, in words. */
  readonly heldBy?: string;
  /** When it was given or freed. */
  readonly since?: string;
  /** The namespaces whose interfaces bear it now: `host`, or the path of a namespace. Only of a single address. */
  readonly seenIn?: readonly string[];
}

/** Something that store, Docker, kernel and cluster do not agree on. */
export interface FindingView {
  /**
   * `leak`: nothing speaks for the lease, or for the whole pool when no address is named. `double`: two have one address.
   * `orphan`: an address in use that no lease holds. `overlap`: the pool hides a route of the host's, or is hidden by it.
   */
  readonly kind: 'leak' | 'double' | 'orphan' | 'overlap';
  readonly poolId: string;
  readonly address?: Ip;
  readonly name?: string;
  /** Of the lease: a later lease of the same address is another one. */
  readonly since?: string;
  readonly what: string;
}

export interface AuditView {
  readonly checkedAt: string;
  readonly healthy: boolean;
  readonly findings: readonly FindingView[];
  /** What could not be looked at, in words. */
  readonly notes: readonly string[];
}

export interface ReleaseView {
  readonly released: readonly FindingView[];
  /** What is not released, and why. */
  readonly kept: readonly { readonly finding: FindingView; readonly why: string }[];
}
