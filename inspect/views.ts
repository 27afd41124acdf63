/**
 * What the admin API answers, as types only: the daemon builds these and `cnm` prints them, so that the command needs
 * neither the schemas nor the server to start. Addresses are canonical text, times ISO 8601, MTU in bytes.
 */
import type { EndpointLease } from './lease.ts';
import type { DoorView } from '../dns/doors.ts';
import type { NameView, UpstreamView } from '../dns/service.ts';
import type { Ip } from '../address/ip.ts';
import type { Mac } from '../address/mac.ts';
import type { Prefix } from '../address/prefix.ts';
import type { Origin, State } from '../cnm/model.ts';
import type { VxlanFact } from '../kernel/facts.ts';
import type { ClusterHost } from '../ipam/ipam.ts';
import type { Orphan } from '../kernel/kernel.ts';
import type { PacketCount, VtepCounters } from '../kernel/kernel.ts';
import type { Step, TransportProtocol } from '../kernel/step.ts';

export interface ErrorView {
  readonly error: { readonly code: string; readonly message: string };
}

export interface VersionView {
  readonly version: string;
  readonly node: string;
  readonly runDir: string;
  readonly drivers: readonly string[];
}

/** Something with an id, and a name where one is known. Docker's networks get theirs from the Engine, if it answers. */
export interface Named {
  readonly id: string;
  readonly name?: string;
}

export interface NetworkSummary extends Named {
  readonly driver: string;
  readonly origin: Origin;
  readonly state: State;
  readonly createdAt: string;
  readonly internal: boolean;
  readonly subnets: readonly SubnetView[];
  readonly endpoints: number;
  /** It is to be on all hosts of the cluster. */
  readonly published?: PublishedView;
}

/** What the hosts of the cluster say of a network that is to be on all of them, or is to be so no longer (`withdrawn`). */
export interface PublishedView {
  readonly name: string;
  readonly state: 'published' | 'withdrawn';
  /** The host where that was said. */
  readonly by: string;
  readonly hosts: readonly HostOutcomeView[];
  /** Each host that there is has it, or does not have it any more. */
  readonly complete: boolean;
}

export interface HostOutcomeView {
  readonly id: string;
  readonly host: string;
  /**
   * `ok` made, `exists` there already, `refused`, `waiting` for its Docker Engine; withdrawn: `removed` or never there, `own` not made by
   * publishing and left, `kept` in use; `unheard`: the host has not answered.
   */
  readonly outcome: 'ok' | 'exists' | 'refused' | 'waiting' | 'removed' | 'own' | 'kept' | 'unheard';
  readonly message?: string;
}

export interface SubnetView {
  readonly pool: Prefix;
  readonly gateway?: Prefix;
  /** `--ip-range`, known for networks whose addresses come from our IPAM. */
  readonly range?: Prefix;
  readonly aux: Readonly<Record<string, Prefix>>;
}

/** A link as the kernel has it now. */
export interface LinkView {
  readonly name: string;
  readonly index: number;
  readonly kind?: string;
  readonly mac?: Mac;
  readonly mtu: number;
  readonly up: boolean;
  readonly carrier: boolean;
  readonly addresses: readonly Prefix[];
}

/** A rule or set element that the kernel holds now and that names the network's bridge. */
export interface RuleView {
  readonly where: string;
  readonly what: string;
}

export interface EndpointSummary extends Named {
  readonly network: Named;
  readonly state: State;
  readonly mac: Mac;
  readonly addresses: readonly Prefix[];
  readonly attachment?: AttachmentView;
}

export interface AttachmentView {
  readonly kind: 'docker' | 'cnm';
  /** Docker's SandboxKey, or the id of our sandbox. */
  readonly key: string;
  /** Name of our sandbox, or of the container, where the Engine told. */
  readonly name?: string;
  /** The namespace file. */
  readonly path?: string;
  readonly state: State;
}

export interface EndpointView extends EndpointSummary {
  /** Of a network with addresses from a DHCP server. */
  readonly lease?: EndpointLease;
  readonly createdAt: string;
  /** When its link was last put back after the interface that it is on had gone. */
  readonly putBackAt?: string;
  readonly driver: string;
  readonly options: Readonly<Record<string, string>>;
  readonly ports: readonly PortView[];
  /** The link inside the namespace; absent when it is not joined, not there, or not visible. */
  readonly inside?: LinkView;
  /** Why `inside` is absent although the endpoint is joined; or what is wrong with it. */
  readonly insideNote?: string;
  readonly routes: readonly RouteView[];
  /** The end that stays outside: in the daemon's namespace, or in the network's own. */
  readonly outside?: LinkView;
  readonly outsideName?: string;
  /** The device of the network that `outside` is a port of; with `role` parent: the link of the host's that the endpoint's link is on. */
  readonly bridge?: LinkView;
  readonly bridgeName?: string;
  readonly role?: 'parent';
  readonly rules: readonly RuleView[];
  readonly differences: readonly DifferenceView[];
}

/** One published port of a container or sandbox. */
export interface PortView {
  readonly endpoint: Named;
  readonly network: Named;
  readonly proto: TransportProtocol;
  /** The container's address and port. */
  readonly ip: Ip;
  readonly port: number;
  /** By which address the host knows the container, where that is another. */
  readonly via?: Ip;
  /** Where it is published on the host; empty on a routed network, where the container's own address and port is the published one. */
  readonly hosts: readonly { readonly ip: Ip; readonly port: number }[];
}

/** A published port with what it has let in since the table was loaded; null = the kernel does not hold it. */
export interface CountedPortView extends PortView {
  readonly count: PacketCount | null;
}

export interface FirewallView {
  /** Whether the kernel holds the table `inet cnm` of this version. */
  readonly loaded: boolean;
  readonly networks: readonly NetworkFirewallView[];
}

/** What the kernel holds for one network now, whatever was asked for. */
export interface NetworkFirewallView extends Named {
  readonly driver: string;
  readonly bridge: string;
  /** False = the table does not know the bridge: nothing of what follows is in force. */
  readonly filtered: boolean;
  /** Containers of the network reach each other. */
  readonly icc: boolean;
  /** Nothing goes out or comes in. */
  readonly internal: boolean;
  readonly families: readonly FamilyFirewallView[];
  /** Interfaces from which published ports are reached at the container's own address. */
  readonly trusted: readonly string[];
  /** The accept rules in DOCKER-USER. */
  readonly accepts: readonly { readonly family: 4 | 6; readonly state: 'there' | 'missing' | 'no chain' }[];
  readonly ports: readonly CountedPortView[];
}

export interface FamilyFirewallView {
  readonly family: 4 | 6;
  readonly mode: 'nat' | 'nat-unprotected' | 'routed' | 'internal' | 'isolated';
  /** The source of outbound packets: the address of the interface they leave by, this address, or the container's own. */
  readonly source: 'interface' | 'own' | Ip;
  /** Ports published on the host obey its own input policy, too (`firewall=host`). */
  readonly obeysHost: boolean;
}

export interface RouteView {
  readonly to: Prefix;
  readonly via?: Ip;
}

/** What this host holds of a network in a namespace of its own, while it has endpoints on it. */
export interface PresenceView {
  readonly netns: string;
  /** False when the namespace file is not a namespace (any more). */
  readonly exists: boolean;
  readonly segments: readonly SegmentView[];
  /** The way out of its own; absent: it has none. */
  readonly uplink?: UplinkView;
}

/** A pair between the network's namespace and the host's. */
export interface UplinkView {
  readonly name: string;
  readonly link?: LinkView;
  /** The end on the host. */
  readonly hostName: string;
  readonly hostLink?: LinkView;
  /** The network's subnets, and what the host knows them by. */
  readonly pairs: readonly { readonly inside: Prefix; readonly outside: Prefix }[];
}

/** One layer 2 of the network: a bridge, and the tunnels to the other hosts. */
export interface SegmentView {
  readonly bridgeName: string;
  readonly bridge?: LinkView;
  readonly tunnels: readonly TunnelView[];
}

export interface TunnelView {
  readonly name: string;
  readonly link?: LinkView;
  readonly settings?: VxlanFact;
  /** A thread of the daemon has the other end of `link`. No counters: it does not run. */
  readonly userspace?: {
    readonly vni: number;
    readonly local: Ip;
    readonly port: number;
    readonly counters?: VtepCounters;
  };
  /** The hosts that everything goes to whose place is not known. */
  readonly peers: readonly Ip[];
}

/** What a network is encrypted with on its way to other hosts. */
export interface EncryptionView {
  readonly peers: readonly { readonly at: Ip; readonly cipher: 'AES-GCM' | 'AES-CBC' }[];
  /** When the next keys come by themselves. */
  readonly until?: string;
}

/** What other hosts have of a network; known while this one has endpoints on it. */
export interface RemotesView {
  /** By which its hosts know it for the same. */
  readonly name: string;
  /** One for each segment. */
  readonly numbers: readonly number[];
  readonly hosts: readonly {
    readonly id: string;
    readonly name: string;
    readonly at: Ip;
    readonly details: Readonly<Record<string, string>>;
  }[];
  readonly endpoints: readonly {
    readonly id: string;
    readonly host: string;
    readonly at: Ip;
    readonly mac: Mac;
    readonly addresses: readonly Prefix[];
    readonly names: readonly string[];
  }[];
}

export interface NetworkView extends NetworkSummary {
  readonly remotes?: RemotesView;
  /** Of an encrypted network that this host has endpoints on. */
  readonly encryption?: EncryptionView;
  readonly presence?: PresenceView;
  readonly options: Readonly<Record<string, string>>;
  readonly enableIpv4: boolean;
  readonly enableIpv6: boolean;
  /** What the driver says of it, for people: names and values, for example its VLAN. */
  readonly fields?: readonly (readonly [name: string, value: string])[];
  /** What may keep it from working although all is as it was asked for. */
  readonly warnings?: readonly string[];
  readonly bridge?: LinkView;
  readonly bridgeName?: string;
  /** Absent: `bridge` is the network's own. */
  readonly role?: 'parent';
  readonly rules: readonly RuleView[];
  readonly members: readonly EndpointView[];
  readonly differences: readonly DifferenceView[];
}

/** What `cnm network check` found; nothing where the network's driver has no test. */
export interface CheckView {
  readonly network: Named;
  readonly findings: readonly FindingOfCheck[];
}

export interface FindingOfCheck {
  readonly what: string;
  readonly result: 'ok' | 'warning' | 'failed' | 'unknown';
  readonly detail: string;
}

export interface CheckRequest {
  /** Further addresses to ask for. */
  readonly ask: readonly Ip[];
}

export interface SandboxSummary extends Named {
  readonly name: string;
  readonly state: State;
  readonly createdAt: string;
  readonly path: string;
  readonly endpoints: readonly EndpointSummary[];
}

export interface SandboxView extends Named {
  readonly name: string;
  readonly state: State;
  readonly createdAt: string;
  readonly path: string;
  /** False when the namespace file is not a namespace (any more). */
  readonly exists: boolean;
  readonly members: readonly EndpointView[];
  readonly differences: readonly DifferenceView[];
}

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

/** GET /v1/dns. Servers and upstreams only where no network was asked for. */
export interface DnsView {
  readonly names: readonly NameView[];
  /** Where the resolver is to be asked. */
  readonly servers: readonly DoorView[];
  readonly upstreams: readonly UpstreamView[];
}

/** Body of POST /v1/dns/query. */
export interface DnsQueryRequest {
  readonly name: string;
  readonly type: string;
  /** Sandbox or container; absent: the host. */
  readonly from?: string | undefined;
}

/** What the test of the ways to the other hosts finds. */
export type { CheckReport as OverlayCheckView } from '../drivers/overlay/check/report.ts';
export type { Finding as CheckFinding } from '../drivers/overlay/check/findings.ts';

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
