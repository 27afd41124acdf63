/** A query as it comes off the wire. By hand, and not by the general codec: this is what every single query passes. Pure. */
import type { NameKey } from './name.ts';
import { DNSSEC_OK, FLAG, HEADER, RCODE, recordAt, TYPE } from './wire.ts';

export interface Question {
  readonly id: number;
  readonly flags: number;
  readonly name: NameKey;
  readonly type: number;
  readonly class: number;
  /** Where the question section ends. */
  readonly end: number;
  readonly edns?: Edns;
}

/** RFC 6891. */
export interface Edns {
  /** The largest UDP answer that the asker takes, in bytes; at least 512. */
  readonly size: number;
  readonly version: number;
  readonly dnssec: boolean;
  /** The option ECS (RFC 7871), whole, where it is given: of all options the one that is not between neighbours only. */
  readonly subnet?: Buffer;
}

export type Parsed =
  | { readonly question: Question }
  /** Answered with this code and no more than the header. */
  | { readonly refused: number; readonly id: number; readonly flags: number }
  /** Nothing that anybody waits for an answer to. */
  | undefined;

const NAME_MAX = 255;
/** What a sender promises without EDNS (RFC 1035 section 4.2.1). */
const PLAIN_SIZE = 512;

/** Reads one question; everything else in a message has to be in order, but is not looked into. */
export function parseQuery(message: Buffer): Parsed {
  if (message.length < HEADER) return undefined;
  const id = message.readUInt16BE(0);
  const flags = message.readUInt16BE(2);
  // An answer to an answer would go on for ever.
  if ((flags & FLAG.QR) !== 0) return undefined;
  const refused = (rcode: number) => ({ refused: rcode, id, flags });
  if ((flags & FLAG.OPCODE) !== 0) return refused(RCODE.NOTIMP);
  if (message.readUInt16BE(4) !== 1) return refused(RCODE.FORMERR);
  const nameEnd = endOfName(message);
  if (nameEnd < 0 || nameEnd + 4 > message.length) return refused(RCODE.FORMERR);
  const end = nameEnd + 4;
  const edns = readEdns(message, end);
  if (edns === 'malformed') return refused(RCODE.FORMERR);
  const question = {
    id,
    flags,
    name: lowerCased(message, HEADER, nameEnd - 1),
    type: message.readUInt16BE(nameEnd),
    class: message.readUInt16BE(nameEnd + 2),
    end,
  };
  return { question: edns === undefined ? question : { ...question, edns } };
}

/** A question has nothing before it that a pointer could lead to. -1: malformed. */
function endOfName(message: Buffer): number {
  let at = HEADER;
  for (;;) {
    const length = message[at];
    if (length === undefined || length > 63) return -1;
    at += 1 + length;
    if (at - HEADER > NAME_MAX) return -1;
    if (length === 0) return at;
  }
}

/** Small letters of ASCII and all else as it is. Lengths of labels are below 64 and so no letters. */
const LOWER = Uint8Array.from({ length: 256 }, (_, byte) => (byte >= 65 && byte <= 90 ? byte + 32 : byte));
const scratch = Buffer.alloc(NAME_MAX);

function lowerCased(message: Buffer, from: number, to: number): NameKey {
  for (let at = from; at < to; at += 1) scratch[at - from] = LOWER[message[at] ?? 0] ?? 0;
  return scratch.toString('latin1', 0, to - from);
}

/** From all records behind the question: what is cut off or has two OPT records is malformed. */
function readEdns(message: Buffer, from: number): Edns | undefined | 'malformed' {
  const records = message.readUInt16BE(6) + message.readUInt16BE(8) + message.readUInt16BE(10);
  let edns: Edns | undefined;
  let at = from;
  for (let n = 0; n < records; n += 1) {
    const record = recordAt(message, at);
    if (record === undefined) return 'malformed';
    if (record.type === TYPE.OPT) {
      // Only the root owns it (RFC 6891 section 6.1.2).
      if (edns !== undefined || message[at] !== 0) return 'malformed';
      const read = ednsAt(message, record.class, record.ttlAt, record.data, record.end);
      if (read === undefined) return 'malformed';
      edns = read;
    }
    at = record.end;
  }
  return edns;
}

const CLIENT_SUBNET = 8;

function ednsAt(message: Buffer, size: number, ttlAt: number, data: number, end: number): Edns | undefined {
  let subnet: Buffer | undefined;
  for (let at = data; at < end;) {
    if (at + 4 > end) return undefined;
    const next = at + 4 + message.readUInt16BE(at + 2);
    if (next > end) return undefined;
    if (message.readUInt16BE(at) === CLIENT_SUBNET) subnet = Buffer.from(message.subarray(at, next));
    at = next;
  }
  return {
    size: Math.max(PLAIN_SIZE, size),
    version: message[ttlAt + 1] ?? 0,
    dnssec: (message.readUInt16BE(ttlAt + 2) & DNSSEC_OK) !== 0,
    ...(subnet !== undefined && { subnet }),
  };
}

/** RFC 1035 section 4.2.2: the length of a message over TCP has 16 bits. */
const TCP_SIZE = 0xffff;
/** What we send by UDP at most, whatever is asked for: in a sandbox no link fragments it. */
export const UDP_SIZE = 4096;

/** How long an answer may be. */
export function sizeLimit({ edns }: Question, transport: 'udp' | 'tcp'): number {
  return transport === 'tcp' ? TCP_SIZE : Math.min(UDP_SIZE, edns?.size ?? PLAIN_SIZE);
}
