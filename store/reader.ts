import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { storeError } from './errno.ts';
import { MIGRATIONS, checksum, refuseNewer, schemaVersion } from './schema.ts';
import { StoreError } from './store.ts';
import type { StoreReader } from './store.ts';

/** How long a reader waits while the writer starts or ends, the only times when it holds readers off, in ms. */
const PATIENCE = 2000;

/**
 * Reads beside the running daemon without disturbing it. Needs no lock; a call sees one committed state.
 * @throws StoreError ENOENT when there is no store in `directory`, EIO when it is damaged (the daemon repairs it).
 */
export function openReader(directory: string): StoreReader {
  try {
    return reader(directory);
  } catch (error) {
    throw storeError('open', error, directory);
  }
}

function reader(directory: string): StoreReader {
  const path = join(directory, 'cnm.db');
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    database.exec(`PRAGMA busy_timeout = ${PATIENCE}`);
    refuseNewer(schemaVersion(database), MIGRATIONS.length, path);
  } catch (error) {
    database.close();
    throw error;
  }
  const select = (where: string, ...values: readonly string[]) => {
    try {
      const rows = database.prepare(`SELECT key, value, crc FROM record WHERE ${where}`).all(...values);
      return rows.map(decodeRow).sort(([a], [b]) => (a < b ? -1 : 1));
    } catch (error) {
      throw storeError('read', error, directory);
    }
  };
  return {
    get: (key) => select('key = ?', key)[0]?.[1],
    list: (prefix) => select('substr(key, 1, length(?1)) = ?1', prefix),
    close: () => {
      database.close();
    },
  };
}

function decodeRow({ key, value, crc }: Record<string, unknown>): readonly [key: string, value: unknown] {
  if (typeof key !== 'string' || typeof value !== 'string' || checksum(key, value) !== crc) {
    throw new StoreError(
      'read',
      'EIO',
      `the record of ${JSON.stringify(key)} is damaged; the daemon sets that right when it starts`,
    );
  }
  return [key, JSON.parse(value) as unknown];
}
