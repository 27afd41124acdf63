/**
 * Tracked connections to published ports, forgotten when a port changes hands: else packets of an old flow go on to the former
 * owner, or stay untranslated, as long as its sender goes on (moby/moby#8795). By netlink (linux/netfilter/nfnetlink_conntrack.h):
 * one dump however many ports, and each deletion names one entry.
 */
import { ipFromBytes, isAny } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import { addressOf } from '../address/prefix.ts';
import { decodeAddress } from './decode.ts';
import { attribute, fields, nested } from './attribute.ts';
import { KernelError } from './kernel.ts';
import { NETLINK_NETFILTER, openNetlinkSocket } from './netlink.ts';
import type { NetlinkRequest, NetlinkSocket } from './netlink.ts';
import { portName, portNumbers } from './ports.ts';
import type { Ports } from './ports.ts';
import { dumpAddresses } from './rtnetlink.ts';
import { AF_INET6, familyNumber } from './socket-numbers.ts';
import type { Syscalls } from './syscall.ts';

export interface Conntrack {
  /**
   * Forget the connections that were opened to these ports of this host: by their original destination, whether it was translated or
   * not. What only passes through the host to the same port elsewhere is left alone. Success where nothing is tracked at all.
   */
  forget(ports: readonly Ports[]): void;
  close(): void;
}

/** @param route A socket of the namespace's rtnetlink: it is asked for the host's addresses. */
export function openConntrack(sys: Syscalls, route: NetlinkSocket): Conntrack {
  const socket = openNetlinkSocket(sys, NETLINK_NETFILTER);
  return {
    forget: (ports) => {
      forget(socket, route, ports);
    },
    close: () => {
      socket.close();
    },
  };
}

/** Deletions in one sendmsg: the answers to so many fit even a small receive buffer. */
const BATCH = 64;

function forget(socket: NetlinkSocket, route: NetlinkSocket, ports: readonly Ports[]): void {
  const wanted = new Set(ports.flatMap((one) => portNumbers(one).map((port) => portName(one, port))));
  const local = localAddresses(ports, route);
  const stale = entries(socket, ports).filter((entry) => {
    const { proto, address, port } = entry;
    if (wanted.has(portName({ proto, address }, port))) return true;
    const any = address.includes(':') ? ANY6 : ANY4;
    return wanted.has(portName({ proto, address: any }, port)) && isLocal(address, local);
  });
  for (let at = 0; at < stale.length; at += BATCH) {
    const { failures } = socket.transact(stale.slice(at, at + BATCH).map(deletion));
    const failure = failures.find(({ errno }) => errno !== 'ENOENT');
    if (failure !== undefined) throw new KernelError('conntrack -D', failure.errno, failure.detail);
  }
}

const ANY4 = '0.0.0.0' as Ip;
const ANY6 = '::' as Ip;

/** Asked for only when a port of every address is among the ports. */
function localAddresses(ports: readonly Ports[], route: NetlinkSocket): ReadonlySet<Ip> {
  if (!ports.some(({ address }) => isAny(address))) return new Set();
  const held = route.dump(dumpAddresses(), decodeAddress);
  return new Set(held.map(({ prefix }) => addressOf(prefix)));
}

/** All of 127.0.0.0/8 is the host's. */
function isLocal(address: Ip, local: ReadonlySet<Ip>): boolean {
  return address.startsWith('127.') || local.has(address);
}

const NFNL_SUBSYS_CTNETLINK = 1;
const IPCTNL_MSG_CT_GET = 1;
const IPCTNL_MSG_CT_DELETE = 2;
const CTA_TUPLE_ORIG = 1;
const CTA_ID = 12;
const CTA_ZONE = 18;
const CTA_FILTER = 25;
const CTA_FILTER_ORIG_FLAGS = 1;
/** CTA_FILTER_F_CTA_PROTO_NUM, net/netfilter/nf_internals.h. */
const FILTER_PROTOCOL = Buffer.of(1 << 3, 0, 0, 0);
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_IP_V4_DST = 2;
const CTA_IP_V6_DST = 4;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_DST_PORT = 3;
const PROTOCOLS = { tcp: 6, udp: 17, sctp: 132 } as const;

/** A connection by its original destination, and what names it to the kernel. */
interface Entry {
  readonly proto: Ports['proto'];
  readonly address: Ip;
  readonly port: number;
  readonly family: number;
  readonly identity: Buffer;
}

function entries(socket: NetlinkSocket, ports: readonly Ports[]): readonly Entry[] {
  const kinds = new Map(
    ports.map(({ proto, address }) => [`${proto} ${familyNumber(address)}`, { proto, address }]),
  );
  return [...kinds.values()].flatMap(({ proto, address }) => dump(socket, proto, familyNumber(address)));
}

/**
 * The kernel looks for the protocol (CTA_FILTER, Linux 5.8): on a busy host most of what it tracks is tcp. An older one passes over
 * the attribute and shows everything, which `decode` sifts.
 */
function dump(socket: NetlinkSocket, proto: Ports['proto'], family: number): readonly Entry[] {
  try {
    return socket.dump(dumpRequest(proto, family), ({ data }) => decode(data, proto, family));
  } catch (error) {
    // Nothing is tracked where the kernel has no nf_conntrack_netlink (nfnetlink_rcv_msg(): EINVAL for a subsystem that is not there).
    if (error instanceof KernelError && ['EINVAL', 'EOPNOTSUPP'].includes(error.errno)) return [];
    throw error;
  }
}

function dumpRequest(proto: Ports['proto'], family: number): NetlinkRequest {
  const protocol = nested(CTA_TUPLE_PROTO, attribute(CTA_PROTO_NUM, Buffer.of(PROTOCOLS[proto])));
  const data = Buffer.concat([
    Buffer.of(family, 0, 0, 0),
    nested(CTA_TUPLE_ORIG, protocol),
    nested(CTA_FILTER, attribute(CTA_FILTER_ORIG_FLAGS, FILTER_PROTOCOL)),
  ]);
  return { type: (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET, flags: 0, data };
}

/** By tuple, zone and id: not another connection that took the tuple meanwhile. */
function deletion({ family, identity }: Entry): NetlinkRequest {
  const data = Buffer.concat([Buffer.of(family, 0, 0, 0), identity]);
  return { type: (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_DELETE, flags: 0, data };
}

/** Undefined: of another protocol or family. */
function decode(message: Buffer, proto: Ports['proto'], family: number): Entry | undefined {
  if (message[0] !== family) return undefined;
  const parts = fields(message.subarray(4));
  const tuple = fields(parts.get(CTA_TUPLE_ORIG));
  const transport = fields(tuple.get(CTA_TUPLE_PROTO));
  const address = fields(tuple.get(CTA_TUPLE_IP)).get(family === AF_INET6 ? CTA_IP_V6_DST : CTA_IP_V4_DST);
  const port = transport.get(CTA_PROTO_DST_PORT);
  if (transport.get(CTA_PROTO_NUM)?.[0] !== PROTOCOLS[proto]) return undefined;
  if (address === undefined || port === undefined) return undefined;
  const identity = [CTA_TUPLE_ORIG, CTA_ZONE, CTA_ID].flatMap((type) => {
    const value = parts.get(type);
    if (value === undefined) return [];
    return [type === CTA_TUPLE_ORIG ? nested(type, value) : attribute(type, value)];
  });
  return {
    proto,
    address: ipFromBytes(address),
    port: port.readUInt16BE(),
    family,
    identity: Buffer.concat(identity),
  };
}
