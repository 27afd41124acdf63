/** Numbers of socket(2) and setsockopt(2) that several files need: linux/socket.h, linux/net.h, asm-generic/socket.h, linux/in.h, linux/in6.h. */
import { familyOf } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';

export const AF_UNSPEC = 0;
export const AF_INET = 2;
export const AF_BRIDGE = 7;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
export const AF_PACKET = 17;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;
export const SOL_SOCKET = 1;
export const SOL_PACKET = 263;
export const SO_REUSEADDR = 2;
export const SO_SNDBUFFORCE = 32;
export const SO_RCVBUFFORCE = 33;
export const IPPROTO_UDP = 17;
export const IPPROTO_IPV6 = 41;
export const IPPROTO_ESP = 50;
export const IPPROTO_ICMP = 1;
export const IPPROTO_ICMPV6 = 58;
export const IPV6_V6ONLY = 26;

export function familyNumber(address: Ip): number {
  return familyOf(address) === 6 ? AF_INET6 : AF_INET;
}
