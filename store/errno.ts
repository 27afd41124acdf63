import { closeSync, openSync, rmSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { StoreError } from './store.ts';

/** Primary result codes of https://www.sqlite.org/rescode.html (extended codes carry them in the low byte). */
const ERRNO: Readonly<Record<number, string>> = {
  3: 'EACCES', // SQLITE_PERM
  5: 'EBUSY', // SQLITE_BUSY
  6: 'EBUSY', // SQLITE_LOCKED
  7: 'ENOMEM', // SQLITE_NOMEM
  8: 'EROFS', // SQLITE_READONLY
  10: 'EIO', // SQLITE_IOERR
  11: 'EIO', // SQLITE_CORRUPT
  13: 'ENOSPC', // SQLITE_FULL
  14: 'ENOENT', // SQLITE_CANTOPEN
  18: 'EFBIG', // SQLITE_TOOBIG
  26: 'EIO', // SQLITE_NOTADB
};

const IOERR = 10;

/** SQLite's primary result code, or 0 for an error of another origin. */
export function resultCode(error: unknown): number {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return 0;
  return error.errcode & 0xff;
}

/** Whether SQLite says that the file is no database, or not a sound one. */
export function saysDamaged(error: unknown): boolean {
  return resultCode(error) === 11 || resultCode(error) === 26;
}

/** Any failure as a StoreError: SQLite's code or Node's own errno; what is neither is EIO. */
export function storeError(operation: string, error: unknown, directory: string): StoreError {
  if (error instanceof StoreError) return error;
  const message = error instanceof Error ? error.message : String(error);
  const failure = new StoreError(operation, errnoOf(error, directory), `${message}, in ${directory}`);
  failure.cause = error;
  return failure;
}

function errnoOf(error: unknown, directory: string): string {
  const code = resultCode(error);
  // SQLite tells ENOSPC for a page that does not fit, but a plain I/O error when it cannot extend the -shm file.
  // And a plain I/O error when the file system has turned read-only under an open file, as ext4 does on a bad block.
  if (code === IOERR) return isFull(directory) ? 'ENOSPC' : (refusal(directory) ?? 'EIO');
  const errno = ERRNO[code];
  if (errno !== undefined) return errno;
  return error instanceof Error && 'code' in error && /^E[A-Z0-9]+$/.test(String(error.code))
    ? String(error.code)
    : 'EIO';
}

function isFull(directory: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(directory);
    return bavail * bsize < 65_536;
  } catch {
    return false;
  }
}

/** Why no file can be made in the directory, as an errno; undefined when one can. */
function refusal(directory: string): string | undefined {
  const path = join(directory, 'cnm.probe');
  try {
    closeSync(openSync(path, 'w', 0o600));
    rmSync(path);
    return undefined;
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : undefined;
  }
}
