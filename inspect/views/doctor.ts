/** What differs between the records and the kernel, and what was done about it. */
import type { Ip } from '../../address/ip.ts';
import type { Prefix } from '../../address/prefix.ts';
import type { Orphan } from '../../kernel/kernel.ts';
import type { Step } from '../../kernel/step.ts';
import type { Named } from './named.ts';

/** Steps of one object's stored plan that the kernel does not bear out. */
export interface DifferenceView {
  readonly object: 'network' | 'endpoint' | 'sandbox';
  readonly id: string;
  readonly name?: string;
  readonly network?: Named;
  readonly repairable: boolean;
  /** The interface that has to come back before it can be put back. */
  readonly awaits?: string;
  readonly missing: readonly CommandView[];
}

/** A step, and the command that a person would type for it. */
export interface CommandView {
  readonly step: Step;
  readonly command: string;
}

export interface OrphanView {
  readonly orphan: Orphan;
  readonly what: string;
  /** What removes it. */
  readonly command: string;
}

/** A lease that no network, endpoint or auxiliary address accounts for; without `address` it is the whole pool. */
export interface LeakView {
  readonly poolId: string;
  readonly pool: Prefix;
  readonly address?: Ip;
  readonly name?: string;
}

export interface DoctorView {
  readonly healthy: boolean;
  readonly differences: readonly DifferenceView[];
  readonly orphans: readonly OrphanView[];
  readonly leaks: readonly LeakView[];
  readonly rulesetCurrent: boolean;
  /** What opening the store found, in words: a damaged file set aside, a schema migrated. Does not make it unhealthy. */
  readonly notices: readonly string[];
}

export interface FixView {
  /** Our nftables table was absent or another version's, and was loaded. */
  readonly rulesetLoaded: boolean;
  readonly undone: readonly string[];
  readonly finished: readonly string[];
  readonly repaired: readonly DifferenceView[];
  readonly removed: readonly OrphanView[];
  readonly released: readonly LeakView[];
  readonly failed: readonly string[];
  /** What still differs. */
  readonly after: DoctorView;
}
