import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { resultCode } from './errno.ts';
import { StoreError } from './store.ts';

/** SQLITE_BUSY */
const BUSY = 5;

/**
 * Holds the directory for one writer, until release() or the end of the process, kill -9 included: SQLite's lock is a
 * POSIX record lock (fcntl(2)), which the kernel drops with its process. Within one process SQLite itself refuses the
 * second one. Never open `cnm.lock` or `cnm.db` by other means in the process that holds them: closing any descriptor of a
 * file drops all of the process's record locks on it.
 * @throws StoreError EBUSY that says who may hold it.
 */
export function lockDirectory(directory: string): { release(): void } {
  const path = join(directory, 'cnm.lock');
  const database = new DatabaseSync(path);
  chmodSync(path, 0o600);
  try {
    database.exec('PRAGMA busy_timeout = 0; BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    if (resultCode(error) !== BUSY) throw error;
    throw new StoreError(
      'open',
      'EBUSY',
      `${directory} is in use by ${holder(directory)}: stop it first, or give this one a state directory of its own`,
    );
  }
  writeFileSync(ownerFile(directory), `${process.pid}\n`, { mode: 0o600 });
  return {
    release() {
      database.close();
    },
  };
}

/** Apart from the locked file, which nobody else can read while it is locked. */
function ownerFile(directory: string): string {
  return join(directory, 'cnm.pid');
}

function holder(directory: string): string {
  try {
    const pid = readFileSync(ownerFile(directory), 'utf8').trim();
    const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').slice(0, 80).trim();
    return pid === String(process.pid) ? `this process (pid ${pid})` : `process ${pid} (${command})`;
  } catch {
    return 'another process, probably a running cnmd';
  }
}
