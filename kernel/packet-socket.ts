/**
 * A packet socket (packet(7)) on a link of the daemon's namespace: whole frames, whatever MAC they are for, before a macvlan link on it
 * takes them away (`ETH_P_ALL` comes before rx_handler in __netif_receive_skb_core()). It does not make the link promiscuous.
 */
import { close, closeSync } from 'node:fs';
import { type Mac, macBytes } from '../address/mac.ts';
import { KernelError } from './kernel.ts';
import type { Instruction, Syscalls } from './syscall.ts';

export interface PacketSocket {
  /** As LinkTap.admit; a group's, too. */
  admit(mac: Mac): void;
  /** False: the link is down or gone, or there is no room. */
  send(frame: Uint8Array): boolean;
  /** Of the next frame that the filter has let through; it is overwritten by the one after. */
  receive(): Uint8Array | undefined;
  close(): void;
}

const AF_PACKET = 17;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_PACKET = 263;
/** Without it the kernel makes a copy of each frame that goes out (dev_queue_xmit_nit()). */
const PACKET_IGNORE_OUTGOING = 23;
const PACKET_ADD_MEMBERSHIP = 1;
/** struct packet_mreq: the link, what kind, and an address of up to 8 bytes. */
const MREQ = { size: 16, type: 4, length: 6, address: 8, multicast: 0, unicast: 3 } as const;
const ETH_P_ALL = 3;
const SOCKADDR_LL_LENGTH = 20;
const SIOCGIFINDEX = 0x8933;
/** struct ifreq: the name, then a union of 24 bytes. */
const IFREQ = { size: 40, name: 16 } as const;
const FRAME_MAX = 65_536;

/** @throws KernelError ENODEV when there is no such link, EPERM without CAP_NET_RAW. */
export function openPacketSocket(sys: Syscalls, link: string, filter: readonly Instruction[]): PacketSocket {
  // Protocol 0: nothing is heard before the filter is there.
  const fd = sys.socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  try {
    const index = indexOf(sys, fd, link);
    sys.filter(fd, filter);
    sys.setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
    sys.bind(fd, linkAddress(index));
    return socketOf(sys, fd, index);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function socketOf(sys: Syscalls, fd: number, index: number): PacketSocket {
  const to = linkAddress(index);
  const from = Buffer.alloc(SOCKADDR_LL_LENGTH);
  const admitted = new Set<Mac>();
  let into: Buffer | undefined;
  return {
    admit(mac) {
      if (admitted.has(mac)) return;
      admitted.add(mac);
      orNothing(() => {
        sys.setOption(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership(index, mac));
      });
    },
    send: (frame) => orNothing(() => sys.sendTo(fd, frame, to)) ?? false,
    receive() {
      const buffer = (into ??= Buffer.alloc(FRAME_MAX));
      const length = orNothing(() => sys.receive(fd, buffer, from));
      return length === undefined ? undefined : buffer.subarray(0, Math.min(length, FRAME_MAX));
    },
    // On another thread: the kernel lets all processors pass before it closes one (packet_release(), synchronize_net()).
    close() {
      close(fd);
    },
  };
}

/** A link that is down or gone: nothing comes and nothing goes. Whoever waits for an answer waits in vain, as with a cable that is out. */
function orNothing<T>(act: () => T): T | undefined {
  try {
    return act();
  } catch (error) {
    if (error instanceof KernelError) return undefined;
    throw error;
  }
}

function indexOf(sys: Syscalls, fd: number, link: string): number {
  const request = Buffer.alloc(IFREQ.size);
  request.write(link, 0, IFREQ.name - 1);
  sys.ioctl(fd, SIOCGIFINDEX, request);
  return request.readInt32LE(IFREQ.name);
}

function membership(index: number, mac: Mac): Buffer {
  const bytes = macBytes(mac);
  const request = Buffer.alloc(MREQ.size);
  request.writeInt32LE(index, 0);
  request.writeUInt16LE(((bytes[0] ?? 0) & 1) === 1 ? MREQ.multicast : MREQ.unicast, MREQ.type);
  request.writeUInt16LE(bytes.length, MREQ.length);
  request.set(bytes, MREQ.address);
  return request;
}

/** struct sockaddr_ll, for all protocols. */
function linkAddress(index: number): Buffer {
  const address = Buffer.alloc(SOCKADDR_LL_LENGTH);
  address.writeUInt16LE(AF_PACKET, 0);
  address.writeUInt16BE(ETH_P_ALL, 2);
  address.writeInt32LE(index, 4);
  return address;
}
