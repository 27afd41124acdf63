/** Numbers of DNS messages (IANA "Domain Name System (DNS) Parameters"), and what is needed of their layout (RFC 1035 section 4). */

export const HEADER = 12;

export const TYPE = {
  A: 1,
  NS: 2,
  SOA: 6,
  PTR: 12,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  DS: 43,
  DNSKEY: 48,
  ANY: 255,
} as const;

export const CLASS_IN = 1;

export const RCODE = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  /** With EDNS only: its upper bits stand in the OPT record (RFC 6891 section 6.1.3). */
  BADVERS: 16,
} as const;

/** Bits of the second 16 bits of a header. */
export const FLAG = {
  QR: 0x8000,
  OPCODE: 0x7800,
  AA: 0x0400,
  TC: 0x0200,
  RD: 0x0100,
  RA: 0x0080,
  AD: 0x0020,
  CD: 0x0010,
} as const;

/** Of the flags of an OPT record: DNSSEC records are wanted (RFC 3225). */
export const DNSSEC_OK = 0x8000;

const TYPE_NAMES = new Map<number, string>([
  ...Object.entries(TYPE).map(([name, number]) => [number, name] as const),
  [5, 'CNAME'],
  [13, 'HINFO'],
  [15, 'MX'],
  [16, 'TXT'],
  [35, 'NAPTR'],
  [46, 'RRSIG'],
  [64, 'SVCB'],
  [65, 'HTTPS'],
  [257, 'CAA'],
]);

/** `A`; `TYPE1234` for those without a name here (RFC 3597 section 5). */
export function typeName(type: number): string {
  return TYPE_NAMES.get(type) ?? `TYPE${type}`;
}

export function typeNumber(name: string): number | undefined {
  const upper = name.toUpperCase();
  for (const [number, known] of TYPE_NAMES) if (known === upper) return number;
  const [, digits] = /^TYPE(\d{1,5})$/.exec(upper) ?? [];
  return digits === undefined || Number(digits) > 0xffff ? undefined : Number(digits);
}

const RCODE_NAMES = new Map(Object.entries(RCODE).map(([name, number]) => [number as number, name]));

export function rcodeName(rcode: number): string {
  return RCODE_NAMES.get(rcode) ?? `RCODE${rcode}`;
}

/**
 * The position behind the name at `at`, which may end in a compression pointer; -1 when it leads out of the message.
 * What a pointer leads to is not looked at: loops cannot arise.
 */
export function skipName(message: Uint8Array, at: number): number {
  for (let next = at; next < message.length;) {
    const length = message[next] ?? 0;
    if (length === 0) return next + 1;
    if (length >= 0xc0) return next + 2 <= message.length ? next + 2 : -1;
    if (length > 63) return -1;
    next += 1 + length;
  }
  return -1;
}

/** A resource record inside a message, by its positions. */
export interface RecordAt {
  readonly start: number;
  readonly type: number;
  readonly class: number;
  /** Of the four bytes of its TTL. */
  readonly ttlAt: number;
  readonly data: number;
  readonly end: number;
}

/** The record at `at`; undefined when it does not lie whole inside the message. */
export function recordAt(message: Buffer, at: number): RecordAt | undefined {
  const name = skipName(message, at);
  if (name < 0 || name + 10 > message.length) return undefined;
  const end = name + 10 + message.readUInt16BE(name + 8);
  if (end > message.length) return undefined;
  return {
    start: at,
    type: message.readUInt16BE(name),
    class: message.readUInt16BE(name + 2),
    ttlAt: name + 4,
    data: name + 10,
    end,
  };
}
