/**
 * Who has an address? Asked as frames, in the name of a MAC that may be nobody's yet: an ARP probe, which no cache remembers (RFC 5227
 * section 1.1), and a neighbour solicitation from the link-local address of that MAC. Pure.
 */
import { familyOf, ipBytes, ipFromBytes, type Ip } from '../address/ip.ts';
import { linkLocalOf, macBytes, macFromBytes, type Mac } from '../address/mac.ts';
import { internetChecksum } from './checksum.ts';
import {
  ADVERTISEMENT,
  BROADCAST,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV6,
  ICMPV6,
  SOLICITATION,
  u16,
} from './frame-parts.ts';

const SOURCE_LINK_LAYER_ADDRESS = 1;

/** A question or an answer about an address, as it was on a wire. */
export interface NeighbourFrame {
  readonly what: 'question' | 'answer';
  readonly from: Mac;
  readonly to: Mac;
  /** Asked for, or answered for. */
  readonly address: Ip;
}

export function question(address: Ip, mac: Mac): Buffer {
  const [target, hardware] = [Buffer.from(ipBytes(address)), Buffer.from(macBytes(mac))];
  if (familyOf(address) === 6) return solicitation(target, hardware, Buffer.from(ipBytes(linkLocalOf(mac))));
  const arp = Buffer.from('0001080006040001', 'hex');
  return Buffer.concat([
    ...[BROADCAST, hardware, u16(ETHERTYPE_ARP)],
    ...[arp, hardware, Buffer.alloc(4), Buffer.alloc(6), target],
  ]);
}

/** RFC 4861 section 4.3, to the group of the target's last three bytes (RFC 4291 section 2.7.1). */
function solicitation(target: Buffer, hardware: Buffer, source: Buffer): Buffer {
  const group = Buffer.concat([Buffer.from('ff0200000000000000000001ff', 'hex'), target.subarray(13)]);
  const option = Buffer.concat([Buffer.of(SOURCE_LINK_LAYER_ADDRESS, 1), hardware]);
  const message = Buffer.concat([Buffer.of(SOLICITATION, 0, 0, 0, 0, 0, 0, 0), target, option]);
  const length = u16(message.length);
  const pseudo = [source, group, Buffer.alloc(2), length, Buffer.of(0, 0, 0, ICMPV6)];
  message.writeUInt16BE(internetChecksum(Buffer.concat([...pseudo, message])), 2);
  const header = Buffer.concat([Buffer.of(0x60, 0, 0, 0), length, Buffer.of(ICMPV6, 255)]);
  const to = Buffer.concat([Buffer.of(0x33, 0x33, 0xff), target.subarray(13)]);
  return Buffer.concat([to, hardware, u16(ETHERTYPE_IPV6), header, source, group, message]);
}

/** Undefined: it is about something else. */
export function readNeighbourFrame(frame: Buffer): NeighbourFrame | undefined {
  if (frame.length < 42) return undefined;
  const ends = { to: macFromBytes(frame.subarray(0, 6)), from: macFromBytes(frame.subarray(6, 12)) };
  switch (frame.readUInt16BE(12)) {
    case ETHERTYPE_ARP:
      return frame.readUInt16BE(20) === 1
        ? { what: 'question', ...ends, address: ipFromBytes(frame.subarray(38, 42)) }
        : { what: 'answer', ...ends, address: ipFromBytes(frame.subarray(28, 32)) };
    case ETHERTYPE_IPV6: {
      const kind = frame.length >= 78 && frame[20] === ICMPV6 ? frame[54] : undefined;
      if (kind !== SOLICITATION && kind !== ADVERTISEMENT) return undefined;
      const address = ipFromBytes(frame.subarray(62, 78));
      return { what: kind === SOLICITATION ? 'question' : 'answer', ...ends, address };
    }
    default:
      return undefined;
  }
}
