/** UDP over IPv4 in an Ethernet frame, with addresses of the caller's choosing: what a host says that has none yet. Pure. */
import { ipBytes, ipFromBytes } from '../address/ip.ts';
import { macBytes, macFromBytes } from '../address/mac.ts';
import { internetChecksum } from './checksum.ts';
import { ETHERTYPE_IPV4 } from './frame-parts.ts';
import type { FramedDatagram } from './kernel.ts';

const ETHERNET = 14;
const IPV4 = 20;
const UDP = 8;
const PROTOCOL_UDP = 17;
/** RFC 791: more fragments, and where a fragment belongs. */
const FRAGMENT = 0x3fff;

export function udpFrame({ from, to, payload }: FramedDatagram): Buffer {
  const [source, target] = [ipBytes(from.address), ipBytes(to.address)];
  const udp = Buffer.alloc(UDP + payload.length);
  udp.writeUInt16BE(from.port, 0);
  udp.writeUInt16BE(to.port, 2);
  udp.writeUInt16BE(udp.length, 4);
  udp.set(payload, UDP);
  const pseudoHeader = Buffer.of(...source, ...target, 0, PROTOCOL_UDP, udp.length >> 8, udp.length & 0xff);
  // RFC 768: a sum of zero is sent as all ones, for zero says that there is none.
  udp.writeUInt16BE(internetChecksum(Buffer.concat([pseudoHeader, udp])) || 0xffff, 6);
  const ip = Buffer.alloc(IPV4);
  ip.writeUInt8(0x45, 0);
  ip.writeUInt16BE(IPV4 + udp.length, 2);
  ip.writeUInt8(64, 8);
  ip.writeUInt8(PROTOCOL_UDP, 9);
  ip.set(source, 12);
  ip.set(target, 16);
  ip.writeUInt16BE(internetChecksum(ip), 10);
  const ethernet = Buffer.of(...macBytes(to.mac), ...macBytes(from.mac), ETHERTYPE_IPV4 >> 8, 0);
  return Buffer.concat([ethernet, ip, udp]);
}

/**
 * Undefined for what is anything else, or not whole. The checksum of UDP is not looked at: between links of one machine it is not
 * computed at all (CHECKSUM_PARTIAL), and a packet socket gets the frame as it is then.
 */
export function readUdpFrame(frame: Uint8Array): FramedDatagram | undefined {
  const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength);
  if (bytes.length < ETHERNET + IPV4 + UDP || bytes.readUInt16BE(12) !== ETHERTYPE_IPV4) return undefined;
  const ip = bytes.subarray(ETHERNET);
  const header = (ip.readUInt8(0) & 0xf) * 4;
  const end = Math.min(ip.readUInt16BE(2), ip.length);
  if (ip.readUInt8(0) >> 4 !== 4 || header < IPV4 || end < header + UDP) return undefined;
  if (ip.readUInt8(9) !== PROTOCOL_UDP || (ip.readUInt16BE(6) & FRAGMENT) !== 0) return undefined;
  if (internetChecksum(ip.subarray(0, header)) !== 0) return undefined;
  const udp = ip.subarray(header, end);
  const length = udp.readUInt16BE(4);
  if (length < UDP || length > udp.length) return undefined;
  return {
    from: {
      mac: macFromBytes(bytes.subarray(6, 12)),
      address: ipFromBytes(ip.subarray(12, 16)),
      port: udp.readUInt16BE(0),
    },
    to: {
      mac: macFromBytes(bytes.subarray(0, 6)),
      address: ipFromBytes(ip.subarray(16, 20)),
      port: udp.readUInt16BE(2),
    },
    payload: Uint8Array.from(udp.subarray(UDP, length)),
  };
}
