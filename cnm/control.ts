/**
 * Networks that several hosts have together, by records that they share. A driver says what must be equal on all of them, and what a host
 * holds for another host or for an endpoint there (`Driver.sharing`). A control plane carries that from host to host: cluster/ does it
 * through etcd. (A network whose hosts are listed in its options, and that learns where endpoints are, needs none.)
 */
import type { Ip } from '../address/ip.ts';
import type { Mac } from '../address/mac.ts';
import type { Prefix } from '../address/prefix.ts';
import type { Plan } from '../kernel/step.ts';
import type { EndpointId, NetworkSpec, NetworkWithPresence } from './model.ts';

/** What of a network its hosts have to agree on. */
export interface Terms {
  /** By which its hosts know it for the same: a name that a person gave, or else its subnets. */
  readonly name: string;
  /** What must be equal on every host, by names and values for people. */
  readonly equal: Readonly<Record<string, string>>;
  readonly subnets: readonly Prefix[];
  /** Numbers that no other network of the hosts may have (VNIs): so many, or these. */
  readonly numbers: { readonly count: number; readonly given?: readonly number[] };
}

/** What they have agreed on; stored with the network. */
export interface Agreement {
  /** `ControlPlane.name`. */
  readonly plane: string;
  /** The network's, for the plane. */
  readonly id: string;
  /** As in Terms. */
  readonly name: string;
  readonly numbers: readonly number[];
  /** Its subnets of which no address is given on two hosts. */
  readonly shared: readonly Prefix[];
}

/** This host on a network, as the others have to know it. */
export interface Place {
  /** Where the others send to. */
  readonly at: Ip;
  /** For people: what it is built of here (`vtep`, `mtu`). */
  readonly details: Readonly<Record<string, string>>;
}

/** Another host that has endpoints on the network. */
export interface RemoteHost extends Place {
  readonly kind: 'host';
  readonly id: string;
  /** For people. */
  readonly name: string;
}

/** An endpoint of another host. */
export interface RemoteEndpoint {
  readonly kind: 'endpoint';
  readonly id: EndpointId;
  /** As in RemoteHost. */
  readonly host: string;
  readonly at: Ip;
  readonly mac: Mac;
  readonly addresses: readonly Prefix[];
  /** Of two that say to have one address or MAC, the greater one is the newer. */
  readonly generation: number;
  readonly names: readonly string[];
  /** `80/tcp`, published or exposed. */
  readonly ports: readonly string[];
}

export type Remote = RemoteHost | RemoteEndpoint;

/** An endpoint of this host, as the others are told of it. */
export type OwnEndpoint = Omit<RemoteEndpoint, 'kind' | 'host' | 'at'>;

/**
 * What a daemon before this one was told last, and may be old; all that there is, in the place of what was known; or what has changed. Ids
 * of `gone` are those of hosts or endpoints.
 */
export type RemoteNews =
  | { readonly what: 'remembered'; readonly remotes: readonly Remote[] }
  | { readonly what: 'all'; readonly remotes: readonly Remote[] }
  | { readonly what: 'changes'; readonly put: readonly Remote[]; readonly gone: readonly string[] };

export interface ControlPlane {
  readonly name: string;
  /**
   * What the network's hosts have agreed on, this one with them from now on (`join`); with `look`, what they would agree on, and nothing
   * is changed. Idempotent. May take as long as a store far away does.
   * @throws CnmError `network-conflict`, showing both, when it is another one there; `cluster-unreachable`.
   */
  agree(terms: Terms, how: 'join' | 'look'): Promise<Agreement>;
  /** This host does not have the network any more. Returns at once; what cannot be told now is told later. */
  leave(agreement: Agreement): void;
  /**
   * This host has endpoints on the network from now on: it is told of the others', until the session is closed. `listener` is called at
   * any time, also before this returns, with `all` first, or `remembered` and then `all`; it must not throw.
   */
  enter(agreement: Agreement, place: Place, listener: (news: RemoteNews) => void): Session;
  /** This host has no endpoints on the network any more, and did not enter it since it runs: a daemon before this one had. Returns at once. */
  quit(agreement: Agreement): void;
  /** A number that is greater than that of any endpoint which this host has heard of. */
  generation(): number;
  /**
   * A host that is gone for good has no networks any more.
   * @returns whether it had any
   * @throws CnmError `request-invalid` while it is there; `cluster-unreachable`.
   */
  forget(host: string): Promise<boolean>;
  close(): Promise<void>;
}

/** This host on one network. Each returns at once. */
export interface Session {
  put(endpoint: OwnEndpoint): void;
  drop(endpoint: EndpointId): void;
  /** What it is built of here is another now; where it is stays. */
  describe(details: Place['details']): void;
  /** `left`: its last endpoint has gone, and the others are told; else the daemon stops, and its containers stay. */
  close(left: boolean): void;
}

/** The part of a driver whose networks hosts have together. All pure. */
export interface Sharing {
  /** Undefined: its hosts need no records. @throws CnmError `option-invalid` or `address-invalid`. */
  terms(network: NetworkSpec): Terms | undefined;
  /** Names of options that were given for this host alone: another host cannot have the network with them. */
  ownOptions(network: Pick<NetworkSpec, 'options'>): readonly string[];
  /** From what was planned for this host (`Driver.presence`). */
  place(network: NetworkWithPresence): Place;
  /**
   * What a host with this presence holds for a remote host, or endpoint: steps of entries alone (`EntryStep`). Also asked about endpoints
   * of its own, whose entries nobody else's may have.
   */
  remote(network: NetworkWithPresence, remote: Remote): Plan;
}
