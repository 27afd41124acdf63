/** Sockets for others than the kernel part, opened in the one way in which they can be in another namespace: at once, and as descriptors. */
import { closeSync } from 'node:fs';
import { familyOf, ipBytes } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import { KernelError } from './kernel.ts';
import type { SocketAddress } from './kernel.ts';
import { withNetns } from './netns.ts';
import { portOwner } from './port-owner.ts';
import {
  AF_INET,
  AF_INET6,
  IPPROTO_IPV6,
  IPV6_V6ONLY,
  SO_REUSEADDR,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
} from './socket-numbers.ts';
import type { NetnsPath } from './step.ts';
import type { Syscalls } from './syscall.ts';

/** As Kernel.bindSockets. */
export function bindSockets(
  sys: Syscalls,
  sockets: readonly SocketAddress[],
  netns: NetnsPath | undefined,
): readonly number[] {
  const open = () => openAll(sys, sockets);
  return netns === undefined ? open() : withNetns(sys, netns, open);
}

function openAll(sys: Syscalls, sockets: readonly SocketAddress[]): readonly number[] {
  const open: number[] = [];
  try {
    for (const wanted of sockets) open.push(openOne(sys, wanted));
    return open;
  } catch (error) {
    for (const fd of open) closeSync(fd);
    throw error;
  }
}

function openOne(sys: Syscalls, { proto, address, port }: SocketAddress): number {
  const v6 = familyOf(address) === 6;
  const type = (proto === 'udp' ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
  const fd = sys.socket(v6 ? AF_INET6 : AF_INET, type, 0);
  try {
    if (v6) sys.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    // Connections of before a restart that linger are no hindrance. For udp it would let others share the port.
    if (proto === 'tcp') sys.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    sys.bind(fd, socketAddress(address, port));
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error instanceof KernelError ? explained(error, { proto, address, port }) : error;
  }
}

function explained({ errno, detail }: KernelError, { proto, address, port }: SocketAddress): KernelError {
  const what = `${address.includes(':') ? `[${address}]` : address}:${port}/${proto}`;
  const held =
    errno === 'EADDRINUSE' ? `held by ${portOwner(proto, address, port) ?? 'another process'}` : detail;
  return new KernelError(`bind ${what}`, errno, held);
}

/** struct sockaddr_in or sockaddr_in6. */
export function socketAddress(address: Ip, port: number): Buffer {
  const v6 = familyOf(address) === 6;
  const bytes = Buffer.alloc(v6 ? 28 : 16);
  bytes.writeUInt16LE(v6 ? AF_INET6 : AF_INET, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(ipBytes(address), v6 ? 8 : 4);
  return bytes;
}
