/**
 * The way beside the tunnel by which hosts tell each other what came through it: echo requests (RFC 792, RFC 4443), whose data may be
 * anything. The kernel of the other host answers them in any case, so that its silence tells more than the daemon's. Pure.
 */
import type { Ip } from '../../../address/ip.ts';
import { ipFromBytes } from '../../../address/ip.ts';
import { sum } from './frame.ts';

const HEADER = 8;
const UDP_PROTOCOL = 17;
const TYPES = {
  4: { reply: 0, unreachable: 3, request: 8, tooBig: undefined },
  6: { reply: 129, unreachable: 1, request: 128, tooBig: 2 },
} as const;
/** Destination unreachable: why, by its code (RFC 792, RFC 1812 section 5.2.7.1, RFC 4443 section 3.1). */
const PORT_UNREACHABLE = { 4: 3, 6: 4 } as const;
const PROHIBITED: Readonly<Record<4 | 6, readonly number[]>> = { 4: [9, 10, 13], 6: [1, 5, 6] };
const FRAGMENTATION_NEEDED = 4;

export type IcmpMessage = { readonly kind: 'request' | 'reply'; readonly data: Buffer } | Unreachable;

/** What became of a UDP datagram of ours. */
export interface Unreachable {
  readonly kind: 'unreachable';
  readonly why: 'port' | 'prohibited' | 'too-big' | 'host';
  /** Where it was to go. */
  readonly to: Ip;
  readonly port: number;
  /** What fits, in bytes, where a router says so. */
  readonly mtu?: number;
}

/** The kernel puts in the checksum of ICMPv6 itself (RFC 3542 section 3.1). */
export function echoRequest(family: 4 | 6, id: number, data: Uint8Array): Buffer {
  const message = Buffer.alloc(HEADER + data.length);
  message[0] = TYPES[family].request;
  message.writeUInt16BE(id & 0xffff, 4);
  message.set(data, HEADER);
  if (family === 4) message.writeUInt16BE(~sum(message) & 0xffff, 2);
  return message;
}

/** Undefined: nothing of interest, or cut off. */
export function parseIcmp(family: 4 | 6, message: Buffer): IcmpMessage | undefined {
  if (message.length < HEADER) return undefined;
  const [type, code = 0] = message;
  const { request, reply, unreachable, tooBig } = TYPES[family];
  const data = message.subarray(HEADER);
  if (type === request || type === reply) return { kind: type === request ? 'request' : 'reply', data };
  if (type !== unreachable && type !== tooBig) return undefined;
  const original = originalDatagram(family, data);
  if (original === undefined) return undefined;
  if (type === tooBig)
    return { kind: 'unreachable', why: 'too-big', ...original, mtu: message.readUInt32BE(4) };
  if (family === 4 && code === FRAGMENTATION_NEEDED)
    return { kind: 'unreachable', why: 'too-big', ...original, mtu: message.readUInt16BE(6) };
  const why =
    code === PORT_UNREACHABLE[family] ? 'port' : PROHIBITED[family].includes(code) ? 'prohibited' : 'host';
  return { kind: 'unreachable', why, ...original };
}

/** The beginning of the datagram that the message is about comes back in it. */
function originalDatagram(family: 4 | 6, data: Buffer): { to: Ip; port: number } | undefined {
  const header = family === 6 ? 40 : ((data[0] ?? 0) & 0x0f) * 4;
  if (header < 20 || data.length < header + 4) return undefined;
  const protocol = family === 6 ? data[6] : data[9];
  if (protocol !== UDP_PROTOCOL) return undefined;
  const to = ipFromBytes(family === 6 ? data.subarray(24, 40) : data.subarray(16, 20));
  return { to, port: data.readUInt16BE(header + 2) };
}
