/**
 * Answers from our own records, written straight to the wire: names compressed (dns-packet does not), the question in the letters in which it
 * was asked, cut to what the asker takes. Pure.
 */
import { keyBytes, type NameKey } from './name.ts';
import { type Question, UDP_SIZE } from './question.ts';
import { CLASS_IN, DNSSEC_OK, FLAG, HEADER, TYPE } from './wire.ts';

/** What there is to say about a name. */
export interface LocalAnswer {
  readonly rcode: number;
  /** In the order in which they are to stand. */
  readonly records: readonly LocalRecord[];
  /** How many bytes of the question's name, from its end, are the zone of a negative answer (RFC 2308): 0 = the root. Absent = no SOA. */
  readonly soa?: number;
  /** Addresses of the targets of SRV records. */
  readonly additional?: readonly LocalRecord[];
}

export type LocalRecord =
  | { readonly type: typeof TYPE.A; readonly address: number; readonly owner?: NameKey | undefined }
  | { readonly type: typeof TYPE.AAAA; readonly address: Uint8Array; readonly owner?: NameKey | undefined }
  | { readonly type: typeof TYPE.PTR; readonly name: NameKey }
  | { readonly type: typeof TYPE.SRV; readonly port: number; readonly target: NameKey };

/** Seconds. Short: a container that goes takes its address with it, and programs hold on to answers. */
export const TTL = 10;
/** Seconds that a name may be remembered not to be there: less, for it may come any moment. */
export const NEGATIVE_TTL = 5;

/** A pointer (RFC 1035 section 4.1.4) to the name in the question. */
const QUESTION_NAME = 0xc000 | HEADER;
const OPT_SIZE = 11;
/** The flags of a query that its answer repeats (RFC 1035 section 4.1.1; CD: RFC 4035 section 3.2.2). */
const REPEATED = FLAG.OPCODE | FLAG.RD | FLAG.CD;

/** Whole records as far as `limit` bytes go; TC when they do not all fit. `query` is the message that the question was read from. */
export function encodeReply(query: Buffer, question: Question, answer: LocalAnswer, limit: number): Buffer {
  const room = limit - (question.edns === undefined ? 0 : OPT_SIZE);
  const writer = new Writer(query, question.end, room);
  const answers = writer.records(answer.records);
  if (answer.soa !== undefined) writer.soa(question, answer.soa);
  // What is merely useful does not make an answer a cut one.
  const cut = writer.isFull();
  const extra = cut ? 0 : writer.records(answer.additional ?? []);
  const flags = FLAG.QR | FLAG.AA | FLAG.RA | (question.flags & REPEATED) | (cut ? FLAG.TC : 0);
  const authority = answer.soa !== undefined && !cut ? 1 : 0;
  return writer.finish(question, flags, answer.rcode, [answers, authority, extra]);
}

/** No more than a code. */
export function encodeFailure(query: Buffer, question: Question, rcode: number): Buffer {
  const flags = FLAG.QR | FLAG.RA | (question.flags & REPEATED);
  return new Writer(query, question.end, UDP_SIZE).finish(question, flags, rcode, [0, 0, 0]);
}

/** For a query whose question could not be read. */
export function encodeRefusal(id: number, flags: number, rcode: number): Buffer {
  const header = Buffer.alloc(HEADER);
  header.writeUInt16BE(id, 0);
  header.writeUInt16BE(FLAG.QR | FLAG.RA | (flags & REPEATED) | rcode, 2);
  return header;
}

/** The query that we send on: the same question in the same letters; of EDNS, what is not between neighbours only. */
export function encodeQuery(query: Buffer, { end, flags, edns }: Question, id: number): Buffer {
  const subnet = edns?.subnet ?? Buffer.alloc(0);
  const message = Buffer.alloc(end + (edns === undefined ? 0 : OPT_SIZE + subnet.length));
  query.copy(message, HEADER, HEADER, end);
  message.writeUInt16BE(id, 0);
  message.writeUInt16BE(FLAG.RD | (flags & (FLAG.CD | FLAG.AD)), 2);
  message.writeUInt16BE(1, 4);
  if (edns === undefined) return message;
  message.writeUInt16BE(1, 10);
  writeOpt(message, end, edns.dnssec, 0, Math.min(UDP_SIZE, edns.size));
  message.writeUInt16BE(subnet.length, end + 9);
  subnet.copy(message, end + OPT_SIZE);
  return message;
}

/** Upper bits of an extended code in the first byte of the TTL (RFC 6891 section 6.1.3). */
export function writeOpt(
  message: Buffer,
  at: number,
  dnssec: boolean,
  rcode: number,
  size: number = UDP_SIZE,
): void {
  message[at] = 0;
  message.writeUInt16BE(TYPE.OPT, at + 1);
  message.writeUInt16BE(size, at + 3);
  message.writeUInt16BE((rcode >> 4) << 8, at + 5);
  message.writeUInt16BE(dnssec ? DNSSEC_OK : 0, at + 7);
  message.writeUInt16BE(0, at + 9);
}

/** One for all: nothing is awaited while a message is written, and what is written is copied out. The longest message, and the record that is one too many. */
const page = Buffer.alloc(0xffff + 1024);

class Writer {
  readonly #room: number;
  #at: number;
  /** Where the targets of SRV records stand. */
  #targets: Map<NameKey, number> | undefined;
  #full = false;

  constructor(query: Buffer, end: number, room: number) {
    query.copy(page, 0, 0, end);
    this.#at = end;
    this.#room = room;
  }

  isFull(): boolean {
    return this.#full;
  }

  /** As many as fit; how many that is. */
  records(records: readonly LocalRecord[]): number {
    let count = 0;
    for (const record of records) {
      const before = this.#at;
      this.#record(record);
      if (this.#at > this.#room) {
        this.#at = before;
        this.#full = true;
        break;
      }
      count += 1;
    }
    return count;
  }

  #record(record: LocalRecord): void {
    if ('owner' in record && record.owner !== undefined) this.#owner(record.owner);
    else this.#u16(QUESTION_NAME);
    switch (record.type) {
      case TYPE.A:
        this.#head(TYPE.A, TTL, 4);
        this.#u32(record.address);
        return;
      case TYPE.AAAA:
        this.#head(TYPE.AAAA, TTL, 16);
        this.#bytes(record.address);
        return;
      case TYPE.PTR:
        this.#head(TYPE.PTR, TTL, record.name.length + 1);
        this.#bytes(keyBytes(record.name));
        return;
      case TYPE.SRV:
        // Priority and weight are equal for all. The target is never compressed (RFC 2782).
        this.#head(TYPE.SRV, TTL, 6 + record.target.length + 1);
        this.#u32(0);
        this.#u16(record.port);
        (this.#targets ??= new Map()).set(record.target, this.#at);
        this.#bytes(keyBytes(record.target));
        return;
    }
  }

  /** A pointer has 14 bits. */
  #owner(owner: NameKey): void {
    const at = this.#targets?.get(owner);
    if (at === undefined || at >= 0x4000) this.#bytes(keyBytes(owner));
    else this.#u16(0xc000 | at);
  }

  /** RFC 2308 section 3: the SOA by which a negative answer is remembered, for as long as the less of its TTL and its minimum. */
  soa({ end }: Question, zone: number): void {
    const before = this.#at;
    // The zone is the end of the name in the question, its zero byte included.
    this.#u16(0xc000 | (end - 4 - 1 - zone));
    this.#head(TYPE.SOA, NEGATIVE_TTL, SOA_DATA.length);
    this.#bytes(SOA_DATA);
    if (this.#at <= this.#room) return;
    this.#at = before;
    this.#full = true;
  }

  finish(
    { edns }: Question,
    flags: number,
    rcode: number,
    [answers, authority, additional]: readonly [number, number, number],
  ): Buffer {
    page.writeUInt16BE(flags | (rcode & 15), 2);
    page.writeUInt16BE(1, 4);
    page.writeUInt16BE(answers, 6);
    page.writeUInt16BE(authority, 8);
    page.writeUInt16BE(additional + (edns === undefined ? 0 : 1), 10);
    if (edns !== undefined) {
      writeOpt(page, this.#at, edns.dnssec, rcode);
      this.#at += OPT_SIZE;
    }
    const message = Buffer.allocUnsafe(this.#at);
    page.copy(message, 0, 0, this.#at);
    return message;
  }

  #head(type: number, ttl: number, length: number): void {
    this.#u16(type);
    this.#u16(CLASS_IN);
    this.#u32(ttl);
    this.#u16(length);
  }

  #u16(value: number): void {
    page[this.#at] = value >> 8;
    page[this.#at + 1] = value;
    this.#at += 2;
  }

  #u32(value: number): void {
    this.#u16(value >>> 16);
    this.#u16(value & 0xffff);
  }

  #bytes(bytes: Uint8Array): void {
    page.set(bytes, this.#at);
    this.#at += bytes.length;
  }
}

/** `.internal` is nobody's on the internet (ICANN board resolution 2024.07.29.06). */
const SOA_DATA = soaData('cnm.internal', 'hostmaster.cnm.internal');

/** RFC 1035 section 3.3.13. Nothing is transferred from here, so that all but the last number are for show. */
function soaData(server: string, mailbox: string): Buffer {
  const numbers = Buffer.alloc(20);
  [1, 3600, 600, 86_400, NEGATIVE_TTL].forEach((number, i) => numbers.writeUInt32BE(number, 4 * i));
  const name = (text: string) =>
    Buffer.concat([
      ...text.split('.').map((label) => Buffer.from(`${String.fromCharCode(label.length)}${label}`)),
      Buffer.of(0),
    ]);
  return Buffer.concat([name(server), name(mailbox), numbers]);
}

/** The reply of another server when it is longer than the asker takes: no records, and TC, so that he comes again by TCP. */
export function truncated(reply: Buffer, { end, edns }: Question, limit: number): Buffer {
  const size = end + (edns === undefined ? 0 : OPT_SIZE);
  const short = Buffer.alloc(Math.min(size, limit));
  reply.copy(short, 0, 0, end);
  short.writeUInt16BE(reply.readUInt16BE(2) | FLAG.TC, 2);
  short.fill(0, 6, HEADER);
  if (edns === undefined) return short;
  short.writeUInt16BE(1, 10);
  writeOpt(short, end, edns.dnssec, 0);
  return short;
}
