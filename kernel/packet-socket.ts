/** Packet sockets (packet(7)) that hear what passes a link, whatever MAC and address it is for, and before a macvlan link on it takes it away. */
import { closeSync } from 'node:fs';
import { AF_PACKET, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_RAW, SOL_PACKET } from './socket-numbers.ts';
import type { Instruction, Syscalls } from './syscall.ts';

const PACKET_IGNORE_OUTGOING = 23;
const ETH_P_ALL = 3;
export const SOCKADDR_LL_LENGTH = 20;
/** sll_pkttype of struct sockaddr_ll, and its value for what leaves by the link. */
export const PACKET_TYPE_AT = 10;
export const PACKET_OUTGOING = 4;
const SIOCGIFINDEX = 0x8933;
/** struct ifreq: the name, then a union of 24 bytes. */
const IFREQ = { size: 40, name: 16 } as const;

/** Of the kernel's own fields of a frame (SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT): a VLAN's frames pass its parent, too. */
export const VLAN_TAG_PRESENT = 0xfffff000 + 48;

export interface PacketSocket {
  readonly fd: number;
  /** struct sockaddr_ll: where to send, so that it leaves by this link. */
  readonly to: Buffer;
}

/**
 * On a link of the namespace that the thread is in. `outgoing` false: what leaves is not heard, and the kernel makes no copy of it
 * (dev_queue_xmit_nit()).
 * @throws KernelError ENODEV when there is no such link, ENETDOWN when it is down, EPERM without CAP_NET_RAW.
 */
export function openPacketSocket(
  sys: Syscalls,
  link: string,
  filter: readonly Instruction[],
  outgoing: boolean,
): PacketSocket {
  // Protocol 0: nothing is heard before the filter is there.
  const fd = sys.socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  try {
    const to = linkAddress(indexOf(sys, fd, link));
    sys.filter(fd, filter);
    if (!outgoing) sys.setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
    sys.bind(fd, to);
    return { fd, to };
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function indexOf(sys: Syscalls, fd: number, link: string): number {
  const request = Buffer.alloc(IFREQ.size);
  request.write(link, 0, IFREQ.name - 1);
  sys.ioctl(fd, SIOCGIFINDEX, request);
  return request.readInt32LE(IFREQ.name);
}

/** struct sockaddr_ll, for all protocols. */
function linkAddress(index: number): Buffer {
  const address = Buffer.alloc(SOCKADDR_LL_LENGTH);
  address.writeUInt16LE(AF_PACKET, 0);
  address.writeUInt16BE(ETH_P_ALL, 2);
  address.writeInt32LE(index, 4);
  return address;
}
