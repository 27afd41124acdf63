/**
 * Records out of a damaged database, from its bare pages: every leaf of a table b-tree is read for itself, so that a bad
 * header or inner page costs nothing. Each record's own checksum decides whether it is believed.
 * Format: https://www.sqlite.org/fileformat2.html#b_tree_pages
 */
import { PAGE_SIZE, checksum } from './schema.ts';
import { isWhole, readWal } from './wal.ts';

const TABLE_LEAF = 0x0d;

type Pages = ReadonlyMap<number, Buffer>;

/** Values as JSON text by key. */
export function salvage(database: Buffer, log: Buffer): ReadonlyMap<string, string> {
  const pages = currentPages(database, log);
  const records = new Map<string, string>();
  for (const [number, page] of pages) {
    for (const payload of leafPayloads(page, number === 1 ? 100 : 0, pages)) {
      const record = decodeRecord(payload);
      if (record !== undefined) records.set(record.key, record.value);
    }
  }
  return records;
}

/** The file's pages with the log's over them. */
function currentPages(database: Buffer, log: Buffer): Pages {
  const pages = new Map<number, Buffer>();
  for (let number = 1; number * PAGE_SIZE <= database.length; number++) {
    pages.set(number, database.subarray((number - 1) * PAGE_SIZE, number * PAGE_SIZE));
  }
  const { transactions } = readWal(log, PAGE_SIZE);
  transactions.forEach((transaction, i) => {
    // A torn last transaction was perhaps never acknowledged: all of it or nothing. Those before it were.
    if (i === transactions.length - 1 && !isWhole(transaction)) return;
    for (const frame of transaction) pages.set(frame.page, frame.data);
  });
  return pages;
}

/** The payloads of a table leaf's cells; of any other page, and of a cell that points outside of it, nothing. */
function* leafPayloads(page: Buffer, header: number, pages: Pages): Generator<Buffer> {
  if (page[header] !== TABLE_LEAF) return;
  const cells = Math.min(page.readUInt16BE(header + 3), (PAGE_SIZE - header - 8) >> 1);
  for (let i = 0; i < cells; i++) {
    const payload = cellPayload(page, page.readUInt16BE(header + 8 + 2 * i), pages);
    if (payload !== undefined) yield payload;
  }
}

function cellPayload(page: Buffer, at: number, pages: Pages): Buffer | undefined {
  const size = varint(page, at);
  const rowid = size && varint(page, size.next);
  if (rowid === undefined || size === undefined) return undefined;
  const local = localSize(size.value);
  const start = page.subarray(rowid.next, rowid.next + local);
  if (start.length < local) return undefined;
  if (local === size.value) return start;
  const pointer = rowid.next + local;
  if (pointer + 4 > PAGE_SIZE) return undefined;
  return overflow(start, page.readUInt32BE(pointer), size.value, pages);
}

/** How much of a payload lies in its leaf: fileformat2 §1.6, "U-35" and what follows. */
function localSize(size: number): number {
  if (size <= PAGE_SIZE - 35) return size;
  const minimum = Math.floor(((PAGE_SIZE - 12) * 32) / 255) - 23;
  const wanted = minimum + ((size - minimum) % (PAGE_SIZE - 4));
  return wanted <= PAGE_SIZE - 35 ? wanted : minimum;
}

function overflow(start: Buffer, first: number, size: number, pages: Pages): Buffer | undefined {
  const parts = [start];
  let length = start.length;
  let next = first;
  // A chain that loops would end at the declared size, and that is bounded by what the pages can hold.
  if (size > pages.size * PAGE_SIZE) return undefined;
  while (length < size) {
    const page = pages.get(next);
    if (page === undefined) return undefined;
    const part = page.subarray(4, 4 + size - length);
    parts.push(part);
    length += part.length;
    next = page.readUInt32BE(0);
  }
  return Buffer.concat(parts, size);
}

/** id (NULL: it is the rowid), key, value, crc. */
function decodeRecord(payload: Buffer): { key: string; value: string } | undefined {
  const header = varint(payload, 0);
  if (header === undefined) return undefined;
  const types: number[] = [];
  for (let at = header.next; at < header.value && types.length < 4;) {
    const type = varint(payload, at);
    if (type === undefined) return undefined;
    types.push(type.value);
    at = type.next;
  }
  const [id, keyType = 0, valueType = 0, crcType = 0] = types;
  if (id !== 0 || !isText(keyType) || !isText(valueType)) return undefined;
  const keyEnd = header.value + textLength(keyType);
  const valueEnd = keyEnd + textLength(valueType);
  const key = payload.toString('utf8', header.value, keyEnd);
  const value = payload.toString('utf8', keyEnd, valueEnd);
  return integer(payload, valueEnd, crcType) === checksum(key, value) ? { key, value } : undefined;
}

function isText(serialType: number): boolean {
  return serialType >= 13 && serialType % 2 === 1;
}

function textLength(serialType: number): number {
  return (serialType - 13) / 2;
}

/** Serial types 1 to 6 are two's complement of these widths, 8 and 9 the numbers 0 and 1. */
function integer(payload: Buffer, at: number, serialType: number): number | undefined {
  if (serialType === 8 || serialType === 9) return serialType - 8;
  const width = [undefined, 1, 2, 3, 4, 6, 8][serialType];
  if (width === undefined || at + width > payload.length) return undefined;
  return width === 8 ? Number(payload.readBigInt64BE(at)) : payload.readIntBE(at, width);
}

/** Up to nine bytes, the last one whole (fileformat2 §1.6). Values beyond 2^53 belong to no record of ours. */
function varint(bytes: Buffer, at: number): { value: number; next: number } | undefined {
  let value = 0;
  for (let i = 0; i < 9; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) return undefined;
    if (i === 8) value = value * 256 + byte;
    else value = value * 128 + (byte & 0x7f);
    if (i === 8 || byte < 0x80)
      return value <= Number.MAX_SAFE_INTEGER ? { value, next: at + i + 1 } : undefined;
  }
  return undefined;
}
