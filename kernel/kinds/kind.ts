/** What every kind of step has: `apply`, `inverse` and `satisfied`. The first two are pure as well: they say what to do, as operations. */
import type { Prefix } from '../../address/prefix.ts';
import type { Facts, NetnsFacts } from '../facts.ts';
import type { NetlinkRequest, NetlinkSocket } from '../netlink.ts';
import type { KernelLink } from '../decode.ts';
import type { Ports } from '../ports.ts';
import type { LinkChange } from '../rtnetlink.ts';
import type {
  EncryptedGuard,
  FdbAdd,
  ForwardAccept,
  NeighbourProbe,
  NetnsPath,
  NftElement,
  Step,
  UplinkTranslate,
  VtepRun,
} from '../step.ts';

export interface Kind<S extends Step> {
  /** The links that `apply` and `inverse` want to know: they are looked up before either is called. */
  looks(step: S): readonly Place[];
  /**
   * What is still to be done for the step to hold; nothing when it does.
   * @throws KernelError when what was looked up forbids it: EEXIST for a stranger's object, ENODEV for a link that is not there.
   */
  apply(step: S, view: View): readonly Operation[];
  /** What undoes the step, from the step alone; nothing when it is gone or another's. */
  inverse(step: S, view: View): readonly Operation[];
  satisfied(step: S, facts: Facts): boolean;
}

/** A link by the name that it has in a namespace; `netns` absent: the daemon's. */
export interface Place {
  readonly netns: NetnsPath | undefined;
  readonly name: string;
  /** It is to be made if it is not there: an index for it is looked for on the way. */
  readonly make?: true;
}

/** The links as they were looked up, and as the operations compiled since will leave them. */
export interface View {
  link(netns: NetnsPath | undefined, name: string): KernelLink | undefined;
  put(netns: NetnsPath | undefined, link: KernelLink): void;
  drop(netns: NetnsPath | undefined, name: string): void;
  /** It is to be looked up again before the next step: the operation leaves it in a state that only the kernel knows. */
  unknow(netns: NetnsPath | undefined, name: string): void;
  /** Whether we added this address to a link of somebody else's. False where the kernel does not keep that (before 5.18). */
  ownsAddress(netns: NetnsPath | undefined, index: number, prefix: Prefix): boolean;
  /** An interface index that no link of the namespace has. */
  newIndex(netns: NetnsPath | undefined): number;
  /** A descriptor of a namespace, open as long as the view is. */
  handle(netns: NetnsPath | undefined): number;
  /** The folder that `netns.add` makes its namespaces in. */
  readonly netnsDir: string;
  /** False where the kernel was started with ipv6.disable=1: attributes of AF_INET6 are then refused. */
  readonly ipv6: boolean;
}

export type Operation =
  | RtnetlinkOperation
  | DeleteOperation
  | NetnsOperation
  | SysctlOperation
  | ElementOperation
  | AcceptOperation
  | PortOperation
  | ConntrackOperation
  | FrameOperation
  | ProbeOperation
  | TapOperation
  | VtepOperation
  | XfrmOperation
  | GuardOperation
  | TranslationOperation
  | PlaceOperation;

export interface RtnetlinkOperation {
  readonly via: 'rtnetlink';
  readonly netns: NetnsPath | undefined;
  readonly request: NetlinkRequest;
  /** Whether what the kernel answered means that all is as wanted already. */
  readonly tolerates?: (errno: string, socket: NetlinkSocket) => boolean;
  /**
   * What takes it back: requests made from what was looked up before, in the same namespace; `inverse`: the inverse of
   * the step, also when the operation failed, because it may have done a part. Absent: nothing, another operation's undo covers it.
   */
  readonly undo?: NetlinkRequest | DeleteOperation | 'inverse';
  /** What an errno means here, where the kernel says no more than that. */
  readonly hint?: (errno: string) => string | undefined;
  /** The name may have been taken since we looked: worth looking again. */
  readonly creates?: true;
}

/** A link goes; gone already is success. */
export interface DeleteOperation {
  readonly via: 'delete';
  readonly netns: NetnsPath | undefined;
  readonly link: KernelLink;
}

export interface NetnsOperation {
  readonly via: 'netns';
  readonly verb: 'create' | 'remove';
  readonly path: NetnsPath;
}

export interface SysctlOperation {
  readonly via: 'sysctl';
  readonly netns: NetnsPath | undefined;
  readonly key: string;
  readonly value: string;
  readonly keep: boolean;
}

export interface ElementOperation {
  readonly via: 'element';
  readonly verb: 'add' | 'remove';
  readonly element: NftElement;
}

export interface AcceptOperation {
  readonly via: 'accept';
  readonly verb: 'add' | 'remove';
  readonly accept: ForwardAccept;
}

export type PortOperation =
  | { readonly via: 'port'; readonly verb: 'hold'; readonly ports: Ports }
  | {
      readonly via: 'port';
      readonly verb: 'release';
      readonly ports: Ports;
      /** Of the ports, those to release. */
      readonly numbers: readonly number[];
    };

export interface ConntrackOperation {
  readonly via: 'conntrack';
  readonly ports: Ports;
}

/** A TAP device is made, and gets what no link can be made with. */
export interface TapOperation {
  readonly via: 'tap';
  readonly netns: NetnsPath | undefined;
  readonly name: string;
  readonly change: LinkChange;
}

export interface VtepOperation {
  readonly via: 'vtep';
  readonly verb: 'start' | 'stop';
  readonly vtep: VtepRun;
}

export interface XfrmOperation {
  readonly via: 'xfrm';
  readonly request: NetlinkRequest;
  /** Whether what the kernel answered means that all is as wanted already. */
  readonly tolerates?: (errno: string) => boolean;
  /** What takes it back. */
  readonly undo?: NetlinkRequest;
  readonly hint?: (errno: string) => string | undefined;
}

export interface GuardOperation {
  readonly via: 'guard';
  readonly verb: 'add' | 'remove';
  readonly guard: EncryptedGuard;
}

export interface TranslationOperation {
  readonly via: 'translation';
  readonly verb: 'load' | 'drop';
  readonly translation: UplinkTranslate;
}

/** Where a MAC is, for the tunnel endpoint in user space that runs on the entry's TAP device. */
export interface PlaceOperation {
  readonly via: 'place';
  readonly verb: 'put' | 'remove';
  readonly entry: FdbAdd;
}

/** Whole Ethernet frames that leave by a link; lost where it is down. */
export interface FrameOperation {
  readonly via: 'frames';
  readonly netns: NetnsPath | undefined;
  readonly index: number;
  readonly frames: readonly Uint8Array[];
}

export interface ProbeOperation {
  readonly via: 'probe';
  readonly probe: NeighbourProbe;
}

/** Undefined: the namespace is not there, or nobody asked for its facts. */
export function netnsFacts(facts: Facts, netns: NetnsPath | undefined): NetnsFacts | undefined {
  return netns === undefined ? facts.host : facts.netns.get(netns);
}
