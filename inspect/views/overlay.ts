/** The test of the ways to other hosts, and the keys. */

/** What the test of the ways to the other hosts finds. */
export type { CheckReport as OverlayCheckView } from '../../drivers/overlay/check/report.ts';
export type { Finding as CheckFinding } from '../../drivers/overlay/check/findings.ts';

/** What encrypted overlay networks send with since keys were rotated. */
export interface RotationView {
  /** Secrets that the daemon has, of which the first is sent with. */
  readonly secrets: number;
  /** How many periods ahead of the clock the keys are that are sent with. */
  readonly ahead: number;
  /** Networks that have other keys now. */
  readonly networks: number;
  /** When the next keys come by themselves. */
  readonly next: string;
}
