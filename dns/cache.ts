/** Replies of other servers, for as long as they say (RFC 1035 section 7.4, RFC 2308). Bounded in bytes; the longest unused goes first. */
import { type Question } from './question.ts';
import { FLAG, HEADER, RCODE, type RecordAt, recordAt, TYPE } from './wire.ts';

interface Entry {
  readonly reply: Buffer;
  /** Where its TTLs stand. */
  readonly ttls: readonly number[];
  readonly storedAt: number;
  readonly expiresAt: number;
  /** Until when it is given out although it has expired: nobody had a better answer a moment ago. */
  restsUntil: number;
}

/** Seconds. What says that it stays for a week may still be wrong sooner. */
const TTL_MAX = 3_600;
/** RFC 2308 section 5 advises one to three hours at most; people who have just made a name do not want to wait that long. */
const NEGATIVE_MAX = 300;
/** RFC 8767 section 5: seconds that an expired answer is said to live, and milliseconds until the servers are asked again. */
const STALE_TTL = 30;
const STALE_REST = 30_000;
/** What an entry takes besides its reply, roughly. */
const OVERHEAD = 300;

export class Cache {
  readonly #entries = new Map<string, Entry>();
  readonly #limit: number;
  readonly #stale: number;
  #size = 0;

  /** @param limit bytes @param stale milliseconds that replies are kept beyond their time (RFC 8767) */
  constructor(limit = 8 * 2 ** 20, stale = 0) {
    this.#limit = limit;
    this.#stale = stale;
  }

  get entries(): number {
    return this.#entries.size;
  }

  /** A copy with the seconds taken off that have gone by; its id is the former asker's. */
  get(key: string, now: number): Buffer | undefined {
    const entry = this.#live(key, now);
    return entry !== undefined && now < Math.max(entry.expiresAt, entry.restsUntil)
      ? this.#copy(key, entry, now)
      : undefined;
  }

  /** As `get`, for when nobody has a better answer; also what has expired. From then on `get` gives it too, for half a minute. */
  getStale(key: string, now: number): Buffer | undefined {
    const entry = this.#live(key, now);
    if (entry === undefined) return undefined;
    entry.restsUntil = now + STALE_REST;
    return this.#copy(key, entry, now);
  }

  /** Whether there is anything to give out for want of a better answer. */
  has(key: string, now: number): boolean {
    return this.#live(key, now) !== undefined;
  }

  #live(key: string, now: number): Entry | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined || now < entry.expiresAt + this.#stale) return entry;
    this.#drop(key, entry);
    return undefined;
  }

  #copy(key: string, entry: Entry, now: number): Buffer {
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    const reply = Buffer.from(entry.reply);
    const gone = Math.floor((now - entry.storedAt) / 1000);
    const left = (ttl: number) => (now < entry.expiresAt ? Math.max(0, ttl - gone) : STALE_TTL);
    for (const at of entry.ttls) reply.writeUInt32BE(left(reply.readUInt32BE(at)), at);
    return reply;
  }

  /** Kept when it may be. @param now milliseconds */
  put(key: string, reply: Buffer, question: Question, now: number): void {
    const found = lifetime(reply, question);
    if (found === undefined || found.seconds <= 0) return;
    const former = this.#entries.get(key);
    if (former !== undefined) this.#drop(key, former);
    const expiresAt = now + found.seconds * 1000;
    const entry = { reply, ttls: found.ttls, storedAt: now, expiresAt, restsUntil: 0 };
    this.#entries.set(key, entry);
    this.#size += reply.length + OVERHEAD;
    for (const [oldest, one] of this.#entries) {
      if (this.#size <= this.#limit) break;
      this.#drop(oldest, one);
    }
  }

  clear(): void {
    this.#entries.clear();
    this.#size = 0;
  }

  #drop(key: string, entry: Entry): void {
    this.#entries.delete(key);
    this.#size -= entry.reply.length + OVERHEAD;
  }
}

/** Questions whose answers may differ have different keys; undefined for one whose answer is for its asker alone (RFC 7871 section 7.3). */
export function cacheKey({ name, type, class: cls, flags, edns }: Question): string | undefined {
  if (edns?.subnet !== undefined) return undefined;
  const asks = (edns === undefined ? 0 : edns.dnssec ? 2 : 1) + (flags & (FLAG.CD | FLAG.AD));
  return `${type} ${cls} ${asks} ${name}`;
}

/** How long a reply may be kept; undefined when it may not, or cannot be read. */
export function lifetime(
  reply: Buffer,
  question: Question,
): { readonly seconds: number; readonly ttls: readonly number[] } | undefined {
  const flags = reply.readUInt16BE(2);
  const rcode = flags & 15;
  if ((flags & FLAG.TC) !== 0 || (rcode !== RCODE.NOERROR && rcode !== RCODE.NXDOMAIN)) return undefined;
  const records = allRecords(reply, question.end);
  if (records === undefined) return undefined;
  const counted = records.filter(({ type }) => type !== TYPE.OPT);
  const answers = records.slice(0, reply.readUInt16BE(6));
  const positive =
    rcode === RCODE.NOERROR &&
    answers.some(({ type }) => type === question.type || question.type === TYPE.ANY);
  const seconds = positive ? leastTtl(reply, answers) : negativeTtl(reply, records);
  return seconds === undefined ? undefined : { seconds, ttls: counted.map(({ ttlAt }) => ttlAt) };
}

/** Of all three sections; undefined when the message is not in order. */
function allRecords(reply: Buffer, from: number): readonly RecordAt[] | undefined {
  const count = reply.readUInt16BE(6) + reply.readUInt16BE(8) + reply.readUInt16BE(10);
  const records: RecordAt[] = [];
  let at = from;
  for (let n = 0; n < count; n += 1) {
    const record = recordAt(reply, at);
    if (record === undefined) return undefined;
    records.push(record);
    at = record.end;
  }
  return at >= HEADER ? records : undefined;
}

function leastTtl(reply: Buffer, records: readonly RecordAt[]): number {
  return Math.min(TTL_MAX, ...records.map(({ ttlAt }) => ttlOf(reply, ttlAt)));
}

/** RFC 2181 section 8: the topmost bit means zero. */
function ttlOf(reply: Buffer, at: number): number {
  const ttl = reply.readUInt32BE(at);
  return ttl > 0x7fffffff ? 0 : ttl;
}

/** RFC 2308 section 5: the less of the SOA's TTL and its last field; without a SOA nothing is kept. An alias on the way counts too. */
function negativeTtl(reply: Buffer, records: readonly RecordAt[]): number | undefined {
  const soa = records.find(({ type }) => type === TYPE.SOA);
  if (soa === undefined || soa.end - soa.data < 20) return undefined;
  const minimum = reply.readUInt32BE(soa.end - 4);
  const answers = records.slice(0, reply.readUInt16BE(6));
  return Math.min(NEGATIVE_MAX, minimum, ttlOf(reply, soa.ttlAt), leastTtl(reply, answers));
}
