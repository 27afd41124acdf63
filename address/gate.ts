/**
 * Addresses of gates, the veth pairs by which packets that the host's input policy has let in come back to be translated
 * (drivers/bridge/gate.ts). A rule copies packets to `beyond`, and the route to it leads into a gate. All gates of all hosts have
 * the same: any of them will do, and nobody else talks to them. One of IPv4's link-local addresses (RFC 3927), and one of a prefix
 * whose 40 bits were drawn once (RFC 4193: the beginning of SHA-256 of "cnm gate").
 */
import { ip } from './ip.ts';
import { prefix } from './prefix.ts';

export const GATE = {
  4: { near: prefix('169.254.157.122/31'), beyond: ip('169.254.157.123') },
  6: { near: prefix('fd9d:7b6a:6d2f::/127'), beyond: ip('fd9d:7b6a:6d2f::1') },
} as const;
