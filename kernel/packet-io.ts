/** What a thread that moves packets does with the kernel: all of it at once or not at all, but for the one wait for any of its descriptors. */
import { closeSync } from 'node:fs';
import { familyOf } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import { socketAddress } from './bound-sockets.ts';
import { PacketBatch } from './packet-batch.ts';
import {
  AF_INET,
  AF_INET6,
  IPPROTO_IPV6,
  IPV6_V6ONLY,
  SO_RCVBUFFORCE,
  SO_SNDBUFFORCE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOL_SOCKET,
} from './socket-numbers.ts';
import { loadSyscalls, POLLFD_BYTES } from './syscall.ts';
import type { Syscalls } from './syscall.ts';

const BUFFER_BYTES = 4 * 1024 * 1024;
const POLLIN = 1;

export class PacketIo {
  readonly #sys: Syscalls = loadSyscalls();
  #polled = Buffer.alloc(0);
  #fds: readonly number[] = [];

  /** A UDP socket of the thread's namespace. @throws KernelError EADDRINUSE, EADDRNOTAVAIL */
  openUdp(address: Ip, port: number): number {
    const family = familyOf(address) === 6 ? AF_INET6 : AF_INET;
    const fd = this.#sys.socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    try {
      if (family === AF_INET6) this.#sys.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
      this.#sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES);
      this.#sys.setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_BYTES);
      this.#sys.bind(fd, socketAddress(address, port));
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** The descriptors that `wait` looks at from now on. */
  watch(fds: readonly number[]): void {
    this.#fds = fds;
    this.#polled = Buffer.alloc(fds.length * POLLFD_BYTES);
    for (const [index, fd] of fds.entries()) {
      this.#polled.writeInt32LE(fd, index * POLLFD_BYTES);
      this.#polled.writeInt16LE(POLLIN, index * POLLFD_BYTES + 4);
    }
  }

  /** Those that have something to read, or have failed; none after `timeout` ms. */
  wait(timeout: number): readonly number[] {
    if (this.#sys.poll(this.#polled, timeout) === 0) return [];
    return this.#fds.filter((_, index) => this.#polled.readInt16LE(index * POLLFD_BYTES + 6) !== 0);
  }

  /** The next frame; undefined when there is none. @throws KernelError when the device is gone. */
  read(fd: number, into: Uint8Array): number | undefined {
    return this.#sys.read(fd, into);
  }

  /** False: there was no room. @throws KernelError when the device is down or gone. */
  write(fd: number, frame: Uint8Array): boolean {
    return this.#sys.write(fd, frame);
  }

  /** Datagrams of up to `room` bytes, many at a time. */
  batch(room: number): PacketBatch {
    return new PacketBatch(this.#sys, room);
  }
}

/** The address alone, as text: the port that a VXLAN datagram comes from means nothing (RFC 7348 section 5). */
export function hostKey(from: Buffer): string {
  return from.toString('latin1', ...(from.readUInt16LE(0) === AF_INET6 ? [8, 24] : [4, 8]));
}
