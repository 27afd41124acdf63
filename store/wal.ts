/** SQLite's write-ahead log as bytes. Format: https://www.sqlite.org/fileformat2.html#the_write_ahead_log */

const HEADER = 32;
const FRAME_HEADER = 24;
const MAGIC = 0x377f0682;

interface Frame {
  readonly page: number;
  readonly data: Buffer;
  /** The last frame of a transaction. */
  readonly commits: boolean;
  /** Its checksum follows from its bytes and from the checksum stored before it. */
  readonly sound: boolean;
}

export interface Wal {
  /** Transactions in order. */
  readonly transactions: readonly (readonly Frame[])[];
  /** A transaction that was committed and does not read back whole; SQLite would drop it and all after it unsaid. */
  readonly damaged: boolean;
}

/**
 * Frames of the log's present generation (those that bear its salts). A last transaction without its commit frame was
 * never acknowledged and is left out.
 */
export function readWal(log: Buffer, pageSize: number): Wal {
  const transactions: Frame[][] = [];
  let open: Frame[] = [];
  for (const frame of frames(log, pageSize)) {
    open.push(frame);
    if (!frame.commits) continue;
    transactions.push(open);
    open = [];
  }
  const headless = log.length > HEADER && !headerIsSound(log);
  return { transactions, damaged: headless || transactions.some((transaction) => !isWhole(transaction)) };
}

export function isWhole(transaction: readonly Frame[]): boolean {
  return transaction.every((frame) => frame.sound);
}

function headerIsSound(log: Buffer): boolean {
  if ((log.readUInt32BE(0) & ~1) >>> 0 !== MAGIC) return false;
  return follows([log.subarray(0, 24)], Buffer.alloc(8), log.subarray(24, 32));
}

function* frames(log: Buffer, pageSize: number): Generator<Frame> {
  if (log.length < HEADER + FRAME_HEADER) return;
  // The first frame always is of the present generation; it knows the salts when the header no longer does.
  const salts = headerIsSound(log) ? log.subarray(16, 24) : log.subarray(HEADER + 8, HEADER + 16);
  let before = log.subarray(24, 32);
  for (let at = HEADER; at + FRAME_HEADER + pageSize <= log.length; at += FRAME_HEADER + pageSize) {
    const header = log.subarray(at, at + FRAME_HEADER);
    if (isStale(header.readUInt32BE(8), salts.readUInt32BE(0))) return;
    const data = log.subarray(at + FRAME_HEADER, at + FRAME_HEADER + pageSize);
    const stored = header.subarray(16, 24);
    const sound =
      header.subarray(8, 16).equals(salts) && follows([header.subarray(0, 8), data], before, stored);
    yield { page: header.readUInt32BE(0), data, commits: header.readUInt32BE(4) !== 0, sound };
    before = stored;
  }
}

/** The first salt grows by one with each generation; one that is neither near nor equal was damaged. */
function isStale(salt: number, present: number): boolean {
  const generations = (present - salt) >>> 0;
  return generations > 0 && generations < 1 << 20;
}

/**
 * In the byte order of the machine that made the log. The magic number tells which, but it may itself be damaged, so that
 * both are tried.
 */
function follows(parts: readonly Buffer[], seed: Buffer, stored: Buffer): boolean {
  return checksum(parts, seed, true).equals(stored) || checksum(parts, seed, false).equals(stored);
}

/** §4.2 "Checksum Algorithm": two running sums over pairs of words, seeded with the sums before. */
function checksum(parts: readonly Buffer[], seed: Buffer, littleEndian: boolean): Buffer {
  let a = seed.readUInt32BE(0);
  let b = seed.readUInt32BE(4);
  for (const part of parts) {
    for (let i = 0; i < part.length; i += 8) {
      a = (a + (littleEndian ? part.readUInt32LE(i) : part.readUInt32BE(i)) + b) >>> 0;
      b = (b + (littleEndian ? part.readUInt32LE(i + 4) : part.readUInt32BE(i + 4)) + a) >>> 0;
    }
  }
  const sum = Buffer.alloc(8);
  sum.writeUInt32BE(a, 0);
  sum.writeUInt32BE(b, 4);
  return sum;
}
