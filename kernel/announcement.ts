/**
 * The frames by which a host says unasked at which MAC address an IP address is: whoever has another in his cache takes the new one
 * at once. As the kernel itself sends them with arp_notify=1 and ndisc_notify=1. Pure.
 */
import { familyOf, ipBytes } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import { macBytes } from '../address/mac.ts';
import type { Mac } from '../address/mac.ts';
import { internetChecksum } from './checksum.ts';
import {
  ADVERTISEMENT,
  BROADCAST,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  ICMPV6,
  TARGET_LINK_LAYER_ADDRESS,
  u16,
} from './frame-parts.ts';

const ARP_REQUEST = 1;
const HARDWARE_ETHERNET = 1;
/** The O flag: it replaces what is cached (RFC 4861 section 4.4). */
const OVERRIDE = 0x20000000;

/** ff02::1, all nodes of the link, and the group MAC address that stands for it (RFC 2464 section 7). */
const ALL_NODES = Buffer.from('ff020000000000000000000000000001', 'hex');
const ALL_NODES_MAC = Buffer.from('333300000001', 'hex');

/** A whole Ethernet frame, sent in the name of `mac`. */
export function announcement(address: Ip, mac: Mac): Buffer {
  const [own, hardware] = [Buffer.from(ipBytes(address)), Buffer.from(macBytes(mac))];
  if (familyOf(address) === 4)
    return Buffer.concat([BROADCAST, hardware, u16(ETHERTYPE_ARP), arp(own, hardware)]);
  return Buffer.concat([ALL_NODES_MAC, hardware, u16(ETHERTYPE_IPV6), advertisement(own, hardware)]);
}

/** RFC 5227 section 3: a request whose sender and target address are the announced one; the target's MAC address is zero. */
function arp(own: Buffer, hardware: Buffer): Buffer {
  const start = [u16(HARDWARE_ETHERNET), u16(ETHERTYPE_IPV4), Buffer.of(6, 4), u16(ARP_REQUEST)];
  return Buffer.concat([...start, hardware, own, Buffer.alloc(6), own]);
}

/** RFC 4861 section 7.2.6: to all nodes, with the target's link-layer address and the override flag; hop limit 255. */
function advertisement(own: Buffer, hardware: Buffer): Buffer {
  const option = Buffer.concat([Buffer.of(TARGET_LINK_LAYER_ADDRESS, 1), hardware]);
  const message = Buffer.concat([Buffer.of(ADVERTISEMENT, 0, 0, 0), u32(OVERRIDE), own, option]);
  // RFC 8200 section 8.1: the checksum covers the addresses, the length and the protocol as well.
  const pseudoHeader = Buffer.concat([own, ALL_NODES, u32(message.length), u32(ICMPV6)]);
  message.writeUInt16BE(internetChecksum(Buffer.concat([pseudoHeader, message])), 2);
  const header = Buffer.concat([Buffer.of(0x60, 0, 0, 0), u16(message.length), Buffer.of(ICMPV6, 255)]);
  return Buffer.concat([header, own, ALL_NODES, message]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
