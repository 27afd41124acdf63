/** What is asked for: bodies of requests, and what they would do. */
import type { Ip } from '../../address/ip.ts';
import type { SubnetView } from '../views.ts';
import type { CommandView } from './doctor.ts';

export interface CheckRequest {
  /** Further addresses to ask for. */
  readonly ask: readonly Ip[];
}

export interface PlanView {
  readonly name: string;
  readonly driver: string;
  readonly subnets: readonly SubnetView[];
  readonly plan: readonly CommandView[];
}

/** Body of POST /v1/networks. Same meaning as the flags of `docker network create`. */
export interface NetworkRequest {
  readonly name: string;
  readonly driver: string;
  readonly subnets: readonly string[];
  readonly gateways: readonly string[];
  readonly ipRanges: readonly string[];
  readonly auxAddresses: Readonly<Record<string, string>>;
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  readonly internal: boolean;
  readonly options: Readonly<Record<string, string>>;
  /** `--ipam-opt`: the same for every subnet. */
  readonly ipamOptions?: Readonly<Record<string, string>>;
}

/** Body of POST /v1/sandboxes/:ref/join. */
export interface JoinRequest {
  readonly network: string;
  readonly ip?: string | undefined;
  readonly ip6?: string | undefined;
  readonly mac?: string | undefined;
  readonly options: Readonly<Record<string, string>>;
  /** As after `-p`. */
  readonly ports?: readonly string[];
  /** Further names on this network. */
  readonly aliases?: readonly string[];
}

/** POST /v1/sandboxes. */
export interface SandboxRequest {
  readonly name: string;
  /** What follows `search` and `options` in its resolv.conf. */
  readonly dnsSearch?: readonly string[];
  readonly dnsOptions?: readonly string[];
}
