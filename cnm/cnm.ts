/** The operations of the Container Network Model: what Docker's protocol, the admin API and the tests call. */
import type { Ip } from '../address/ip.ts';
import type { Mac } from '../address/mac.ts';
import type { Prefix } from '../address/prefix.ts';
import type { Orphan } from '../kernel/kernel.ts';
import type { Plan, Step } from '../kernel/step.ts';
import type { Remote } from './control.ts';
import type { Driver, Finding } from './driver.ts';
import type { Leased } from './leases.ts';
import type {
  EndpointId,
  EndpointRecord,
  EndpointSpec,
  JoinInfo,
  NetworkId,
  NetworkRecord,
  NetworkSpec,
  PortBinding,
  SandboxDns,
  SandboxId,
  SandboxRecord,
} from './model.ts';
import type { Introduction } from './reached.ts';
import type { Allocation, SwarmNode } from './swarm.ts';

/** Only what the caller left empty. */
export interface EndpointAnswer {
  readonly mac?: Mac;
  readonly address?: Prefix;
}

/**
 * Every operation is idempotent: the same request again is success with the same answer; a delete or leave of something
 * unknown is success. A network is created and deleted alone; its endpoints run side by side, the operations of one endpoint one
 * after another.
 * All throw CnmError.
 */
export interface Cnm {
  readonly drivers: readonly Driver[];

  createNetwork(spec: NetworkSpec): Promise<void>;
  /** @throws `network-busy` while it has endpoints that are joined to a sandbox of ours. Docker's deletes always succeed. */
  deleteNetwork(id: NetworkId): Promise<void>;
  createEndpoint(spec: EndpointSpec): Promise<EndpointAnswer>;
  deleteEndpoint(network: NetworkId, endpoint: EndpointId): Promise<void>;
  /** A DHCP server gives an endpoint in use another address. Of one that is gone: nothing. */
  readdress(network: NetworkId, endpoint: EndpointId, leased: Leased): Promise<void>;
  /** Docker's Join: answers what to move; Docker moves it. */
  join(network: NetworkId, endpoint: EndpointId, sandboxKey: string): Promise<JoinInfo>;
  leave(network: NetworkId, endpoint: EndpointId): Promise<void>;
  programExternalConnectivity(
    network: NetworkId,
    endpoint: EndpointId,
    ports: readonly PortBinding[],
  ): Promise<void>;
  revokeExternalConnectivity(network: NetworkId, endpoint: EndpointId): Promise<void>;

  /** Standalone: a sandbox of ours. */
  createSandbox(name: string, dns?: SandboxDns): Promise<SandboxRecord>;
  deleteSandbox(sandbox: string): Promise<void>;
  /** Creates the endpoint too, with addresses given by the caller (from IPAM), and fills the sandbox. */
  joinSandbox(sandbox: string, endpoint: EndpointSpec): Promise<EndpointRecord>;
  leaveSandbox(sandbox: string, network: NetworkId): Promise<EndpointRecord | undefined>;

  /** For a swarm's manager: the options that the network is to have on all nodes. Stored; the same request has the same answer. */
  allocateNetwork(spec: NetworkSpec): Promise<Readonly<Record<string, string>>>;
  freeNetwork(id: NetworkId): Promise<void>;
  /** A node of the swarm has come, or has gone: networks that are on its nodes follow. */
  addNode(node: SwarmNode): Promise<void>;
  removeNode(address: Ip): Promise<void>;
  /** Brings networks that follow their hosts, and the ways to them, to what they are to be now: at the start, what a crash cut off. */
  followHosts(): Promise<void>;
  nodes(): readonly SwarmNode[];
  allocations(): readonly Allocation[];

  networks(): readonly NetworkRecord[];
  network(id: NetworkId): NetworkRecord | undefined;
  endpoints(network?: NetworkId): readonly EndpointRecord[];
  endpoint(network: NetworkId, id: EndpointId): EndpointRecord | undefined;
  sandboxes(): readonly SandboxRecord[];
  /** Call `listener` after each change of a record, when it is durable; returns the way to stop. The listener must not throw. */
  watch(listener: (change: RecordChange) => void): () => void;

  /** Other hosts that have endpoints on the network, and these; as far as this host has endpoints on it too. */
  remotes(network: NetworkId): readonly Remote[];
  remote(network: NetworkId, id: string): Remote | undefined;
  /** As ControlPlane.forget; false without one. */
  forgetHost(host: string): Promise<boolean>;
  /** What an endpoint of this host is called, for the other hosts. Returns at once; on networks of this host alone it does nothing. */
  introduce(network: NetworkId, endpoint: EndpointId, introduction: Introduction): void;

  /** What differs between the store and the kernel. Changes nothing. */
  drift(): Promise<Drift>;
  /** Repair what is ours, remove orphans that bear our mark, touch nothing else. */
  reconcile(options?: {
    readonly removeOrphans: boolean;
    /** False = leave the host's forwarding to dockerd, for networks of Docker's (see reconcile.ts). Default true. */
    readonly forwarding?: boolean;
  }): Promise<ReconcileReport>;
  /** As reconcile, of links, addresses and routes alone: cheap enough to follow every change of a link. */
  repairLinks(): Promise<ReconcileReport>;
  /**
   * Brings the keys of encrypted networks up to the settings of now: those that are new are added; those that are no longer wanted go only
   * with `retire`, some time later, when what was sent with them has arrived. How many networks changed; throws when one of them could not,
   * which keeps those that it has.
   */
  renewKeys(retire: boolean): Promise<number>;
  /** The network's self-test, which sends frames; `targets`: addresses to ask for besides. None where its driver has no test. */
  checkNetwork(id: NetworkId, targets: readonly Ip[]): Promise<readonly Finding[]>;
  /** The plan that createNetwork would apply, with nothing stored or applied. */
  dryRun(spec: NetworkSpec): Promise<Plan>;
  /** Waits for what is under way and refuses what comes after. Touches nothing in the kernel. */
  close(): Promise<void>;
}

/** Which record is another now, or gone. */
export type RecordChange =
  | { readonly what: 'network'; readonly id: NetworkId }
  | { readonly what: 'endpoint'; readonly network: NetworkId; readonly id: EndpointId }
  | { readonly what: 'sandbox'; readonly id: SandboxId }
  /** A host or an endpoint of another host, on a network of this one's. */
  | { readonly what: 'remote'; readonly network: NetworkId; readonly id: string };

export interface Difference {
  readonly object: 'network' | 'endpoint' | 'sandbox';
  readonly network?: NetworkId;
  readonly id: string;
  readonly missing: readonly Step[];
  /** False for what nobody can put back: a veth inside a Docker sandbox that is gone; or not yet (`awaits`). */
  readonly repairable: boolean;
  /** The interface of somebody else's that has to come back first. */
  readonly awaits?: string;
}

export interface Drift {
  readonly differences: readonly Difference[];
  readonly orphans: readonly Orphan[];
  readonly rulesetCurrent: boolean;
}

export interface ReconcileReport {
  /** Records undone (`applying`) or finished (`removing`) because a crash had cut them off. */
  readonly undone: readonly string[];
  readonly finished: readonly string[];
  readonly repaired: readonly Difference[];
  readonly removed: readonly Orphan[];
  /** What could not be put right, in words. */
  readonly failed: readonly string[];
}

/** What Docker says exists now; asked asynchronously, never waited for inside a handler (but a moment, for the words of an error). */
export interface EngineView {
  /** Networks of our drivers that the Engine knows, with the endpoints it lists on each; undefined = it did not answer. */
  networks(): Promise<readonly EngineNetwork[] | undefined>;
}

export interface EngineNetwork {
  readonly id: NetworkId;
  readonly name: string;
  readonly driver: string;
  readonly endpoints: readonly {
    readonly id: EndpointId;
    readonly container: string;
    readonly ipv4?: Ip;
    readonly ipv6?: Ip;
  }[];
  /** Its subnets, whoever its IPAM driver is, with the auxiliary addresses that it reserves; absent = not known. */
  readonly subnets?: readonly { readonly pool: Prefix; readonly aux: readonly Ip[] }[];
  /** The nodes of the swarm that are on it, this one among them. */
  readonly peers?: readonly Ip[];
  /** The one that all nodes of a swarm are on. */
  readonly ingress?: boolean;
}

/** Names of containers and networks, followed as they change. */
export interface EngineNames {
  /** Everything first, and again whenever the connection was lost; then what changes. Returns the way to stop. */
  follow(listener: (news: EngineNews) => void): () => void;
}

export type EngineNews =
  | {
      readonly what: 'all';
      readonly networks: readonly { readonly id: NetworkId; readonly name: string }[];
      readonly containers: readonly EngineContainer[];
    }
  | { readonly what: 'network'; readonly id: NetworkId; readonly name: string }
  | { readonly what: 'container'; readonly container: EngineContainer }
  /** It has been told to end, or has ended. */
  | { readonly what: 'stopping'; readonly id: string }
  /** `removed`: it will not come back. */
  | { readonly what: 'gone'; readonly id: string; readonly removed?: boolean };

export interface EngineContainer {
  readonly id: string;
  readonly name: string;
  readonly hostname: string;
  readonly endpoints: readonly {
    readonly id: EndpointId;
    readonly network: NetworkId;
    readonly aliases: readonly string[];
  }[];
  /** Exposed and published: `80/tcp`. */
  readonly ports: readonly string[];
}
