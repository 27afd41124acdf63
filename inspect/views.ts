/**
 * What the admin API answers, as types only: the daemon builds these and `cnm` prints them, so that the command needs
 * neither the schemas nor the server to start. Addresses are canonical text, times ISO 8601, MTU in bytes.
 */
import type { Ip } from '../address/ip.ts';
import type { Mac } from '../address/mac.ts';
import type { Prefix } from '../address/prefix.ts';
import type { Origin, State } from '../cnm/model.ts';
import type { VxlanFact } from '../kernel/facts.ts';
import type { VtepCounters } from '../kernel/kernel.ts';
import type { EndpointLease } from './lease.ts';
import type { DifferenceView } from './views/doctor.ts';
import type { PortView, RuleView } from './views/firewall.ts';
import type { LinkView, Named } from './views/named.ts';
import type { PublishedView } from './views/published.ts';

export type * from './views/dns.ts';
export type * from './views/doctor.ts';
export type * from './views/firewall.ts';
export type * from './views/ipam.ts';
export type * from './views/named.ts';
export type * from './views/overlay.ts';
export type * from './views/published.ts';
export type * from './views/requests.ts';

export interface ErrorView {
  readonly error: { readonly code: string; readonly message: string };
}

export interface VersionView {
  readonly version: string;
  readonly node: string;
  readonly runDir: string;
  readonly drivers: readonly string[];
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

export interface SubnetView {
  readonly pool: Prefix;
  readonly gateway?: Prefix;
  /** `--ip-range`, known for networks whose addresses come from our IPAM. */
  readonly range?: Prefix;
  readonly aux: Readonly<Record<string, Prefix>>;
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
