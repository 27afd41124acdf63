/** Facts: what the kernel holds now, as plain data, read in one dump. Plans are made from facts and compared with them. */
import type { Ip } from '../address/ip.ts';
import type { Mac } from '../address/mac.ts';
import type { Prefix } from '../address/prefix.ts';
import type { EntryStep } from './entry.ts';
import type { MacvlanMode, Mark, NetnsPath, NftSetName, QdiscSet, VlanProtocol } from './step.ts';

export interface LinkFact {
  readonly name: string;
  readonly index: number;
  /** IFLA_INFO_KIND: bridge, veth, macvlan, …; absent for a physical device and for `lo`. */
  readonly kind?: string;
  readonly mtu: number;
  readonly mac?: Mac;
  readonly up: boolean;
  /** IFF_LOWER_UP: the device has a carrier. */
  readonly carrier: boolean;
  /** IFF_PROMISC: somebody asked for it by name; and IFLA_PROMISCUITY: how many do, programs and links on it included. */
  readonly promisc: boolean;
  readonly promiscuity: number;
  /** Of a physical device, as sysfs has it: the kernel's driver, and whether it is Wi-Fi. */
  readonly nic?: { readonly driver?: string; readonly wireless: boolean };
  /** Name of the bridge that this link is a port of. */
  readonly master?: string;
  /** Of a bridge's port, as in LinkMaster; absent for other links. */
  readonly isolated?: boolean;
  readonly hairpin?: boolean;
  readonly suppress?: boolean;
  /** Of a VXLAN link. `local` absent: the kernel chooses a source address for each datagram. */
  readonly vxlan?: VxlanFact;
  /** The token bucket that is its root qdisc, and the link that all that comes in is sent to. Read only of links that plans ask about. */
  readonly bucket?: Omit<QdiscSet, 'do' | 'link'>;
  readonly redirectedTo?: string;
  /** IFLA_LINK: index of the veth peer or lower device, and whether it lives in another namespace (IFLA_LINK_NETNSID). */
  readonly peerIndex?: number;
  readonly peerElsewhere?: boolean;
  /** Of a macvlan or VLAN link: the one that it is on, where that is in the same namespace. */
  readonly parent?: string;
  readonly macvlanMode?: MacvlanMode;
  readonly vlan?: { readonly id: number; readonly protocol: VlanProtocol };
  /** Present when the link is ours: read from its alias. A link of our group without an alias has `mark.network` ''. */
  readonly mark?: Mark;
}

export interface VxlanFact {
  readonly vni: number;
  readonly port: number;
  readonly local?: Ip;
  readonly learning: boolean;
}

export interface XfrmStateFact {
  readonly src: Ip;
  readonly dst: Ip;
  readonly spi: number;
  readonly reqid: number;
}

/** Of those outward. */
export interface XfrmPolicyFact {
  readonly src: Ip;
  readonly dst: Ip;
  readonly port: number;
  readonly mark: number;
  readonly reqid: number;
}

export interface AddressFact {
  readonly link: string;
  readonly prefix: Prefix;
}

export interface RouteFact {
  readonly to: Prefix;
  readonly via?: Ip;
  readonly link?: string;
  /** RTAX_MTU: bytes, less than the link takes; absent: what the link takes. */
  readonly mtu?: number;
  /** RTA_TABLE: 254 = main. */
  readonly table: number;
  readonly ours: boolean;
}

/** One network namespace. */
export interface NetnsFacts {
  readonly links: ReadonlyMap<string, LinkFact>;
  readonly addresses: readonly AddressFact[];
  readonly routes: readonly RouteFact[];
  /** The sysctls that the plans asked about; a key that does not exist is absent. */
  readonly sysctls: ReadonlyMap<string, string>;
  /** Permanent ones, as the steps that make them, by entryName(). Read only where plans make entries, or the links that have them. */
  readonly entries?: ReadonlyMap<string, EntryStep>;
  /** The translation that is loaded here, by translationName(). Read only where plans ask about it, with the firewall. */
  readonly translation?: string;
}

export interface AcceptRule {
  readonly family: 4 | 6;
  readonly bridge: string;
  /** Network id, its first 12 digits, from the rule's comment. */
  readonly network: string;
}

export interface Facts {
  /** The daemon's own namespace. */
  readonly host: NetnsFacts;
  /** Other namespaces that the plans named; a path that is not there (any more) is absent. */
  readonly netns: ReadonlyMap<NetnsPath, NetnsFacts>;
  /** Namespace files in our own folder, whoever refers to them. */
  readonly ourNetns: readonly NetnsPath[];
  /** Elements of our table as `key` (fields joined with ' . ') → data (joined likewise, '' for a set); undefined: no table. */
  readonly elements: ReadonlyMap<NftSetName, ReadonlyMap<string, string>> | undefined;
  /** Whether our table's chains are the ones that this version loads. */
  readonly rulesetCurrent: boolean;
  /** Complete accept groups (see ForwardAccept) in DOCKER-USER; `chain` tells which families have the chain at all. */
  readonly accepts: readonly AcceptRule[];
  /** Ports that this daemon holds, as `proto address port`. */
  readonly heldPorts: ReadonlySet<string>;
  /** Tunnel endpoints in user space that run, by vtepName(). */
  readonly vteps?: ReadonlySet<string>;
  /** IPsec of the daemon's namespace. Read only where plans ask about it. */
  readonly xfrm?: { readonly states: readonly XfrmStateFact[]; readonly policies: readonly XfrmPolicyFact[] };
  /** Encrypted networks that are guarded, by guardName(). Read only where plans ask about it, with the firewall. */
  readonly guards?: ReadonlySet<string>;
  /** Why this kernel cannot encrypt; undefined: it can. Found out when it is read: who does not encrypt needs no modules for it. */
  readonly noEsp?: string | undefined;
  readonly acceptChain: { readonly v4: boolean; readonly v6: boolean };
}
