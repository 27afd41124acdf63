/**
 * Steps: the plain data that a driver's plan is made of.
 *
 * A step says what shall exist in the kernel, never how to get there. For every kind the folder has three functions
 * beside each other (`kinds/`): `apply`, `inverse` and `satisfied(facts)`. Rollback, delete, reconcile, doctor and dry run
 * all follow from these three. Steps are stored as JSON in the records of networks and endpoints, therefore every
 * address is canonical text and every field survives `JSON.parse(JSON.stringify(step))`.
 */
import type { Ip } from '../address/ip.ts';
import type { Mac } from '../address/mac.ts';
import type { Prefix } from '../address/prefix.ts';

/** Where a step acts: absent = the network namespace that the daemon runs in; else the path of a namespace file. */
export type NetnsPath = string;

/**
 * Who owns a link. Written to the link's `ifalias` as `cnm <network-id> [<endpoint-id>]` (IFLA_IFALIAS, at most 255 bytes);
 * at creation the link also gets our IFLA_GROUP, which the kernel sets in the same breath as the link, so that a link
 * whose alias a crash prevented is still known as ours.
 */
export interface Mark {
  /** `shared`: it belongs to every network whose plan makes it, and goes with the last of them (cnm/shared.ts). */
  readonly network: string;
  readonly endpoint?: string;
}

/** How the macvlan links of one parent reach each other (drivers/net/macvlan.c): among themselves, by way of the switch, not at all; or there is only one. */
export type MacvlanMode = 'bridge' | 'vepa' | 'private' | 'passthru';

export type VlanProtocol = '802.1q' | '802.1ad';

/** What kind of link `link.add` makes. A veth's two ends are one link.add: they live and die together. */
export type LinkKind =
  | { readonly kind: 'bridge' }
  /** What comes in here is handed back as if it had come in where it came from: a place for a qdisc on what comes in by a link. */
  | { readonly kind: 'ifb' }
  /** `home`: the other end is made in the daemon's namespace, wherever the step's own is. */
  | {
      readonly kind: 'veth';
      readonly peer: { readonly name: string; readonly mac?: Mac; readonly home?: true };
    }
  /**
   * A VXLAN tunnel endpoint (RFC 7348). Wherever the link is, its datagrams go out and come in by the daemon's namespace: from `local`,
   * to UDP `port` and on it. Within one namespace and port a VNI is taken once (EEXIST). `learning`: where a MAC address is, is learned
   * from what comes in.
   */
  | {
      readonly kind: 'vxlan';
      readonly vni: number;
      readonly local: Ip;
      readonly port: number;
      readonly learning: boolean;
    }
  /** A TAP device that stays while nobody has it open (TUNSETPERSIST): what is sent to it, a program reads. */
  | { readonly kind: 'tun' }
  /**
   * A MAC of its own on the wire of `parent`, a link of the same namespace, whose MTU it has by default. With mode passthru it takes
   * over the parent's MAC when it is made, and the parent its when that changes. `promisc` false: passthru does not make the parent
   * promiscuous (MACVLAN_FLAG_NOPROMISC).
   */
  | {
      readonly kind: 'macvlan';
      readonly parent: string;
      readonly mode: MacvlanMode;
      readonly promisc?: boolean;
    }
  /** What bears the tag `id` on the wire of `parent` (net/8021q). */
  | {
      readonly kind: 'vlan';
      readonly parent: string;
      readonly id: number;
      readonly protocol: VlanProtocol;
    };

export interface LinkAdd {
  readonly do: 'link.add';
  readonly netns?: NetnsPath;
  readonly name: string;
  readonly mark: Mark;
  readonly link: LinkKind;
  /** Bytes. Absent = the kernel's default. Applies to both ends of a veth. */
  readonly mtu?: number;
  readonly mac?: Mac;
  /** False = no IPv6 link-local address on this link (IFLA_INET6_ADDR_GEN_MODE none). Default true. */
  readonly linkLocal?: boolean;
  /** False = no neighbour is asked for (IFF_NOARP): every frame goes to the link's own MAC, which the peer must have too. Default true. */
  readonly arp?: boolean;
}

/** Make `link` a port of the bridge `master`. */
export interface LinkMaster {
  readonly do: 'link.master';
  readonly netns?: NetnsPath;
  readonly link: string;
  readonly master: string;
  /** Absent: false, for all. No frames to or from other isolated ports (IFLA_BRPORT_ISOLATED): what `icc=false` means, without br_netfilter. */
  readonly isolated?: boolean;
  /** Frames may leave by the port that they came in by (IFLA_BRPORT_MODE): a container reaches its own published port. */
  readonly hairpin?: boolean;
  /**
   * Nobody behind this port is asked for the bridge's own addresses, nor for one that its host knows the answer to
   * (IFLA_BRPORT_NEIGH_SUPPRESS, net/bridge/br_arp_nd_proxy.c).
   */
  readonly suppress?: boolean;
}

/**
 * Another size for a link of ours that is there already, wherever it has gone: the end of a veth pair in a container. ENODEV where it is not, EPERM
 * where it does not bear the mark. It has no inverse, for the link goes as it is, and is always satisfied: it is done once.
 */
export interface LinkMtu {
  readonly do: 'link.mtu';
  readonly netns?: NetnsPath;
  readonly link: string;
  readonly mark: Mark;
  /** Bytes. */
  readonly mtu: number;
}

/** A VLAN whose parent is down cannot be up: that is success, for the kernel takes it up with its parent (vlan_device_event()). */
export interface LinkUp {
  readonly do: 'link.up';
  readonly netns?: NetnsPath;
  readonly link: string;
}

/**
 * The interface takes in frames for every MAC (IFF_PROMISC, `ip link set LINK promisc on`). For an interface that is not ours; the inverse
 * takes it back, so that who finds it so already leaves it out of the plan.
 */
export interface LinkPromisc {
  readonly do: 'link.promisc';
  readonly link: string;
}

/**
 * Move `link` from the daemon's namespace into `to` and name it `as` there (what dockerd does with a Join's SrcName).
 * The inverse brings it back under its old name; a namespace or link that is gone is success.
 */
export interface LinkMove {
  readonly do: 'link.move';
  readonly link: string;
  readonly to: NetnsPath;
  readonly as: string;
  readonly mac?: Mac;
}

export interface AddrAdd {
  readonly do: 'addr.add';
  readonly netns?: NetnsPath;
  readonly link: string;
  /**
   * The address with its prefix length, for example 10.0.0.1/24. IPv6 is added with IFA_F_NODAD: we allocated it. It bears our
   * protocol number (IFA_PROTO 110), by which it is told from a stranger's on a stranger's link.
   */
  readonly prefix: Prefix;
}

/** A route with our protocol number (RTPROT 110). `via` absent = on link. */
export interface RouteAdd {
  readonly do: 'route.add';
  readonly netns?: NetnsPath;
  /** Destination; 0.0.0.0/0 and ::/0 are the default routes. */
  readonly to: Prefix;
  readonly via?: Ip;
  readonly link?: string;
}

/**
 * A sysctl, `key` with dots as in sysctl(8); a `/` stands for a dot inside an interface name.
 * Written only when the value differs; EROFS is an error only then.
 * `keep`: the inverse leaves the value alone (others may have come to depend on it, for example ip_forward).
 */
export interface SysctlSet {
  readonly do: 'sysctl.set';
  readonly netns?: NetnsPath;
  readonly key: string;
  readonly value: string;
  readonly keep?: boolean;
}

/**
 * One element of a set or map in our own nftables table (`inet cnm`, whose chains stand in kernel/chains.ts).
 * Keys and data are text in nft's own notation, one string per concatenated field.
 */
export interface NftElement {
  readonly do: 'nft.element';
  readonly set: NftSetName;
  readonly key: readonly string[];
  readonly data?: readonly string[];
}

/**
 * The sets and maps of our table; what they are for stands beside their types in kernel/sets.ts.
 *
 * - `bridges`: every bridge of ours (ifname).
 * - `same_bridge`: pairs (bridge . bridge) between whose ports traffic flows; absent with `icc=false`.
 * - `hairpin`: pairs (bridge . bridge) of every network: a translated packet that goes back to the bridge it came from gets
 *   the bridge's address, so that the answer comes back the same way.
 * - `internal`: bridges with no way out.
 * - `masquerade4`, `masquerade6`: bridges whose outbound packets get the host's address; `snat4`, `snat6` (bridge : address):
 *   get this address instead.
 * - `unprotected4`, `unprotected6`: bridges that let everything in (gateway mode nat-unprotected).
 * - `routed4`, `routed6`: bridges with no translation, where published container ports and ICMP are let in.
 * - `open4`, `open6`: (address . protocol . port) of containers, published: let in on routed bridges, and from trusted interfaces.
 * - `trusted`: pairs (interface . bridge) from which direct access to published ports is let in.
 * - `publish4`, `publish6`: (protocol . host address . port : container address . port).
 * - `publish4_any`, `publish6_any`: (protocol . port : container address . port), for every local address.
 * - `publish4_range`, `publish4_any_range`, and 6: intervals of ports that keep their number, so data is the address alone.
 * - `guarded4`, `guarded6`: intervals (protocol . host addresses . ports) of published ports that the host's own input policy judges.
 * - `gates`: both ends of every gate, by which what that policy lets in comes back to be translated.
 * - `dns4`, `dns6`: pairs (bridge . gateway address) where the resolver of the suite answers, and what comes for port 53 goes to it.
 * - `inside4`, `inside6`: pairs (subnet . bridge) of networks with a gate: who comes by it from the network that it leads to.
 * - `alike4`, `alike6`: pairs (subnet . uplink) of networks that the host does not route: who comes from such an address gets the host's.
 */
export type NftSetName =
  | 'bridges'
  | 'same_bridge'
  | 'hairpin'
  | 'internal'
  | `masquerade${Family}`
  | `snat${Family}`
  | `unprotected${Family}`
  | `routed${Family}`
  | `open${Family}`
  | 'trusted'
  | `publish${Family}`
  | `publish${Family}_any`
  | `publish${Family}_range`
  | `publish${Family}_any_range`
  | `guarded${Family}`
  | 'gates'
  | `inside${Family}`
  | `alike${Family}`
  | `dns${Family}`;

type Family = 4 | 6;

export type TransportProtocol = 'tcp' | 'udp' | 'sctp';

/**
 * A port of the host, held by a socket of the daemon as long as the step stands: bound, and (tcp, sctp) listening behind a filter
 * that drops everything, as Docker does, so that no other process takes it and nobody connects to us. Not in the kernel beyond
 * the daemon's life: reconcile takes it again at start. `portEnd`: a range, all of it or nothing.
 * EADDRINUSE names protocol, address, port and, where it can be found, the process.
 */
export interface PortHold {
  readonly do: 'port.hold';
  readonly proto: TransportProtocol;
  /** 0.0.0.0 or :: = every address of that family. */
  readonly address: Ip;
  readonly port: number;
  readonly portEnd?: number;
}

/**
 * Forget what conntrack remembers of a published port (by original destination), or of a container's address: entries of the
 * former owner would send packets to it for minutes (moby/moby#8795). Both `apply` and `inverse` do it; always satisfied.
 */
export interface ConntrackForget {
  readonly do: 'conntrack.forget';
  readonly proto: TransportProtocol;
  readonly address: Ip;
  readonly port: number;
  readonly portEnd?: number;
}

/**
 * Accept this bridge's forwarded packets in `DOCKER-USER`, the chain that Docker leaves to users, because Docker sets the
 * FORWARD policy to DROP and no other table can undo a drop. One rule set for both families; each rule carries the
 * comment `cnm <network-id, 12 digits>`. Success with nothing done where no DOCKER-USER chain exists: the daemon looks
 * again when the firewall changes.
 */
export interface ForwardAccept {
  readonly do: 'forward.accept';
  readonly bridge: string;
  readonly mark: Mark;
}

/**
 * A limit on what leaves `link`, a link of ours in the daemon's namespace: a token bucket as its root qdisc (tc-tbf(8)). Somebody's
 * other root qdisc there is replaced.
 */
export interface QdiscSet {
  readonly do: 'qdisc.set';
  readonly link: string;
  /** Bytes per second. */
  readonly rate: number;
  /** Bytes that may go at once after a pause. */
  readonly burst: number;
  /** Bytes that wait at most; what comes then is dropped. Not below `burst`. */
  readonly limit: number;
}

/** All that comes in by `link`, a link of ours in the daemon's namespace, goes through `to`, an IFB: see `LinkKind`. */
export interface IngressRedirect {
  readonly do: 'ingress.redirect';
  readonly link: string;
  readonly to: string;
}

/**
 * Tell everybody on `link`, unasked, that these addresses are at `mac` from now on (a gratuitous ARP, an unsolicited neighbour
 * advertisement), and put it right in the host's own neighbour table where it has the address. Sent in the name of `mac`, whose
 * link need not be there yet. Success where `link` is down. It has no inverse and is always satisfied: it is said once.
 */
export interface NeighbourAnnounce {
  readonly do: 'neigh.announce';
  readonly netns?: NetnsPath;
  readonly link: string;
  readonly addresses: readonly Ip[];
  readonly mac: Mac;
}

/**
 * Ask on `link`, a link of the daemon's namespace, whether anybody has one of these addresses already, in the name of `mac` (RFC 5227, RFC
 * 4862 section 5.4). `fail`: the step fails with EADDRINUSE and says who, or takes 0.4 s. `warn`: it is done at once, and the log says so
 * later. Success where `link` is down. It has no inverse and is always satisfied: it is asked once.
 */
export interface NeighbourProbe {
  readonly do: 'neigh.probe';
  readonly link: string;
  readonly addresses: readonly Ip[];
  readonly mac: Mac;
  readonly taken: 'fail' | 'warn';
}

/**
 * Frames to `mac` leave the VXLAN link `link` for the tunnel endpoint at `dst`: a permanent entry of its own forwarding table
 * (`bridge fdb`, NTF_SELF). The MAC of all zeros stands for every destination that has no entry, broadcast and multicast included:
 * there may be many entries for it, and each of their endpoints gets a copy. Another MAC has one: an older entry is replaced.
 * On a TAP device it is an entry of the tunnel endpoint that runs on it, and goes with that.
 */
export interface FdbAdd {
  readonly do: 'fdb.add';
  readonly netns?: NetnsPath;
  readonly link: string;
  readonly mac: Mac;
  readonly dst: Ip;
}

/**
 * Frames to `mac` leave a bridge by its port `link`: a static entry of the bridge's table (`bridge fdb … master static`). An older one, of
 * whatever port, is replaced. It goes with its port; and a frame from `mac` that comes in by another port moves it there (br_fdb_update()).
 */
export interface FdbPort {
  readonly do: 'fdb.port';
  readonly netns?: NetnsPath;
  readonly link: string;
  readonly mac: Mac;
}

/**
 * Who has `address` on `link` is known, and nobody is asked: a permanent neighbour. An older one is replaced; the inverse removes that of the
 * address, whatever its MAC. Where `link` is a bridge, it answers for it to the ports (`suppress`).
 */
export interface NeighbourAdd {
  readonly do: 'neigh.add';
  readonly netns?: NetnsPath;
  readonly link: string;
  readonly address: Ip;
  readonly mac: Mac;
}

/**
 * A tunnel endpoint in user space, run by a thread of the daemon as long as the step stands: frames that are sent to the TAP device
 * `link` go to `peers` in VXLAN, from UDP `port` of `local` in the daemon's namespace, and come back likewise. Floods and learns; or,
 * with `learning` false, goes by its `fdb.add` entries alone, as a tunnel of the kernel's does.
 */
export interface VtepRun {
  readonly do: 'vtep.run';
  readonly netns: NetnsPath;
  readonly link: string;
  readonly vni: number;
  readonly local: Ip;
  readonly port: number;
  readonly peers: readonly Ip[];
  /** Absent: true. */
  readonly learning?: false;
}

/**
 * An IPsec state: what goes by ESP (RFC 4303) from `src` to `dst` with this SPI, in transport mode. Of the daemon's namespace.
 * `gcm`: AES-GCM (RFC 4106), with sequence numbers of 64 bits and protection against replays. What is sent with must not be made anew with
 * the same key, for it would count from the start again, and the same nonce twice gives the key's secrets away (RFC 4106 section 3).
 * `cbc`: AES-CBC (RFC 3602) with HMAC-SHA-256-128 (RFC 4868), which may be made anew, and so has no protection against replays.
 */
export interface XfrmStateAdd {
  readonly do: 'xfrm.state.add';
  readonly src: Ip;
  readonly dst: Ip;
  /** 256 or more (RFC 4303 section 2.1). */
  readonly spi: number;
  /** Whose it is, and by what a policy finds it; of several with one `src` and `dst` the newest sends (xfrm_state_look_at()). */
  readonly reqid: number;
  readonly cipher: 'gcm' | 'cbc';
  /** In hex: of `gcm` 20 bytes, the key and the salt of four; of `cbc` 48, of AES and of HMAC. Never shown. */
  readonly key: string;
  /** It is sent with, and must not be made twice: whoever finds it missing needs another one. */
  readonly once?: true;
}

/** UDP to `port` from `src` to `dst` that bears `mark` goes out by the ESP of `reqid`, or not at all. */
export interface XfrmPolicyAdd {
  readonly do: 'xfrm.policy.add';
  readonly src: Ip;
  readonly dst: Ip;
  readonly port: number;
  readonly mark: number;
  readonly reqid: number;
}

/** VXLAN of this port and VNI bears `mark` when it goes out, goes out by IPsec alone, and is let in by IPsec alone. */
export interface EncryptedGuard {
  readonly do: 'encrypted.guard';
  readonly port: number;
  readonly vni: number;
  readonly mark: number;
}

/**
 * What comes in by `link`, a link of ours in `netns`, for an address of `outside` goes to that of `inside` in its place, and what goes out by it
 * comes from there: one for one, for whoever has the addresses. Nothing else is let in. Segments of TCP that begin there fit the route's MTU. Of the
 * namespace alone, where it is the whole of our table (translation.ts).
 */
export interface UplinkTranslate {
  readonly do: 'uplink.translate';
  readonly netns: NetnsPath;
  readonly link: string;
  /** Both prefixes of a pair are of one length. */
  readonly pairs: readonly { readonly inside: Prefix; readonly outside: Prefix }[];
}

/** A network namespace held by a bind mount at `path`, with `lo` up. */
export interface NetnsAdd {
  readonly do: 'netns.add';
  readonly path: NetnsPath;
}

export type Step =
  | LinkAdd
  | LinkMaster
  | LinkMtu
  | LinkUp
  | LinkPromisc
  | LinkMove
  | AddrAdd
  | RouteAdd
  | SysctlSet
  | NftElement
  | ForwardAccept
  | PortHold
  | ConntrackForget
  | QdiscSet
  | IngressRedirect
  | NeighbourAnnounce
  | NeighbourProbe
  | FdbAdd
  | FdbPort
  | NeighbourAdd
  | VtepRun
  | XfrmStateAdd
  | XfrmPolicyAdd
  | EncryptedGuard
  | UplinkTranslate
  | NetnsAdd;

export type StepKind = Step['do'];
export type StepOf<K extends StepKind> = Extract<Step, { do: K }>;

/** In order: a step may rely on all steps before it. */
export type Plan = readonly Step[];
