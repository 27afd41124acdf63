/** Sockets for what tests the way to other hosts: ICMP, datagrams that no router may cut, and frames whose checksum is left to a device. */
import { close, closeSync } from 'node:fs';
import { familyOf, ipFromBytes } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import { socketAddress } from './bound-sockets.ts';
import type { PartialChecksum, ProbeSocket, ProbeSocketOptions } from './kernel.ts';
import { withNetns } from './netns.ts';
import { SOCKADDR_LL_LENGTH } from './packet-socket.ts';
import {
  AF_INET,
  AF_INET6,
  AF_PACKET,
  IPPROTO_ICMP,
  IPPROTO_ICMPV6,
  IPPROTO_IPV6,
  IPV6_V6ONLY,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_RAW,
  SOL_PACKET,
} from './socket-numbers.ts';
import type { NetnsPath } from './step.ts';
import type { Syscalls } from './syscall.ts';

const SOCK_FLAGS = SOCK_NONBLOCK | SOCK_CLOEXEC;
const IPPROTO_IP = 0;
const SOL_RAW = 255;
const IP_MTU_DISCOVER = 10;
const IPV6_MTU_DISCOVER = 23;
const IPV6_DONTFRAG = 62;
const ICMP_FILTER = 1;
const PACKET_VNET_HDR = 15;
/** IP_PMTUDISC_PROBE: whatever a router said before, the datagram goes, and whole or not at all. */
const PMTUDISC_PROBE = 3;
/** struct icmp_filter: a bit for each type that is not wanted. Echo reply, destination unreachable and echo request are. */
const UNWANTED = ~((1 << 0) | (1 << 3) | (1 << 8));
const MESSAGE_BYTES = 65_536;

/** As Kernel.probeSocket. */
export function openProbeSocket(sys: Syscalls, options: ProbeSocketOptions): ProbeSocket {
  const { netns } = options;
  const fd = netns === undefined ? open(sys, options) : withNetns(sys, netns, () => open(sys, options));
  const into = Buffer.allocUnsafe(MESSAGE_BYTES);
  const from = Buffer.alloc(28);
  let isOpen = true;
  const next = (): Buffer | undefined => {
    const length = sys.receive(fd, into, from);
    return length === undefined ? undefined : Buffer.from(into.subarray(0, Math.min(length, into.length)));
  };
  return {
    drain(onMessage) {
      for (let message = next(); message !== undefined; message = next())
        onMessage(options.kind === 'icmp' ? withoutHeader(message, options.address) : message, sender(from));
    },
    send(message, to, port = 0) {
      sys.sendTo(fd, message, socketAddress(to, port));
    },
    close() {
      if (isOpen) closeSync(fd);
      isOpen = false;
    },
  };
}

function open(sys: Syscalls, { kind, address, port = 0, deaf }: ProbeSocketOptions): number {
  const v6 = familyOf(address) === 6;
  const [type, protocol] = kind === 'icmp' ? [SOCK_RAW, v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP] : [SOCK_DGRAM, 0];
  const fd = sys.socket(v6 ? AF_INET6 : AF_INET, type | SOCK_FLAGS, protocol);
  try {
    if (kind === 'icmp' && !v6) sys.setsockopt(fd, SOL_RAW, ICMP_FILTER, UNWANTED);
    if (kind === 'udp') neverCut(sys, fd, v6);
    if (deaf === true) sys.dropAll(fd);
    sys.bind(fd, socketAddress(address, port));
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function neverCut(sys: Syscalls, fd: number, v6: boolean): void {
  if (!v6) {
    sys.setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE);
    return;
  }
  sys.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  sys.setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE);
  sys.setsockopt(fd, IPPROTO_IPV6, IPV6_DONTFRAG, 1);
}

/** A raw socket of IPv4 hands over the IP header too (raw(7)), one of IPv6 does not (RFC 3542 section 3). */
function withoutHeader(message: Buffer, local: Ip): Buffer {
  return familyOf(local) === 6 ? message : message.subarray(((message[0] ?? 0) & 0x0f) * 4);
}

function sender(from: Buffer): Ip {
  return ipFromBytes(from.readUInt16LE(0) === AF_INET6 ? from.subarray(8, 24) : from.subarray(4, 8));
}

/** struct sockaddr_ll */

/** struct virtio_net_hdr: flags, kind and sizes of a segmentation that there is none of, and the place of the checksum. */
const VNET_HEADER_BYTES = 10;
const NEEDS_CHECKSUM = 1;

/**
 * A frame as the kernel's own TCP sends it: with the checksum left to whatever device it leaves by (CHECKSUM_PARTIAL). The socket is closed
 * on another thread, which has to wait there (packet_release()).
 */
export function sendUnfinished(
  sys: Syscalls,
  netns: NetnsPath,
  index: number,
  frame: Uint8Array,
  { start, offset }: PartialChecksum,
): void {
  const header = Buffer.alloc(VNET_HEADER_BYTES);
  header[0] = NEEDS_CHECKSUM;
  header.writeUInt16LE(start, 6);
  header.writeUInt16LE(offset, 8);
  const to = Buffer.alloc(SOCKADDR_LL_LENGTH);
  to.writeUInt16LE(AF_PACKET, 0);
  to.writeInt32LE(index, 4);
  const fd = withNetns(sys, netns, () => sys.socket(AF_PACKET, SOCK_RAW | SOCK_FLAGS, 0));
  try {
    sys.setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, 1);
    sys.sendTo(fd, Buffer.concat([header, frame]), to);
  } finally {
    close(fd, () => undefined);
  }
}
