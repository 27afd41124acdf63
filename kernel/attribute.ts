/** Attributes of netlink messages, struct nlattr and struct rtattr alike: length with its own four bytes, type, payload, padded to four. Pure. */

const NLA_F_NESTED = 0x8000;
/** NLA_F_NESTED and NLA_F_NET_BYTEORDER are the two bits above. */
const NLA_TYPE_MASK = 0x3fff;

export function aligned(length: number): number {
  return (length + 3) & ~3;
}

export function attribute(type: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.alloc(aligned(4 + payload.length));
  bytes.writeUInt16LE(4 + payload.length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(payload, 4);
  return bytes;
}

/** One whose payload is attributes, and which says so. */
export function nested(type: number, ...parts: readonly Buffer[]): Buffer {
  return attribute(type | NLA_F_NESTED, Buffer.concat(parts));
}

/** A payload in the byte order of the machine: see decodeLink. */
export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

/** The attributes one after another, by their places; a length that does not fit ends the walk. */
export function* attributesAt(
  data: Buffer,
  from: number,
  to: number,
): Generator<{ readonly type: number; readonly start: number; readonly end: number }> {
  for (let at = from; at + 4 <= to;) {
    const length = data.readUInt16LE(at);
    if (length < 4 || at + length > to) return;
    yield { type: data.readUInt16LE(at + 2) & NLA_TYPE_MASK, start: at + 4, end: at + length };
    at += aligned(length);
  }
}

/** The same with their payloads. */
export function* attributes(bytes: Uint8Array): Generator<{ readonly type: number; readonly data: Buffer }> {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  for (const { type, start, end } of attributesAt(all, 0, all.length))
    yield { type, data: all.subarray(start, end) };
}

/** The same by type; of several of one type the last. */
export function fields(bytes: Uint8Array = Buffer.alloc(0)): ReadonlyMap<number, Buffer> {
  return new Map([...attributes(bytes)].map(({ type, data }) => [type, data]));
}
