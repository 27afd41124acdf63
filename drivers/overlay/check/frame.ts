/**
 * What a test sends through a tunnel: a UDP datagram in an Ethernet frame to the MAC of another host's bridge. From no address to
 * everybody (RFC 919 section 7), because no host knows the other one's addresses in there; its bridge's MAC follows from what is known
 * (plan.ts), so that no container sees it. Pure.
 */
import { macBytes, type Mac } from '../../../address/mac.ts';
import { VXLAN_HEADER_BYTES, writeVxlanHeader } from '../vxlan.ts';

/** Where a host listens for it, inside the network's namespace and there alone. Of the dynamic ports (RFC 6335 section 6). */
export const PROBE_PORT = 60_789;

const ETHERNET = 14;
const IPV4 = 20;
const UDP = 8;
/** What comes before the message, in an IP packet's length. */
export const PACKET_OVERHEAD = IPV4 + UDP;
const TTL = 1;
const PROTOCOL_UDP = 17;

/** Where the device is to put the checksum of a frame, as Kernel.sendUnfinished has it. */
export const CHECKSUM = { start: ETHERNET + IPV4, offset: 6 } as const;

export interface FrameSpec {
  readonly from: Mac;
  readonly to: Mac;
  readonly message: Uint8Array;
  /** Left to a device: the checksum's field then has the sum of the pseudo header, as the kernel does it (CHECKSUM_PARTIAL). */
  readonly unfinished?: boolean;
}

export function probeFrame({ from, to, message, unfinished = false }: FrameSpec): Buffer {
  const frame = Buffer.alloc(ETHERNET + IPV4 + UDP + message.length);
  frame.set(macBytes(to), 0);
  frame.set(macBytes(from), 6);
  frame.writeUInt16BE(0x0800, 12);
  const ip = frame.subarray(ETHERNET, ETHERNET + IPV4);
  const udp = frame.subarray(ETHERNET + IPV4);
  ip[0] = 0x45;
  ip.writeUInt16BE(IPV4 + udp.length, 2);
  ip[8] = TTL;
  ip[9] = PROTOCOL_UDP;
  ip.fill(0xff, 16, 20);
  ip.writeUInt16BE(~sum(ip) & 0xffff, 10);
  udp.writeUInt16BE(PROBE_PORT, 0);
  udp.writeUInt16BE(PROBE_PORT, 2);
  udp.writeUInt16BE(udp.length, 4);
  udp.set(message, UDP);
  // Source 0.0.0.0 adds nothing to the pseudo header (RFC 768).
  const pseudo = fold(0xffff + 0xffff + PROTOCOL_UDP + udp.length);
  const finished = ~fold(pseudo + sum(udp)) & 0xffff;
  udp.writeUInt16BE(unfinished ? pseudo : finished === 0 ? 0xffff : finished, 6);
  return frame;
}

/** The same with VXLAN's header in front: the payload of an outer datagram. */
export function probeDatagram(vni: number, spec: FrameSpec): Buffer {
  const datagram = Buffer.concat([Buffer.alloc(VXLAN_HEADER_BYTES), probeFrame(spec)]);
  writeVxlanHeader(datagram, 0, vni);
  return datagram;
}

/** Ones' complement (RFC 1071). */
export function sum(bytes: Buffer): number {
  let total = 0;
  for (let at = 0; at + 1 < bytes.length; at += 2) total += bytes.readUInt16BE(at);
  if (bytes.length % 2 === 1) total += (bytes.at(-1) ?? 0) << 8;
  return fold(total);
}

function fold(total: number): number {
  let rest = total;
  while (rest > 0xffff) rest = (rest & 0xffff) + Math.floor(rest / 0x10000);
  return rest;
}
