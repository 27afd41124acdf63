/** Ethernet frames sent as they are, by a packet socket (packet(7)) of the daemon's namespace that hears nothing. */
import { close, closeSync } from 'node:fs';
import { promisify } from 'node:util';
import { KernelError } from './kernel.ts';
import type { KernelLog } from './linux.ts';
import { withNetns } from './netns.ts';
import { SOCKADDR_LL_LENGTH } from './packet-socket.ts';
import { AF_PACKET, SOCK_CLOEXEC, SOCK_RAW } from './socket-numbers.ts';
import type { NetnsPath } from './step.ts';
import type { Syscalls } from './syscall.ts';

export interface FrameSender {
  /** By the link with that index, soon. Lost where it is down or gone: nobody is there to hear. `netns` absent: in the daemon's namespace. */
  send(index: number, frames: readonly Uint8Array[], netns?: NetnsPath): void;
  close(): Promise<void>;
}

/** Protocol 0: the socket is given no packet, so that the kernel makes no copy for it. */
const NO_PROTOCOL = 0;
/** Of struct sockaddr_ll only family and interface count for a frame that brings its own header. */
const INDEX_AT = 4;

/** Kept open: the kernel lets all processors pass before it closes one (packet_release(), synchronize_net()). */
export function openFrameSender(sys: Syscalls, log: KernelLog): FrameSender {
  const fd = open(sys, log);
  const underWay = new Set<Promise<void>>();
  return {
    send(index, frames, netns) {
      if (fd === undefined) return;
      const to = Buffer.alloc(SOCKADDR_LL_LENGTH);
      to.writeUInt16LE(AF_PACKET, 0);
      to.writeInt32LE(index, INDEX_AT);
      const sending = netns === undefined ? sendAll(sys, fd, frames, to) : sendIn(sys, netns, frames, to);
      const sent = sending.finally(() => underWay.delete(sent));
      underWay.add(sent);
    },
    async close() {
      await Promise.all(underWay);
      if (fd !== undefined) closeSync(fd);
    },
  };
}

/** Nothing depends on what is sent here but the speed at which neighbours notice: without CAP_NET_RAW it goes without. */
function open(sys: Syscalls, log: KernelLog): number | undefined {
  try {
    return sys.socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, NO_PROTOCOL);
  } catch (error) {
    if (!(error instanceof KernelError && ['EPERM', 'EACCES', 'EAFNOSUPPORT'].includes(error.errno)))
      throw error;
    log.warn({ error: error.message }, 'no packet socket (CAP_NET_RAW): addresses are not announced');
    return undefined;
  }
}

/** By a socket that is not kept, because it would keep the namespace. It is closed on another thread, which has to wait there. */
async function sendIn(
  sys: Syscalls,
  netns: NetnsPath,
  frames: readonly Uint8Array[],
  to: Uint8Array,
): Promise<void> {
  try {
    const fd = withNetns(sys, netns, () => sys.socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, NO_PROTOCOL));
    await sendAll(sys, fd, frames, to);
    await promisify(close)(fd);
  } catch (error) {
    // The namespace has ended meanwhile.
    if (!(error instanceof KernelError)) throw error;
  }
}

/**
 * On another thread: within the call a frame to everybody goes through every port of a bridge and through the stack of whoever is behind
 * it, 8 µs for each.
 */
async function sendAll(
  sys: Syscalls,
  fd: number,
  frames: readonly Uint8Array[],
  to: Uint8Array,
): Promise<void> {
  for (const frame of frames) await sys.sendToAside(fd, frame, to).catch(() => undefined);
}
