/**
 * The driver contract. A driver is pure: it turns what is wanted, plus facts about the host, into plans. It acts on
 * nothing, remembers nothing, imports no other driver and of `kernel/` only types. Deletes, rollback, restart, repair and
 * `cnm doctor` need no driver code: they follow from the stored plans.
 */
import type { Ip } from '../address/ip.ts';
import type { Mac } from '../address/mac.ts';
import type { Facts } from '../kernel/facts.ts';
import type { Asker, NeighbourSaying } from '../kernel/kernel.ts';
import type { Mark, Plan, XfrmStateAdd } from '../kernel/step.ts';
import type { Sharing } from './control.ts';
import type { LeaseRequest } from './leases.ts';
import type {
  EndpointSpec,
  JoinInfo,
  NetworkRecord,
  NetworkSpec,
  NetworkWithPresence,
  PlannedNetwork,
  PortBinding,
  PublishedPort,
} from './model.ts';

/** The sysctl by which a host is without IPv6; `Driver.network` finds it in the facts. */
export const IPV6_DISABLED = 'net.ipv6.conf.all.disable_ipv6';

/** What the daemon was told about the host it runs on. */
export interface HostSettings {
  /** Where namespaces of ours live; a plan's `netns.add` names a file in it. */
  readonly netnsDir: string;
  /** The address by which other hosts reach this one (`--advertise`). */
  readonly advertise?: Ip;
  /** The nodes of the swarm that this host is in, its own address among them, as Docker tells of them; absent = none was told of. */
  readonly nodes?: readonly Ip[];
  /** The hosts that have endpoints on the network which is planned, by the records of the cluster; absent where there are none. */
  readonly remotes?: readonly Ip[];
  /** What networks are encrypted with; absent: they cannot be. Read anew for each plan, for it changes with time. */
  readonly encryption?: Encryption | undefined;
}

/**
 * What the hosts of encrypted networks share. The keys of each pair of hosts follow from a secret and the number of a period, so that a host
 * can have the keys of the next period before anybody sends with them.
 */
export interface Encryption {
  /** The first is sent with, all are received. */
  readonly secrets: readonly string[];
  /** The period that it is, and the one whose keys are sent with. */
  readonly period: number;
  readonly sending: number;
  /** How long a period is, in milliseconds. */
  readonly lasts: number;
  /** States (stateName) that were sent with and are no more: their keys must not be sent with again. Absent = none. */
  readonly spent?: ReadonlySet<string>;
}

/** By which a state is told from others (RFC 4301 section 4.1). */
export function stateName({ src, dst, spi }: Pick<XfrmStateAdd, 'src' | 'dst' | 'spi'>): string {
  return `${src} ${dst} ${spi}`;
}

/**
 * The mark of a link that several networks may need, for example a VLAN interface: each one's plan makes it, in exactly the same words, and
 * it goes with the last network whose plan has it (shared.ts).
 */
export const SHARED: Mark = { network: 'shared' };

export interface Driver {
  /** The name that users give to `docker network create -d`. */
  readonly name: string;
  readonly scope: 'local' | 'global';
  readonly connectivityScope: 'local' | 'global';

  /**
   * The plan of a network. Must check everything that can be wrong before anything is changed: options, subnets, and
   * conflicts with `others` (all networks of all our drivers) and with the facts.
   * Must be deterministic: the same arguments give the same plan.
   * @throws CnmError `option-invalid`, `address-invalid` or `network-conflict`, naming the value and what would be right.
   */
  network(spec: NetworkSpec, facts: Facts, others: readonly NetworkRecord[]): Plan;

  /**
   * What this host holds of the network for its endpoints: made before the first and removed after the last, so that a host where
   * nothing runs holds nothing. Planned from the facts of that moment, and once when the network is created, so that what cannot be is
   * said then. Absent = all of a network is in its own plan.
   * @throws CnmError `option-invalid`, `address-invalid` or `network-conflict`.
   */
  presence?(network: NetworkSpec, facts: Facts, host: HostSettings): Plan;

  /**
   * The presence of a network as it is to be now that `host` has changed, made from the present one alone: it may differ in steps that can be
   * made and undone under running endpoints, and in no others. It has the keys of `host.encryption`. Absent = a presence stays as it is. Never throws.
   */
  follow?(network: NetworkWithPresence, host: HostSettings): Plan;

  /**
   * How large a packet may be now on the links of a network that has a presence, in bytes, by what the network below takes; `others`: hosts that
   * the control plane tells of. All links whose steps have an MTU, in the presence and of its endpoints, get it (resize.ts). Undefined: they
   * stay as they are, and so always where the driver has none of this. Pure, never throws.
   */
  mtu?(
    network: NetworkWithPresence,
    facts: Facts,
    host: HostSettings,
    others: readonly Ip[],
  ): number | undefined;

  /**
   * The options of a network of a swarm, with what must be the same on all nodes chosen, on the manager, for all of them. Given back to it in
   * a later call, its answer is the answer. `taken`: what was chosen for other networks. Absent = a network's options are enough.
   * @throws CnmError `option-invalid`, `address-invalid` or `network-conflict`.
   */
  allocate?(
    network: NetworkSpec,
    taken: readonly Pick<NetworkSpec, 'id' | 'name' | 'driver' | 'options'>[],
  ): Readonly<Record<string, string>>;

  /** What `join` has to know of the host as it is when the network is planned; stored with the network. Pure, never throws what `network` let pass. */
  found?(spec: NetworkSpec, facts: Facts): Readonly<Record<string, string>>;

  /** Whether its endpoints' IPv4 addresses come from a DHCP server on the wire, and not from an IPAM; absent = no. @throws CnmError `option-invalid` */
  leases?(network: Pick<NetworkSpec, 'options'>): boolean;

  /** Of an endpoint of such a network: asked before it is planned. Pure. @throws CnmError `option-invalid` */
  leaseRequest?(network: NetworkSpec, endpoint: EndpointSpec & { readonly mac: Mac }): LeaseRequest;

  /** Which families need no gateway address unless the user names one; absent = none: each subnet gets one. Pure, never throws. */
  gatewaySkip?(network: Pick<NetworkSpec, 'options' | 'internal'>): GatewaySkip;

  /** The MAC address of an endpoint whose MAC nobody chose: unicast, locally administered, the same for the same arguments. */
  mac(network: NetworkSpec, endpoint: EndpointSpec): Mac;

  /**
   * The plan of an endpoint, made in the daemon's namespace. Must not rely on facts (it is on the hot path), must not
   * touch a sandbox. After it is applied, the link that `join` names exists. The network has its presence, where the driver has one.
   * @throws CnmError `option-invalid` or `address-invalid`.
   */
  endpoint(network: NetworkWithPresence, endpoint: EndpointSpec & { readonly mac: Mac }): Plan;

  /** Which link goes into the sandbox, and what it needs there. Must have no kernel work of its own. */
  join(network: PlannedNetwork, endpoint: EndpointSpec): JoinInfo;

  /** What inspection shows of a network besides its record, from what the kernel holds now. Pure. */
  appearance?(network: NetworkSpec, facts: Facts): Appearance;

  /**
   * The network's self-test (`cnm network check`): what the facts say, and what to ask the wire. `targets`: addresses that the user names.
   * Absent = there is nothing to test. Pure.
   */
  check?(network: NetworkSpec, facts: Facts, host: HostSettings, targets: readonly Ip[]): Check;

  /** Published ports. Absent = the driver publishes none, and a request with ports is refused. */
  readonly publishing?: Publishing;

  /** Networks that several hosts have together. Absent = each network is one host's. */
  readonly sharing?: Sharing;
}

export interface Check {
  readonly findings: readonly Finding[];
  readonly questions?: Questions;
}

export interface Finding {
  /** The subject, in a word. */
  readonly what: string;
  /** `unknown`: it could not be told. */
  readonly result: 'ok' | 'warning' | 'failed' | 'unknown';
  /** A sentence for people. */
  readonly detail: string;
}

export interface Questions {
  /** What the askers need; undone when they have their answers. It takes nothing from anybody. */
  readonly plan: Plan;
  readonly askers: readonly Asker[];
  readonly addresses: readonly Ip[];
  /** What it means that this was heard. Pure. */
  judge(heard: readonly NeighbourSaying[]): readonly Finding[];
}

export interface Appearance {
  /** The link of the host's that its endpoints are on. */
  readonly device: string;
  /** Names and values for people, for example its VLAN. */
  readonly fields: readonly (readonly [name: string, value: string])[];
  /** What may keep it from working although all is as it was asked for, in sentences. */
  readonly warnings: readonly string[];
}

export type GatewaySkip = Readonly<Record<4 | 6, boolean>>;

export interface Publishing {
  /**
   * Which host addresses each binding takes, and to which container address it goes; none when the binding needs no port of the
   * host (a routed network). Pure.
   * @throws CnmError `option-invalid` for a host address that cannot be served.
   */
  requests(
    network: NetworkWithPresence,
    endpoint: EndpointSpec,
    ports: readonly PortBinding[],
  ): readonly PublishRequest[];

  /** The plan that publishes ports whose numbers have been chosen. Its inverse unpublishes them. Pure. */
  plan(network: NetworkRecord, published: readonly PublishedPort[]): Plan;
}

/** One container port on one or more host addresses, which all get the same port number out of `from`..`to` (0..0: an ephemeral one). */
export interface PublishRequest {
  readonly proto: number;
  readonly port: number;
  readonly targets: readonly Pick<PublishedPort, 'ip' | 'via' | 'hostIp'>[];
  readonly from: number;
  readonly to: number;
}
