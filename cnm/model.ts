/** Network, endpoint and sandbox: the three objects of the Container Network Model, as they are requested and as they are stored. */
import type { Ip } from '../address/ip.ts';
import type { Mac } from '../address/mac.ts';
import type { Prefix } from '../address/prefix.ts';
import type { Plan } from '../kernel/step.ts';
import type { Agreement } from './control.ts';
import type { Leased } from './leases.ts';

export type NetworkId = string;
export type EndpointId = string;
export type SandboxId = string;

/** Docker's IPAMData, decoded. `gateway` and `aux` carry the pool's prefix length. */
export interface Subnet {
  readonly addressSpace: string;
  readonly pool: Prefix;
  readonly gateway?: Prefix;
  readonly aux: Readonly<Record<string, Prefix>>;
}

/** Who asked: Docker, or a person through `cnm`. Docker's are compared with Docker's own list, never ours. */
export type Origin = 'docker' | 'cnm';

/**
 * applying → ready → removing. Stored durably around every kernel change, so that after a crash `applying` is undone,
 * `removing` is finished and `ready` is held equal to the kernel.
 */
export type State = 'applying' | 'ready' | 'removing';

export interface NetworkSpec {
  readonly id: NetworkId;
  /** Standalone networks have one; Docker never tells (learned later, see `docs/architecture.md`). */
  readonly name?: string;
  readonly driver: string;
  readonly origin: Origin;
  /** `-o key=value`, exactly as given. */
  readonly options: Readonly<Record<string, string>>;
  readonly internal: boolean;
  /** False only where Engine ≥ 28 says `--ipv4=false`. */
  readonly enableIpv4: boolean;
  readonly enableIpv6: boolean;
  readonly ipv4: readonly Subnet[];
  readonly ipv6: readonly Subnet[];
  /** The pools behind the subnets when our own IPAM gave them to a standalone network. */
  readonly pools?: readonly string[];
  /** What its hosts have agreed on (control.ts); absent = it is this host's alone, or its options say it all. */
  readonly agreement?: Agreement;
}

export interface NetworkWithPresence extends NetworkSpec {
  /** What this host holds of it while it has endpoints on it (`Driver.presence`); absent while it has none. */
  readonly presence?: Plan;
  /** Steps of a former presence that are being undone: see presence.ts. */
  readonly former?: Plan;
}

/** A network that was planned. */
export interface PlannedNetwork extends NetworkSpec {
  /** What its driver remembers of the host as it was then (Driver.found). */
  readonly found?: Readonly<Record<string, string>>;
}

export interface NetworkRecord extends NetworkWithPresence, PlannedNetwork {
  readonly state: State;
  readonly createdAt: string;
  readonly plan: Plan;
}

/** A port to publish. Protocol numbers as in Docker's wire format: 6 tcp, 17 udp, 132 sctp. */
export interface PortBinding {
  readonly proto: number;
  /** Container port, and the container address if one was named. */
  readonly port: number;
  readonly ip?: Ip;
  readonly hostIp?: Ip;
  /** 0 = ephemeral. `hostPort`..`hostPortEnd` is the range to choose from. */
  readonly hostPort: number;
  readonly hostPortEnd: number;
}

export interface EndpointSpec {
  readonly id: EndpointId;
  readonly network: NetworkId;
  readonly name?: string;
  /** Further names on this network, for our own sandboxes. Docker's are learned from Docker. */
  readonly aliases?: readonly string[];
  readonly address?: Prefix;
  readonly addressV6?: Prefix;
  /** What a DHCP server gave; `address` is its address. */
  readonly leased?: Leased;
  readonly mac?: Mac;
  /** Driver options of the endpoint, flat strings (`--network name=n,driver-opt=k=v`). */
  readonly options: Readonly<Record<string, string>>;
  readonly ports: readonly PortBinding[];
}

/** Where a joined endpoint is. `docker`: `key` is the SandboxKey. `cnm`: `key` is the id of a sandbox of ours. */
export interface Attachment {
  readonly kind: 'docker' | 'cnm';
  readonly key: string;
  /** What was done inside a sandbox of ours; empty for Docker's sandboxes, which Docker fills itself. */
  readonly plan: Plan;
  readonly state: State;
}

export interface EndpointRecord extends EndpointSpec {
  readonly mac: Mac;
  readonly state: State;
  readonly createdAt: string;
  readonly plan: Plan;
  readonly attachment?: Attachment;
  /** The SandboxKey that it has left: Docker takes the link out of there only afterwards. */
  readonly left?: string;
  /** As in RemoteEndpoint, of a network that other hosts have as well. */
  readonly generation?: number;
  /** The SandboxKey in which its interface was told what to do with router advertisements: see advertisements.ts. */
  readonly settledIn?: string;
  /** When its link was last put back because the interface that it is on had gone and come back. */
  readonly putBackAt?: string;
  /** External connectivity as programmed: what was asked for, what it became, and its plan. */
  readonly external?: External;
}

/** One port as it is published: on `hostIp` and `hostPort`, or (neither: routed) on the container's own address. */
export interface PublishedPort {
  readonly proto: number;
  readonly ip: Ip;
  readonly port: number;
  /** By which address the host knows the container, where `ip` is none of the host's world. */
  readonly via?: Ip;
  readonly hostIp?: Ip;
  readonly hostPort?: number;
}

export interface External {
  readonly requested: readonly PortBinding[];
  readonly published: readonly PublishedPort[];
  readonly plan: Plan;
  readonly state: State;
}

/** A sandbox of ours: a network namespace with a name. */
export interface SandboxRecord {
  readonly id: SandboxId;
  readonly name: string;
  readonly state: State;
  readonly createdAt: string;
  /** The namespace file, below the daemon's run directory. */
  readonly path: string;
  readonly plan: Plan;
  readonly dns?: SandboxDns;
}

/** Of a sandbox's resolv.conf: what follows `search` and `options`. */
export interface SandboxDns {
  readonly search: readonly string[];
  readonly options: readonly string[];
}

/** RouteType of Docker's wire format: 0 through a next hop, 1 on link. */
export interface StaticRoute {
  readonly destination: Prefix;
  readonly nextHop?: Ip;
}

/** What Join answers: which interface goes into the sandbox, and what it needs there. */
export interface JoinInfo {
  readonly srcName: string;
  readonly dstPrefix: string;
  readonly gateway?: Ip;
  readonly gatewayV6?: Ip;
  readonly routes: readonly StaticRoute[];
  /** Whether it takes addresses and routes that routers advertise; absent = as the sandbox has it. */
  readonly routerAdvertisements?: boolean;
  /** True = Docker must not add docker_gwbridge (internal networks). */
  readonly disableGatewayService: boolean;
}
