/**
 * rtnetlink requests: what we ask of links, addresses and routes. Pure; the codecs of the
 * `netlink` package do the bytes (imported file by file: its index would load the native socket).
 */
import { AttrStream } from 'netlink/dist/structs.js';
import type { StreamData } from 'netlink/dist/structs.js';
import { formatLinkProtocolInfoInet6, In6AddrGenMode } from 'netlink/dist/rt/ifla.js';
import type { LinkAttrs } from 'netlink/dist/rt/ifla.js';
import {
  formatAddressMessage,
  formatLinkMessage,
  formatNeighborMessage,
  formatRouteMessage,
  MessageType,
  RouteScope,
  RouteType,
} from 'netlink/dist/rt/structs.js';
import type { RouteProtocol } from 'netlink/dist/rt/structs.js';
import { familyOf, ipBytes } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import { macBytes } from '../address/mac.ts';
import type { Mac } from '../address/mac.ts';
import { addressOf, familyOfPrefix, lengthOf, networkOf } from '../address/prefix.ts';
import type { Prefix } from '../address/prefix.ts';
import { uint32 } from './attribute.ts';
import {
  IFLA_BRPORT_ISOLATED,
  IFLA_BRPORT_MODE,
  IFLA_BRPORT_NEIGH_SUPPRESS,
  IFLA_INFO_DATA,
  IFLA_INFO_KIND,
  IFLA_INFO_SLAVE_DATA,
  IFLA_INFO_SLAVE_KIND,
  IFLA_VXLAN_ID,
  IFLA_VXLAN_LEARNING,
  IFLA_VXLAN_LOCAL,
  IFLA_VXLAN_LOCAL6,
  IFLA_VXLAN_PORT,
} from './link-attributes.ts';
import { LINK_GROUP } from './mark.ts';
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from './netlink.ts';
import type { NetlinkRequest } from './netlink.ts';
import { AF_INET, AF_INET6, AF_UNSPEC } from './socket-numbers.ts';

/** RTA_PROTOCOL of our routes: above RTPROT_STATIC, so that the kernel only carries it; 'n' in ASCII, a number that iproute2's rt_protos gives nobody. */
export const ROUTE_PROTOCOL = 0x6e;

/** RT_TABLE_MAIN */
export const MAIN_TABLE = 254;
/** linux/veth.h */
const VETH_INFO_PEER = 1;
/** The codec's type lists the numbers that have names; others pass through it as they are. */
const OUR_PROTOCOL = ROUTE_PROTOCOL as unknown as RouteProtocol;
/** Without counters: half of a link's message, and nobody here reads them. linux/rtnetlink.h RTEXT_FILTER_SKIP_STATS. */
const SKIP_STATS = Buffer.of(8, 0, 0, 0);
/** A route of any scope, for a delete: fib_table_delete() takes RT_SCOPE_NOWHERE as a wildcard. */
const ANY_SCOPE = RouteScope.NOWHERE;

/** What a link is to become. `index` names it. */
export interface LinkChange {
  readonly up?: boolean;
  /** 0 = leave the bridge. */
  readonly master?: number;
  readonly mtu?: number;
  readonly mac?: Mac;
  readonly alias?: string;
  /** No IPv6 link-local address (IN6_ADDR_GEN_MODE_NONE); it must be set before the link is up. */
  readonly noLinkLocal?: boolean;
  /** IFF_NOARP. */
  readonly noArp?: boolean;
  /** IFF_PROMISC. */
  readonly promisc?: boolean;
  readonly group?: number;
  /** Descriptor of the namespace to go to, with the name to have there. */
  readonly netnsFd?: number;
  readonly name?: string;
}

export interface NewLink {
  readonly name: string;
  readonly index: number;
  readonly mac?: Mac;
  readonly mtu?: number;
}

/**
 * The index is ours to choose (`ip link add … index`): the messages behind this one in a batch name the link by it, and so
 * cannot hit a stranger's link when the name turns out to be taken. It must be free.
 * No MTU here: br_dev_newlink() would take it for a default, and the bridge would follow its ports' MTU again.
 */
export function createBridge(link: NewLink): NetlinkRequest {
  return newLink(link, { linkinfo: linkInfo('bridge') });
}

export function createIfb(link: NewLink): NetlinkRequest {
  return newLink(link, { linkinfo: linkInfo('ifb') });
}

export interface VxlanSettings {
  readonly vni: number;
  readonly local: Ip;
  readonly port: number;
  readonly learning: boolean;
}

/**
 * To be sent in the namespace whose addresses the tunnel uses: it keeps to that for ever (vxlan_newlink(), `src_net`). The link itself is
 * made in the namespace of `netnsFd`, where that is given.
 */
export function createVxlan(
  link: NewLink,
  { vni, local, port, learning }: VxlanSettings,
  netnsFd?: number,
): NetlinkRequest {
  const settings = bytes((out) => {
    out.push(IFLA_VXLAN_ID, uint32(vni));
    out.push(familyOf(local) === 4 ? IFLA_VXLAN_LOCAL : IFLA_VXLAN_LOCAL6, Buffer.from(ipBytes(local)));
    out.push(IFLA_VXLAN_LEARNING, Buffer.of(Number(learning)));
    out.push(IFLA_VXLAN_PORT, Buffer.of(port >> 8, port & 0xff));
  });
  const linkinfo = linkInfo('vxlan', padded(settings));
  return newLink(link, { ...(netnsFd !== undefined && { netNsFd: netnsFd }), linkinfo });
}

/** Both ends in one message; each has our group from its first moment. The peer in the namespace of `peerNetnsFd`, where that is given. */
export function createVeth(link: NewLink, peer: NewLink, peerNetnsFd?: number): NetlinkRequest {
  const elsewhere = peerNetnsFd === undefined ? {} : { netNsFd: peerNetnsFd };
  const peerInfo = padded(linkBytes(peer.index, {}, { ...identity(peer), ...elsewhere }));
  return newLink(link, {
    linkinfo: linkInfo('veth', (out) => {
      out.push(VETH_INFO_PEER, peerInfo);
    }),
  });
}

/** As ip(8) has it: the kind without a NUL, and padded; the codec's formatInfo() does neither. */
export function linkInfo(kind: string, data?: StreamData): Buffer {
  return padded(
    bytes((out) => {
      out.push(IFLA_INFO_KIND, Buffer.from(kind));
      if (data !== undefined) out.push(IFLA_INFO_DATA, padded(bytes(data)));
    }),
  );
}

export function newLink(link: NewLink, attrs: LinkAttrs): NetlinkRequest {
  return {
    type: MessageType.NEWLINK,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    data: linkBytes(link.index, {}, { ...identity(link, attrs.link), ...attrs }),
  };
}

function identity({ name, mac, mtu }: NewLink, on?: Buffer): LinkAttrs {
  return {
    group: LINK_GROUP,
    ...(mac !== undefined && { address: Buffer.from(macBytes(mac)) }),
    ...(mtu !== undefined && { mtu }),
    ...(on !== undefined && { link: on }),
    ifname: name,
  };
}

export function changeLink(index: number, change: LinkChange): NetlinkRequest {
  const { up, master, mtu, mac, alias, noLinkLocal, noArp, promisc, group, netnsFd, name } = change;
  const attrs: LinkAttrs = {
    ...(netnsFd !== undefined && { netNsFd: netnsFd }),
    ...(name !== undefined && { ifname: name }),
    ...(mac !== undefined && { address: Buffer.from(macBytes(mac)) }),
    ...(mtu !== undefined && { mtu }),
    ...(alias !== undefined && { ifalias: alias }),
    ...(group !== undefined && { group }),
    ...(master !== undefined && { master }),
    ...(noLinkLocal === true && { afSpec: new Map([[AF_INET6, NO_LINK_LOCAL]]) }),
  };
  return { type: MessageType.NEWLINK, flags: 0, data: linkBytes(index, { up, noArp, promisc }, attrs) };
}

export interface PortFlags {
  readonly isolated: boolean;
  readonly hairpin: boolean;
  /** Absent: as it is. */
  readonly suppress?: boolean;
}

/**
 * Settings of a bridge's port. In a message of its own: rtnl_newlink() looks for the master that understands them before it sets
 * IFLA_MASTER (EOPNOTSUPP for a link that is no port yet).
 */
export function changePort(index: number, { isolated, hairpin, suppress }: PortFlags): NetlinkRequest {
  const settings = bytes((out) => {
    out.push(IFLA_BRPORT_ISOLATED, Buffer.of(Number(isolated)));
    out.push(IFLA_BRPORT_MODE, Buffer.of(Number(hairpin)));
    if (suppress !== undefined) out.push(IFLA_BRPORT_NEIGH_SUPPRESS, Buffer.of(Number(suppress)));
  });
  const linkinfo = bytes((out) => {
    out.push(IFLA_INFO_SLAVE_KIND, Buffer.from('bridge'));
    out.push(IFLA_INFO_SLAVE_DATA, padded(settings));
  });
  return { type: MessageType.NEWLINK, flags: 0, data: linkBytes(index, {}, { linkinfo }) };
}

const NO_LINK_LOCAL = padded(bytes(formatLinkProtocolInfoInet6({ addrGenMode: In6AddrGenMode.NONE })));

export function deleteLink(index: number): NetlinkRequest {
  return { type: MessageType.DELLINK, flags: 0, data: linkBytes(index, {}, {}) };
}

/** All links of a group at once (rtnl_group_dellink()). */
export function deleteGroup(group: number): NetlinkRequest {
  return { type: MessageType.DELLINK, flags: 0, data: linkBytes(0, {}, { group }) };
}

export function getLink(name: string): NetlinkRequest {
  return {
    type: MessageType.GETLINK,
    flags: 0,
    data: linkBytes(0, {}, { ifname: name, extMask: SKIP_STATS }),
  };
}

export function getLinkAt(index: number): NetlinkRequest {
  return { type: MessageType.GETLINK, flags: 0, data: linkBytes(index, {}, { extMask: SKIP_STATS }) };
}

export function dumpLinks(): NetlinkRequest {
  return { type: MessageType.GETLINK, flags: 0, data: linkBytes(0, {}, { extMask: SKIP_STATS }) };
}

interface LinkFlags {
  readonly up?: boolean | undefined;
  readonly noArp?: boolean | undefined;
  readonly promisc?: boolean | undefined;
}

function linkBytes(index: number, { up, noArp, promisc }: LinkFlags, attrs: LinkAttrs): Buffer {
  return bytes((out) => {
    const noarp = { ...(noArp === true && { noarp: true as const }) };
    const flags = { ...(up === true && { up }), ...noarp, ...(promisc === true && { promisc }) };
    const touched = {
      ...(up !== undefined && { up: true as const }),
      ...(promisc !== undefined && { promisc: true as const }),
    };
    const change = { ...touched, ...noarp };
    formatLinkMessage({ kind: 'link', data: { index, flags, change }, attrs }, out);
  });
}

/** What addr.add asks for; with NLM_F_EXCL, so that an address that is there already is told from one that was added. */
export function addAddress(index: number, address: Prefix): NetlinkRequest {
  return {
    type: MessageType.NEWADDR,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    data: withProtocol(addressBytes(index, address)),
  };
}

/** IFA_PROTO of linux/if_addr.h, from Linux 5.18 on; older ones ignore it. The number is that of our routes. */
export const IFA_PROTO = 11;
const OURS = Buffer.from([5, 0, IFA_PROTO, 0, ROUTE_PROTOCOL, 0, 0, 0]);

/** Where ip(8) has it: behind IFA_LOCAL, the first attribute after the 8 bytes of struct ifaddrmsg. */
function withProtocol(message: Buffer): Buffer {
  const behind = 8 + message.readUInt16LE(8);
  return Buffer.concat([message.subarray(0, behind), OURS, message.subarray(behind)]);
}

export function deleteAddress(index: number, address: Prefix): NetlinkRequest {
  return { type: MessageType.DELADDR, flags: 0, data: addressBytes(index, address) };
}

/** IFA_LOCAL is ours and IFA_ADDRESS the other end's: the same, unless the link is point-to-point. */
function addressBytes(index: number, address: Prefix): Buffer {
  const v6 = familyOfPrefix(address) === 6;
  const own = Buffer.from(ipBytes(addressOf(address)));
  const data = { family: v6 ? AF_INET6 : AF_INET, prefixlen: lengthOf(address), index };
  const attrs = { local: own, address: own };
  return bytes((out) => {
    formatAddressMessage(
      { kind: 'address', data: { ...data, ...(v6 && { flags: { nodad: true } }) }, attrs },
      out,
    );
  });
}

export function dumpAddresses(): NetlinkRequest {
  const data = bytes((out) => {
    formatAddressMessage({ kind: 'address', data: { family: AF_UNSPEC }, attrs: {} }, out);
  });
  return { type: MessageType.GETADDR, flags: 0, data };
}

export interface NewRoute {
  readonly to: Prefix;
  readonly via?: Ip;
  readonly index?: number;
}

/** With NLM_F_EXCL: never beside or instead of somebody's route to the same destination. */
export function addRoute(route: NewRoute): NetlinkRequest {
  const scope = route.via === undefined ? RouteScope.LINK : RouteScope.UNIVERSE;
  return {
    type: MessageType.NEWROUTE,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    data: routeBytes(route, scope),
  };
}

/** Only one of ours: the kernel compares rtm_protocol too. */
export function deleteRoute(route: NewRoute): NetlinkRequest {
  return { type: MessageType.DELROUTE, flags: 0, data: routeBytes(route, ANY_SCOPE) };
}

function routeBytes({ to, via, index }: NewRoute, scope: RouteScope): Buffer {
  const length = lengthOf(to);
  const data = {
    family: familyOfPrefix(to) === 6 ? AF_INET6 : AF_INET,
    dstLen: length,
    table: MAIN_TABLE,
    protocol: OUR_PROTOCOL,
    scope,
    type: RouteType.UNICAST,
  };
  const attrs = {
    ...(length > 0 && { dst: Buffer.from(ipBytes(addressOf(networkOf(to)))) }),
    ...(via !== undefined && { gateway: Buffer.from(ipBytes(via)) }),
    ...(index !== undefined && { oif: index }),
  };
  return bytes((out) => {
    formatRouteMessage({ kind: 'route', data, attrs }, out);
  });
}

export function dumpRoutes(family: 4 | 6): NetlinkRequest {
  const data = bytes((out) => {
    formatRouteMessage(
      { kind: 'route', data: { family: family === 6 ? AF_INET6 : AF_INET }, attrs: {} },
      out,
    );
  });
  return { type: MessageType.GETROUTE, flags: 0, data };
}

/**
 * `mac` for an address that the host has looked up already, of whatever state; ENOENT when it has not. Stale (NUD_STALE): it is used,
 * and checked when it is.
 */
export function changeNeighbour(index: number, address: Ip, mac: Mac): NetlinkRequest {
  const own = Buffer.from(ipBytes(address));
  const data = bytes((out) => {
    formatNeighborMessage(
      {
        kind: 'neighbor',
        data: {
          family: familyOf(address) === 6 ? AF_INET6 : AF_INET,
          ifindex: index,
          state: { stale: true },
        },
        attrs: { dst: own, lladdr: Buffer.from(macBytes(mac)) },
      },
      out,
    );
  });
  return { type: MessageType.NEWNEIGH, flags: NLM_F_REPLACE, data };
}

function padded(data: Buffer): Buffer {
  return Buffer.concat([data, Buffer.alloc(-data.length & 3)]);
}

function bytes(stream: StreamData): Buffer {
  const out = new AttrStream();
  out.emit(stream);
  return Buffer.concat(out.bufs);
}

export function gatewayFits({ to, via }: NewRoute): boolean {
  return via === undefined || familyOf(via) === familyOfPrefix(to);
}
