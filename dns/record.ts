/** What the resolver is told: networks, and who is on them. */
import type { Ip } from '../address/ip.ts';
import type { Prefix } from '../address/prefix.ts';

export interface ZoneNetwork {
  readonly id: string;
  /** Absent until Docker has told it: names are then to be had without it alone. */
  readonly name?: string;
  /** No way out: nothing is forwarded for who is on such networks only. */
  readonly internal: boolean;
  readonly subnets: readonly Prefix[];
  /** Servers to forward to in place of the host's own, as in resolv.conf; absent or empty = the host's. */
  readonly upstreams?: readonly string[];
}

/** One endpoint. */
export interface ZoneHost {
  readonly id: string;
  readonly network: string;
  /** The sandbox or container: endpoints of one owner see each other's networks. */
  readonly owner: string;
  /** The first one that can be a domain name is what its address is told as; then aliases, short id, hostname. */
  readonly names: readonly string[];
  readonly addresses: readonly Ip[];
  /** Published and exposed, for SRV. */
  readonly ports: readonly ZonePort[];
}

export interface ZonePort {
  readonly proto: 'tcp' | 'udp' | 'sctp';
  readonly port: number;
}
