/** What the self-test of an overlay network comes to, as the daemon's API gives it. Types alone. */
import type { Ip } from '../../../address/ip.ts';
import type { Finding } from './findings.ts';

export interface CheckReport {
  readonly network: string;
  /** No errors and no warnings. */
  readonly healthy: boolean;
  /** Of this host alone. */
  readonly findings: readonly Finding[];
  readonly segments: readonly SegmentReport[];
}

export interface SegmentReport {
  readonly vni: number;
  readonly port: number;
  readonly local: Ip;
  readonly mtu: number;
  readonly peers: readonly PeerReport[];
}

export interface PeerReport {
  readonly peer: Ip;
  /** Milliseconds that its clock is ahead, where it answered. */
  readonly clockAhead?: number;
  readonly findings: readonly Finding[];
}
