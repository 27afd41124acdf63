/**
 * Whole frames on a link of the daemon's namespace, whatever MAC they are for, by a packet socket that hears nothing of what leaves. It
 * does not make the link promiscuous.
 */
import { close } from 'node:fs';
import { type Mac, macBytes } from '../address/mac.ts';
import { KernelError } from './kernel.ts';
import { openPacketSocket, SOCKADDR_LL_LENGTH } from './packet-socket.ts';
import { SOL_PACKET } from './socket-numbers.ts';
import type { Instruction, Syscalls } from './syscall.ts';

export interface FrameSocket {
  /** As LinkTap.admit; a group's, too. */
  admit(mac: Mac): void;
  /** False: the link is down or gone, or there is no room. */
  send(frame: Uint8Array): boolean;
  /** Of the next frame that the filter has let through; it is overwritten by the one after. */
  receive(): Uint8Array | undefined;
  close(): void;
}

const PACKET_ADD_MEMBERSHIP = 1;
/** struct packet_mreq: the link, what kind, and an address of up to 8 bytes. */
const MREQ = { size: 16, type: 4, length: 6, address: 8, multicast: 0, unicast: 3 } as const;
/** sll_ifindex of struct sockaddr_ll. */
const INDEX_AT = 4;
const FRAME_MAX = 65_536;

/** @throws KernelError ENODEV when there is no such link, EPERM without CAP_NET_RAW. */
export function openFrameSocket(sys: Syscalls, link: string, filter: readonly Instruction[]): FrameSocket {
  const { fd, to } = openPacketSocket(sys, link, filter, false);
  const index = to.readInt32LE(INDEX_AT);
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

function membership(index: number, mac: Mac): Buffer {
  const bytes = macBytes(mac);
  const request = Buffer.alloc(MREQ.size);
  request.writeInt32LE(index, 0);
  request.writeUInt16LE(((bytes[0] ?? 0) & 1) === 1 ? MREQ.multicast : MREQ.unicast, MREQ.type);
  request.writeUInt16LE(bytes.length, MREQ.length);
  request.set(bytes, MREQ.address);
  return request;
}
