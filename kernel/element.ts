/**
 * Elements of nftables sets as the kernel takes and gives them: netlink attributes of linux/netfilter/nf_tables.h.
 *
 * Written by hand because an element change is on the path of every network and endpoint: one datagram costs some tens
 * of microseconds, one `nft` process four milliseconds. Only elements: chains and rules are loaded by `nft` itself.
 */
import { ipBytes, ipFromBytes, parseIp } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import { addressOf, firstOf, lastOf, lengthOf, parsePrefix, prefixOf } from '../address/prefix.ts';
import { aligned, attribute, attributes, nested } from './attribute.ts';
import { KernelError } from './kernel.ts';
import type { PacketCount } from './kernel.ts';

/** nft's names for the types of a set's fields. */
export type FieldType = 'ifname' | 'ipv4_addr' | 'ipv6_addr' | 'inet_proto' | 'inet_service';

/** The type of a set or map: `type key . key : data . data`. */
export interface SetType {
  readonly key: readonly FieldType[];
  readonly data?: readonly FieldType[];
  /** Keys may be ranges (nft's `flags interval`). Costs more per lookup and per change than a plain key, which is a hash. */
  readonly interval?: boolean;
  /** Every element counts the packets of the lookups that find it (nft's `counter` of a set). */
  readonly counted?: boolean;
}

/** An element as text, one string per field. Ranges are `8000-8010` for a port and `10.0.0.0/24` for an address. */
export interface ElementText {
  readonly key: readonly string[];
  readonly data?: readonly string[];
}

/** enum nft_set_elem_attributes and nft_data_attributes. */
const NFTA_LIST_ELEM = 1;
const NFTA_SET_ELEM_KEY = 1;
const NFTA_SET_ELEM_DATA = 2;
const NFTA_SET_ELEM_EXPR = 7;
const NFTA_SET_ELEM_KEY_END = 10;
const NFTA_DATA_VALUE = 1;
/** enum nft_expr_attributes and nft_counter_attributes. */
const NFTA_EXPR_DATA = 2;
const NFTA_COUNTER_BYTES = 1;
const NFTA_COUNTER_PACKETS = 2;

const IFNAMSIZ = 16;
const PROTOCOLS: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, 'ipv6-icmp': 58, sctp: 132 };

/** One NFTA_LIST_ELEM. @throws KernelError EINVAL for text that is not of the set's type. */
export function encodeElement(type: SetType, element: ElementText): Buffer {
  const from = encodeFields(type.key, element.key, 'first');
  const to = isRange(type.key, element.key) ? encodeFields(type.key, element.key, 'last') : from;
  const parts = [nested(NFTA_SET_ELEM_KEY, attribute(NFTA_DATA_VALUE, from))];
  // An interval over concatenated fields (pipapo) carries both ends of all fields; equal ones too, because nft pairs what it lists.
  if (type.interval === true || !from.equals(to)) {
    parts.push(nested(NFTA_SET_ELEM_KEY_END, attribute(NFTA_DATA_VALUE, to)));
  }
  // An element is deleted by its key alone.
  if (type.data !== undefined && element.data !== undefined) {
    const data = encodeFields(type.data, element.data, 'first');
    parts.push(nested(NFTA_SET_ELEM_DATA, attribute(NFTA_DATA_VALUE, data)));
  }
  return nested(NFTA_LIST_ELEM, Buffer.concat(parts));
}

/** Whether a field has two ends. Interface names may have the signs of a range in them. */
function isRange(types: readonly FieldType[], fields: readonly string[]): boolean {
  return fields.some((field, i) => types[i] !== 'ifname' && /[-/]/.test(field));
}

/** The element in a NFTA_LIST_ELEM's payload. */
export function decodeElement(type: SetType, payload: Buffer): ElementText {
  const found = new Map<number, Buffer>();
  for (const { type: attributeType, data } of attributes(payload)) {
    for (const inner of attributes(data))
      if (inner.type === NFTA_DATA_VALUE) found.set(attributeType, inner.data);
  }
  const from = found.get(NFTA_SET_ELEM_KEY) ?? Buffer.alloc(0);
  const key = decodeFields(type.key, from, found.get(NFTA_SET_ELEM_KEY_END) ?? from);
  const data = found.get(NFTA_SET_ELEM_DATA);
  return type.data === undefined || data === undefined
    ? { key }
    : { key, data: decodeFields(type.data, data, data) };
}

/** What the counter of the element in a NFTA_LIST_ELEM's payload says: the only expression that a set of ours has. */
export function decodeCounter(payload: Buffer): PacketCount {
  const data = find(find(payload, NFTA_SET_ELEM_EXPR), NFTA_EXPR_DATA);
  return { packets: count(find(data, NFTA_COUNTER_PACKETS)), bytes: count(find(data, NFTA_COUNTER_BYTES)) };
}

function find(bytes: Buffer, wanted: number): Buffer {
  for (const { type, data } of attributes(bytes)) if (type === wanted) return data;
  return Buffer.alloc(0);
}

/** 64 bits in network order; exact up to 2^53, which is 8 PB. */
function count(bytes: Buffer): number {
  return bytes.length === 8 ? Number(bytes.readBigUInt64BE()) : 0;
}

type End = 'first' | 'last';

/** Every field of a concatenation starts at a multiple of four bytes (nft's netlink_gen_concat_data). */
function encodeFields(types: readonly FieldType[], fields: readonly string[], end: End): Buffer {
  if (types.length !== fields.length) throw invalid(types.join(' . '), fields.join(' . '));
  return Buffer.concat(
    types.flatMap((type, i) => {
      const bytes = encodeField(type, fields[i] ?? '', end);
      // A lone field stands without padding, as nft sends it: the kernel compares its length with the set's.
      return types.length === 1 ? [bytes] : [bytes, Buffer.alloc(aligned(bytes.length) - bytes.length)];
    }),
  );
}

function encodeField(type: FieldType, text: string, end: End): Buffer {
  switch (type) {
    case 'ifname':
      return encodeName(text);
    case 'ipv4_addr':
      return encodeAddress(type, text, 4, end);
    case 'ipv6_addr':
      return encodeAddress(type, text, 16, end);
    case 'inet_proto':
      return Buffer.of(number(type, String(PROTOCOLS[text] ?? text), 255));
    case 'inet_service': {
      const [first = '', last = first, ...more] = text.split('-');
      if (more.length > 0) throw invalid(type, text);
      const bytes = Buffer.alloc(2);
      bytes.writeUInt16BE(number(type, end === 'first' ? first : last, 65535));
      return bytes;
    }
  }
}

function encodeName(text: string): Buffer {
  const bytes = Buffer.alloc(IFNAMSIZ);
  const length = Buffer.byteLength(text);
  if (length === 0 || length >= IFNAMSIZ || /[\s/\0]/.test(text)) throw invalid('ifname', text);
  bytes.write(text);
  return bytes;
}

function encodeAddress(type: FieldType, text: string, length: 4 | 16, end: End): Buffer {
  const prefix = parsePrefix(text);
  const address = prefix === undefined ? parseIp(text) : end === 'first' ? firstOf(prefix) : lastOf(prefix);
  const bytes = address && Buffer.from(ipBytes(address));
  if (bytes?.length !== length) throw invalid(type, text);
  return bytes;
}

function number(type: FieldType, text: string, most: number): number {
  const value = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
  if (value >= 0 && value <= most) return value;
  throw invalid(type, text);
}

function invalid(type: string, text: string): KernelError {
  return new KernelError(`nft element ${JSON.stringify(text)}`, 'EINVAL', `it is no ${type}`);
}

function decodeFields(types: readonly FieldType[], from: Buffer, to: Buffer): string[] {
  let at = 0;
  return types.map((type) => {
    const length = LENGTHS[type];
    const text = decodeField(type, from.subarray(at, at + length), to.subarray(at, at + length));
    at += aligned(length);
    return text;
  });
}

/** NFTA_SET_KEY_LEN of a set with such a key. */
export function keyLength({ key }: SetType): number {
  if (key.length === 1 && key[0] !== undefined) return LENGTHS[key[0]];
  return key.reduce((sum, type) => sum + aligned(LENGTHS[type]), 0);
}

const LENGTHS: Readonly<Record<FieldType, number>> = {
  ifname: IFNAMSIZ,
  ipv4_addr: 4,
  ipv6_addr: 16,
  inet_proto: 1,
  inet_service: 2,
};

function decodeField(type: FieldType, from: Buffer, to: Buffer): string {
  switch (type) {
    case 'ifname': {
      const end = from.indexOf(0);
      return from.toString('utf8', 0, end < 0 ? from.length : end);
    }
    case 'ipv4_addr':
    case 'ipv6_addr':
      return decodeAddress(ipFromBytes(from), ipFromBytes(to));
    case 'inet_proto': {
      const value = from.readUInt8();
      return Object.keys(PROTOCOLS).find((name) => PROTOCOLS[name] === value) ?? String(value);
    }
    case 'inet_service': {
      const [first, last] = [from.readUInt16BE(), to.readUInt16BE()];
      return first === last ? String(first) : `${first}-${last}`;
    }
  }
}

/** The shortest prefix that starts and ends there: we write no other ranges of addresses. */
function decodeAddress(from: Ip, to: Ip): string {
  if (from === to) return from;
  const bits = from.includes(':') ? 128 : 32;
  for (let length = 0; length < bits; length += 1) {
    const prefix = prefixOf(from, length);
    if (firstOf(prefix) === from && lastOf(prefix) === to) return `${addressOf(prefix)}/${lengthOf(prefix)}`;
  }
  return `${from}-${to}`;
}
