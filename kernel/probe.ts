/**
 * The frames by which a host asks whether anybody has an address before it uses it (RFC 5227 section 2.1.1 for IPv4, RFC 4862 section 5.4
 * for IPv6), and those by which somebody says that he has. Pure.
 */
import { familyOf, ipBytes, ipFromBytes, type Ip } from '../address/ip.ts';
import { type Mac, macBytes, macFromBytes } from '../address/mac.ts';
import { internetChecksum } from './checksum.ts';
import {
  ADVERTISEMENT,
  BROADCAST,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV6,
  ICMPV6,
  SOLICITATION,
  TARGET_LINK_LAYER_ADDRESS,
  u16,
} from './frame-parts.ts';
import { VLAN_TAG_PRESENT } from './packet-socket.ts';
import type { Instruction } from './syscall.ts';

/** Of ARP: Ethernet, IPv4, their lengths. */
const ARP_HEAD = Buffer.from('000108000604', 'hex');
const REQUEST = 1;
const NOBODY = ipFromBytes(new Uint8Array(4));
const NOBODY_V6 = ipFromBytes(new Uint8Array(16));
const ETHERNET = 14;
const IPV6_HEADER = 40;

/** Somebody says, or asks for himself, that an address is his. */
export interface Claim {
  readonly address: Ip;
  readonly mac: Mac;
}

/** In the name of nobody: who hears it puts nothing into his cache. */
export function probeFrame(address: Ip, mac: Mac): Buffer {
  const [wanted, hardware] = [Buffer.from(ipBytes(address)), Buffer.from(macBytes(mac))];
  if (familyOf(address) === 4) {
    const arp = [ARP_HEAD, u16(REQUEST), hardware, Buffer.alloc(4), Buffer.alloc(6), wanted];
    return Buffer.concat([BROADCAST, hardware, u16(ETHERTYPE_ARP), ...arp]);
  }
  const group = solicitedNode(wanted);
  const message = Buffer.concat([Buffer.of(SOLICITATION, 0, 0, 0, 0, 0, 0, 0), wanted]);
  const nobody = Buffer.alloc(16);
  const pseudoHeader = Buffer.concat([nobody, group, Buffer.of(0, 0, 0, message.length, 0, 0, 0, ICMPV6)]);
  message.writeUInt16BE(internetChecksum(Buffer.concat([pseudoHeader, message])), 2);
  const header = Buffer.concat([Buffer.of(0x60, 0, 0, 0), u16(message.length), Buffer.of(ICMPV6, 255)]);
  const frame = [
    Buffer.from(macBytes(groupMac(address))),
    hardware,
    u16(ETHERTYPE_IPV6),
    header,
    nobody,
    group,
    message,
  ];
  return Buffer.concat(frame);
}

/** ff02::1:ff00:0/104 and the last 24 bits (RFC 4291 section 2.7.1). */
function solicitedNode(address: Buffer): Buffer {
  return Buffer.concat([Buffer.from('ff0200000000000000000001ff', 'hex'), address.subarray(13)]);
}

/** The MAC that questions for an address of IPv6 go to: 33:33 and the last 32 bits of the group (RFC 2464 section 7). */
export function groupMac(address: Ip): Mac {
  return macFromBytes(Uint8Array.of(0x33, 0x33, 0xff, ...ipBytes(address).subarray(13)));
}

/** Undefined: nobody claims anything here. What a claim is of is not judged. */
export function claimOf(frame: Uint8Array): Claim | undefined {
  const bytes = Buffer.from(frame.buffer, frame.byteOffset, frame.byteLength);
  if (bytes.length < ETHERNET) return undefined;
  const type = bytes.readUInt16BE(12);
  if (type === ETHERTYPE_ARP) return arpClaim(bytes.subarray(ETHERNET));
  return type === ETHERTYPE_IPV6 ? neighbourClaim(bytes) : undefined;
}

/** The sender of any ARP packet has its address; who probes in the name of nobody wants the target's. */
function arpClaim(arp: Buffer): Claim | undefined {
  if (arp.length < 28 || !arp.subarray(0, 6).equals(ARP_HEAD)) return undefined;
  const mac = macFromBytes(arp.subarray(8, 14));
  const sender = ipFromBytes(arp.subarray(14, 18));
  if (sender !== NOBODY) return { address: sender, mac };
  return arp.readUInt16BE(6) === REQUEST ? { address: ipFromBytes(arp.subarray(24, 28)), mac } : undefined;
}

function neighbourClaim(bytes: Buffer): Claim | undefined {
  const ip = bytes.subarray(ETHERNET);
  const message = ip.subarray(IPV6_HEADER);
  // RFC 4861 section 7.1: a hop limit of 255 has passed no router.
  if (message.length < 24 || ip.readUInt8(6) !== ICMPV6 || ip.readUInt8(7) !== 255) return undefined;
  const address = ipFromBytes(message.subarray(8, 24));
  const mac = macFromBytes(bytes.subarray(6, 12));
  const type = message.readUInt8(0);
  if (type === SOLICITATION)
    return ipFromBytes(ip.subarray(8, 24)) === NOBODY_V6 ? { address, mac } : undefined;
  if (type !== ADVERTISEMENT) return undefined;
  const hasOwn = message.length >= 32 && message.readUInt8(24) === TARGET_LINK_LAYER_ADDRESS;
  return { address, mac: hasOwn ? macFromBytes(message.subarray(26, 32)) : mac };
}

/** Lets through ARP, and neighbour solicitations and advertisements, that are of no VLAN: see link-tap.ts. */
export const CLAIMS: readonly Instruction[] = [
  [0x30, 0, 0, VLAN_TAG_PRESENT],
  [0x15, 0, 8, 0],
  [0x28, 0, 0, 12],
  [0x15, 7, 0, ETHERTYPE_ARP],
  [0x15, 0, 5, ETHERTYPE_IPV6],
  [0x30, 0, 0, ETHERNET + 6],
  [0x15, 0, 3, ICMPV6],
  [0x30, 0, 0, ETHERNET + IPV6_HEADER],
  [0x15, 2, 0, SOLICITATION],
  [0x15, 1, 0, ADVERTISEMENT],
  [0x06, 0, 0, 0],
  [0x06, 0, 0, 0xffffffff],
];
