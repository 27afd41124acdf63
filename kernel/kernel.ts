/** The one place that acts. Everything else hands it plans and reads facts; `fake.ts` is its double for tests. */
import type { Ip } from '../address/ip.ts';
import type { Mac } from '../address/mac.ts';
import type { EntryStep } from './entry.ts';
import type { Facts } from './facts.ts';
import type { NeighbourFrame } from './neighbour-question.ts';
import type { NetnsPath, Plan, Step } from './step.ts';

/** A change in the kernel that nobody here asked for: who listens looks at the facts again. */
export interface KernelChange {
  /** `routes`: those of the daemon's namespace, of which there may be many, and none of ours; `resync`: anything. */
  readonly what: 'links' | 'routes' | 'firewall' | 'resync';
}

export interface SocketAddress {
  readonly proto: 'tcp' | 'udp';
  readonly address: Ip;
  readonly port: number;
}

/** As `node:dgram` gives it. */
export interface Datagram {
  readonly message: Buffer;
  readonly address: string;
  readonly port: number;
}

/**
 * A datagram that has come in. `answer` may be called once, before this returns; what it is given is copied, and goes out with the
 * others'. Beyond 4096 bytes, or when there is no room to send, it is lost, as any datagram may be.
 */
export type OnDatagram = (
  message: Buffer,
  address: Ip,
  port: number,
  answer: (reply: Uint8Array) => void,
) => void;

/** Who asks for an address: by which link, and in whose name. */
export interface Asker {
  /** Absent: the daemon's. */
  readonly netns?: NetnsPath;
  readonly link: string;
  readonly mac: Mac;
}

/** What an asker's link has seen go by. */
export interface NeighbourSaying extends NeighbourFrame {
  readonly by: string;
  /** It left by this link: sent by the asker, or by a link on that one. */
  readonly outgoing: boolean;
}

export interface ProbeSocketOptions {
  readonly kind: 'icmp' | 'udp';
  /** By which it sends, and at which it hears. */
  readonly address: Ip;
  /** Of udp; absent: any that is free. */
  readonly port?: number;
  /** It only sends. */
  readonly deaf?: true;
  /** Absent: the daemon's. */
  readonly netns?: NetnsPath;
}

/** It never waits. Its UDP datagrams are not cut on their way (DF), whatever the kernel knows of the way. */
export interface ProbeSocket {
  /** All that has come in; of ICMP without the IP header. */
  drain(onMessage: (message: Buffer, from: Ip) => void): void;
  /** Lost when there is no room. @throws KernelError with what the kernel refuses it for: EMSGSIZE, EPERM (a firewall), ENETUNREACH */
  send(message: Uint8Array, to: Ip, port?: number): void;
  close(): void;
}

/** Where a checksum stands that a device is to finish: from `start` of the frame on, into the two bytes `offset` behind that. */
export interface PartialChecksum {
  readonly start: number;
  readonly offset: number;
}

/** UDP over IPv4 as it is on an Ethernet. */
export interface FramedDatagram {
  readonly from: FrameAddress;
  readonly to: FrameAddress;
  readonly payload: Uint8Array;
}

export interface FrameAddress {
  readonly mac: Mac;
  readonly address: Ip;
  readonly port: number;
}

/** Datagrams on a link beside the host's own addresses: see link-tap.ts. Nothing waits. */
export interface LinkTap {
  /**
   * Lets a NIC that takes in no more than it must take in frames for this MAC, too, until the tap is closed. What is for all it takes in
   * anyway. A link that takes no more of them: nothing.
   */
  admit(mac: Mac): void;
  /** False: the link is down or gone, or there is no room. */
  send(datagram: FramedDatagram): boolean;
  /** The next one that has come in; undefined when there is none. */
  receive(): FramedDatagram | undefined;
  close(): void;
}

export interface Kernel {
  /**
   * Apply a plan in order, in as few system calls as it allows. Idempotent: a step that is already satisfied by an object
   * of ours (same mark) is success; the same name held by a stranger is EEXIST.
   * @throws KernelError at the first step that fails, after undoing the ones before it that this call did.
   */
  apply(plan: Plan): Promise<void>;
  /**
   * Undo a plan, last step first. What is already gone is success; objects with another's mark are left alone.
   * Goes on after a failure and throws the first one at the end, so that one bad step does not keep the rest alive.
   */
  revert(plan: Plan): Promise<void>;
  /**
   * One dump of the daemon's namespace, of the namespaces and sysctls that `plans` name, and of the further namespaces
   * in `netns` (for example a container's, for inspection).
   */
  facts(query?: FactsQuery): Promise<Facts>;
  /** A sysctl of the daemon's namespace, by its name with dots; undefined where there is none. */
  sysctl(key: string): string | undefined;
  /** Which steps the facts do not bear out. Pure; here so that a fake and the real one share it. */
  missing(plan: Plan, facts: Facts): readonly Step[];
  /**
   * Remove what bears our mark and is named: links by name, namespace files by path, set elements, accept rules.
   * For orphans that reconcile found. Re-reads the mark before it deletes a link.
   */
  remove(orphan: Orphan): Promise<void>;
  /** Call `listener` after changes made by others (debounced); returns the way to stop. Overruns become 'resync'. */
  watch(listener: (change: KernelChange) => void): () => void;
  /**
   * Sockets bound in a namespace (absent: the daemon's), as descriptors that are the caller's from now on. All or none. They do not
   * listen yet.
   * @throws KernelError ENOENT when the namespace is gone, EADDRINUSE naming the holder where it can be told, EADDRNOTAVAIL
   */
  bindSockets(sockets: readonly SocketAddress[], netns?: NetnsPath): readonly number[];
  /**
   * Hands over what waits at a bound UDP socket of IPv4, a few hundred at most, and never waits; sends the answers. `first`: what was read of
   * it already, to be handled and answered together with the rest.
   */
  drainDatagrams(fd: number, onDatagram: OnDatagram, first?: Datagram): void;
  /**
   * Each asker asks who has these addresses, a few times within `patience` ms, until each has an answer to its own MAC. All that their links have
   * seen about these addresses meanwhile.
   * @throws KernelError ENODEV or ENETDOWN for a link that is not there or down, EPERM without CAP_NET_RAW
   */
  askNeighbours(
    askers: readonly Asker[],
    addresses: readonly Ip[],
    patience: number,
  ): Promise<readonly NeighbourSaying[]>;
  /** For tests of the way to other hosts. @throws KernelError ENOENT when the namespace is gone, EADDRINUSE, EADDRNOTAVAIL, EPERM */
  probeSocket(options: ProbeSocketOptions): ProbeSocket;
  /** A frame that leaves by `link` as TCP's do, the checksum still to be computed. Lost where the link is down. @throws KernelError ENODEV */
  sendUnfinished(netns: NetnsPath, link: string, frame: Uint8Array, checksum: PartialChecksum): void;
  /**
   * Datagrams for a UDP port, of whatever address, that come in on a link of the daemon's namespace; it hears them as long as it is open.
   * @throws KernelError ENODEV when there is no such link, EPERM without CAP_NET_RAW
   */
  tapLink(link: string, port: number): LinkTap;
  /** Load our nftables table if it is absent, of another version or damaged, in one transaction; its elements stay. */
  prepare(): Promise<void>;
  /**
   * What published container ports have let in since the table was loaded, by `address . protocol . port` as in the sets open4
   * and open6. Empty when the table is not there. For people: never part of the facts, which must not change with traffic.
   */
  counters(): ReadonlyMap<string, PacketCount>;
  /** Of each tunnel endpoint in user space that runs, by vtepName(). For people. */
  vtepCounters(): Promise<ReadonlyMap<string, VtepCounters>>;
  /** Our table in nft's own words, with its elements. @throws KernelError when it is not there. */
  ruleset(): Promise<string>;
  close(): Promise<void>;
}

/** Datagrams since it began: `sent`, `delivered`, and dropped by reason. */
export type VtepCounters = Readonly<Record<string, number>>;

export interface PacketCount {
  readonly packets: number;
  /** With the IP header, without that of Ethernet. */
  readonly bytes: number;
}

export interface FactsQuery {
  readonly plans?: readonly Plan[];
  readonly netns?: readonly NetnsPath[];
  /** Sysctls of the daemon's namespace besides those that the plans name. */
  readonly sysctls?: readonly string[];
  /** False = leave out elements, ruleset and accept rules (each costs a process): what planning a network needs. Default true. */
  readonly firewall?: boolean;
  /** False = leave out the entries of tunnels, bridges and neighbours, of which there may be tens of thousands. Default true. */
  readonly entries?: boolean;
}

/** Something that bears our mark and that no plan accounts for. */
export type Orphan =
  | { readonly kind: 'link'; readonly name: string; readonly netns?: NetnsPath }
  | { readonly kind: 'netns'; readonly path: NetnsPath }
  | { readonly kind: 'element'; readonly step: Extract<Step, { do: 'nft.element' }> }
  | { readonly kind: 'accept'; readonly bridge: string; readonly network: string }
  | { readonly kind: 'entry'; readonly step: EntryStep };

/**
 * An error of the kernel as data: what we did, the errno by name, and the kernel's own words
 * (NLMSGERR_ATTR_MSG of extended acknowledgements, or the tool's message).
 */
export class KernelError extends Error {
  override readonly name = 'KernelError';
  readonly operation: string;
  readonly errno: string;
  readonly detail: string;
  constructor(operation: string, errno: string, detail = '') {
    super(`${operation}: ${errno}${detail === '' ? '' : ` (${detail})`}`);
    this.operation = operation;
    this.errno = errno;
    this.detail = detail;
  }
}
