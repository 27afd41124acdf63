/**
 * The tables in `cnm.db`. One table and no index: the daemon finds a row by the id that it holds in memory, so that a
 * write touches one b-tree, and there is no second copy of the keys that could come to disagree with the first.
 */
import { crc32 } from 'node:zlib';
import type { DatabaseSync } from 'node:sqlite';
import { StoreError } from './store.ts';

/** Turns version n into n + 1, n being its place in the list. Runs in a transaction, with the new version's number. */
export type Migration = (database: DatabaseSync) => void;

export const MIGRATIONS: readonly Migration[] = [
  (database) => {
    // salvage.ts reads these four columns from the bare pages: keep them first, and in this order.
    database.exec(
      'CREATE TABLE record (id INTEGER PRIMARY KEY, key TEXT NOT NULL, value TEXT NOT NULL, crc INTEGER NOT NULL) STRICT',
    );
  },
];

/** salvage.ts must know it although the header that tells it may be what is damaged. */
export const PAGE_SIZE = 4096;

export function schemaVersion(database: DatabaseSync): number {
  return Number(database.prepare('PRAGMA user_version').get()?.user_version);
}

/** @throws StoreError ENOTSUP: a newer store is left as it is, since an older program would lose what it cannot read. */
export function refuseNewer(version: number, known: number, path: string): void {
  if (version <= known) return;
  throw new StoreError(
    'open',
    'ENOTSUP',
    `${path} has schema version ${version} and this program knows up to ${known}: start the newer program that wrote it`,
  );
}

/** All steps or none. */
export function migrate(database: DatabaseSync, from: number, migrations: readonly Migration[]): void {
  database.exec('BEGIN IMMEDIATE');
  try {
    for (const migration of migrations.slice(from)) migration(database);
    database.exec(`PRAGMA user_version = ${migrations.length}; COMMIT`);
  } catch (error) {
    if (database.isTransaction) database.exec('ROLLBACK');
    throw error;
  }
}

/** SQLite checks the shape of its pages, not what is written in them; this tells a flipped bit in a record. */
export function checksum(key: string, value: string): number {
  return crc32(value, crc32(key));
}
