/** Opening `cnm.db`: make it, migrate it, or set a damaged one aside and go on with what could be read of it. */
import {
  closeSync,
  existsSync,
  fsyncSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  renameSync,
} from 'node:fs';
import { basename, dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { saysDamaged } from './errno.ts';
import { salvage } from './salvage.ts';
import { PAGE_SIZE, checksum, migrate, refuseNewer, schemaVersion } from './schema.ts';
import type { Migration } from './schema.ts';
import type { StoreNotice } from './store.ts';
import { readWal } from './wal.ts';

export interface Row {
  readonly id: number;
  readonly key: string;
  readonly value: string;
}

export interface Opened {
  readonly database: DatabaseSync;
  readonly rows: readonly Row[];
  readonly notices: readonly StoreNotice[];
}

/** What was read is not what was written. */
class Damage extends Error {}

/** The directory must be locked: nobody else may have the files open. */
export function openDatabase(path: string, migrations: readonly Migration[]): Opened {
  const notices: StoreNotice[] = [];
  const unfinished = salvagedFile(path);
  if (unfinished !== undefined) notices.push(install(path, unfinished));
  if (!existsSync(path) && !existsSync(`${path}-wal`)) create(path, new Map(), migrations);
  try {
    return load(path, migrations, notices);
  } catch (error) {
    if (!(error instanceof Damage) && !saysDamaged(error)) throw error;
    notices.push(setAside(path, migrations, error));
    return load(path, migrations, notices);
  }
}

function load(path: string, migrations: readonly Migration[], earlier: readonly StoreNotice[]): Opened {
  if (!existsSync(path)) throw new Damage('the database is gone and only its log is left');
  if (readWal(bytesOf(`${path}-wal`), PAGE_SIZE).damaged) throw new Damage('its log does not read back');
  if (!isOurs(headerOf(path))) throw new Damage('its header is not one that we wrote');
  const version = readVersion(path);
  refuseNewer(version, migrations.length, path);
  if (version === 0) throw new Damage('it has no schema version');
  const database = new DatabaseSync(path);
  try {
    // FULL syncs the log at each commit, so that a commit outlives a power cut. An empty log at the start lets readWal
    // tell a torn write from a damaged one; zeroed free pages keep salvage() from finding what had been deleted.
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON');
    database.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    const rows = readRows(database);
    if (version === migrations.length) return { database, rows, notices: earlier };
    migrate(database, version, migrations);
    const notice: StoreNotice = { kind: 'migrated', from: version, to: migrations.length };
    return { database, rows: readRows(database), notices: [...earlier, notice] };
  } catch (error) {
    database.close();
    throw error;
  }
}

/** Read-only, so that a newer program's file is left as it is. */
function readVersion(path: string): number {
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    return schemaVersion(database);
  } finally {
    database.close();
  }
}

function readRows(database: DatabaseSync): readonly Row[] {
  const faults = database.prepare('PRAGMA quick_check(3)').all();
  if (faults[0]?.quick_check !== 'ok')
    throw new Damage(faults.map((fault) => String(fault.quick_check)).join('; '));
  if (database.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'record'").get() === undefined) {
    throw new Damage('it has no table of records');
  }
  const keys = new Set<string>();
  const rows: Row[] = [];
  for (const { id, key, value, crc } of database
    .prepare('SELECT id, key, value, crc FROM record')
    .iterate()) {
    if (
      typeof key !== 'string' ||
      typeof value !== 'string' ||
      checksum(key, value) !== crc ||
      keys.has(key)
    ) {
      throw new Damage(`the record of ${JSON.stringify(key)} does not read back`);
    }
    keys.add(key);
    rows.push({ id: Number(id), key, value });
  }
  return rows;
}

/**
 * The first page's header, the log's if it is there. Read while SQLite has the file closed: closing it would drop the locks
 * that SQLite holds on it.
 */
function headerOf(path: string): Buffer {
  const { transactions } = readWal(bytesOf(`${path}-wal`), PAGE_SIZE);
  const logged = transactions.flat().findLast((frame) => frame.page === 1);
  if (logged !== undefined) return logged.data.subarray(0, 100);
  const header = Buffer.alloc(100);
  const file = openSync(path, 'r');
  readSync(file, header);
  closeSync(file);
  return header;
}

/** The fields that would make SQLite read or write the file otherwise than we had it (fileformat2 §1.3). */
function isOurs(header: Buffer): boolean {
  return (
    header.toString('latin1', 0, 16) === 'SQLite format 3\0' &&
    header.readUInt16BE(16) === PAGE_SIZE &&
    header.toString('hex', 18, 24) === '020200402020' &&
    header.readUInt32BE(56) === 1
  );
}

/** Made whole under another name, so that an empty or half-made `cnm.db` is never one of ours. */
function create(
  path: string,
  records: ReadonlyMap<string, string>,
  migrations: readonly Migration[],
  as = path,
): void {
  const draft = `${path}.new`;
  closeSync(openSync(draft, 'w', 0o600));
  const database = new DatabaseSync(draft);
  try {
    database.exec(`PRAGMA page_size = ${PAGE_SIZE}; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL`);
    migrate(database, 0, migrations);
    database.exec('BEGIN');
    const insert = database.prepare('INSERT INTO record (key, value, crc) VALUES (?, ?, ?)');
    for (const [key, value] of records) insert.run(key, value, checksum(key, value));
    database.exec('COMMIT; PRAGMA wal_checkpoint(TRUNCATE)');
  } finally {
    database.close();
  }
  renameSync(draft, as);
  syncDirectory(path);
}

/** Salvages first and moves after: a crash in between is taken up again at the next start by the salvaged file's name. */
function setAside(path: string, migrations: readonly Migration[], reason: unknown): StoreNotice {
  const version = existsSync(path) ? versionIn(headerOf(path)) : 0;
  refuseNewer(version, migrations.length, path);
  const records = salvage(bytesOf(path), bytesOf(`${path}-wal`));
  const salvaged = `${path}.salvaged-${new Date().toISOString()}`;
  create(path, records, version === 0 ? migrations : migrations.slice(0, version), salvaged);
  return install(path, salvaged, `: ${reason instanceof Error ? reason.message : String(reason)}`);
}

/** Of the records, so that they are migrated from there; 0 when the header cannot be trusted. */
function versionIn(header: Buffer): number {
  return isOurs(header) ? header.readUInt32BE(60) : 0;
}

function install(path: string, salvaged: string, reason = ''): StoreNotice {
  const keptAs = salvaged.replace('.salvaged-', '.damaged-');
  for (const suffix of ['', '-wal', '-shm']) {
    if (existsSync(path + suffix)) renameSync(path + suffix, keptAs + suffix);
  }
  renameSync(salvaged, path);
  syncDirectory(path);
  const count = countRecords(path);
  const message = `${path} was damaged${reason}; ${count} records could be read and are used, the damaged file is kept as ${keptAs}`;
  return { kind: 'damaged', keptAs, salvaged: count, message };
}

function countRecords(path: string): number {
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    return Number(database.prepare('SELECT count(*) AS n FROM record').get()?.n);
  } finally {
    database.close();
  }
}

function salvagedFile(path: string): string | undefined {
  const name = readdirSync(dirname(path)).find((file) => file.startsWith(`${basename(path)}.salvaged-`));
  return name === undefined ? undefined : `${dirname(path)}/${name}`;
}

function bytesOf(path: string): Buffer {
  return existsSync(path) ? readFileSync(path) : Buffer.alloc(0);
}

/** rename(2) is durable only once its directory is. */
function syncDirectory(path: string): void {
  const directory = openSync(dirname(path), 'r');
  fsyncSync(directory);
  closeSync(directory);
}
