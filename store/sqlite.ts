/** The embedded store: one SQLite database, one writer, everything in memory for reading. */
import { chmodSync, existsSync, mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { DatabaseSync, StatementSync } from 'node:sqlite';
import { encodeChanges } from './encode.ts';
import type { Encoded } from './encode.ts';
import { storeError } from './errno.ts';
import { lockDirectory } from './lock.ts';
import { Mirror } from './mirror.ts';
import { openDatabase } from './open.ts';
import type { Opened } from './open.ts';
import { MIGRATIONS, checksum } from './schema.ts';
import type { Migration } from './schema.ts';
import { StoreError } from './store.ts';
import type { Change, Store, StoreNotice } from './store.ts';

export interface StoreOptions {
  /** For tests of a schema that is not ours yet. */
  readonly migrations?: readonly Migration[];
  /** The database may grow to this many pages of 4 KiB; a write beyond fails with ENOSPC. Default: SQLite's own limit. */
  readonly maxPages?: number;
}

/**
 * Makes `directory` (0700) and `cnm.db` in it (0600) when they are missing.
 * @throws StoreError EBUSY while another writer has it, ENOTSUP when a newer program wrote it, or what the system said.
 */
export async function openStore(directory: string, options: StoreOptions = {}): Promise<Store> {
  return Promise.resolve().then(() => {
    try {
      return open(directory, options);
    } catch (error) {
      throw storeError('open', error, directory);
    }
  });
}

function open(directory: string, options: StoreOptions): Store {
  if (!existsSync(directory)) {
    makeDirectory(directory);
    chmodSync(directory, 0o700);
  }
  const lock = lockDirectory(directory);
  try {
    const opened = openDatabase(join(directory, 'cnm.db'), options.migrations ?? MIGRATIONS);
    if (options.maxPages !== undefined) opened.database.exec(`PRAGMA max_page_count = ${options.maxPages}`);
    return new SqliteStore(directory, opened, lock);
  } catch (error) {
    lock.release();
    throw error;
  }
}

interface Waiting {
  readonly changes: readonly Encoded[];
  readonly done: () => void;
  readonly failed: (error: StoreError) => void;
}

/** What a transaction made of the keys that it touched: a row's id and text, or nothing left. */
type Delta = Map<string, { readonly id: number | bigint; readonly text: string } | undefined>;

class SqliteStore implements Store {
  readonly notices: readonly StoreNotice[];
  readonly #directory: string;
  readonly #database: DatabaseSync;
  readonly #lock: { release(): void };
  readonly #mirror = new Mirror();
  readonly #ids = new Map<string, number | bigint>();
  readonly #insert: StatementSync;
  readonly #update: StatementSync;
  readonly #delete: StatementSync;
  #queue: Waiting[] = [];
  #open = true;

  constructor(directory: string, { database, rows, notices }: Opened, lock: { release(): void }) {
    this.#directory = directory;
    this.#database = database;
    this.#lock = lock;
    this.notices = notices;
    for (const { id, key, value } of rows) this.#remember(key, { id, text: value });
    this.#insert = database.prepare('INSERT INTO record (key, value, crc) VALUES (?, ?, ?)');
    this.#update = database.prepare('UPDATE record SET value = ?, crc = ? WHERE id = ?');
    this.#delete = database.prepare('DELETE FROM record WHERE id = ?');
  }

  get(key: string): unknown {
    return this.#mirror.get(key);
  }

  list(prefix: string): readonly (readonly [string, unknown])[] {
    return this.#mirror.list(prefix);
  }

  async write(changes: readonly Change[]): Promise<void> {
    if (!this.#open) throw new StoreError('write', 'EBADF', 'the store is closed');
    const encoded = encodeChanges(changes);
    await new Promise<void>((done, failed) => {
      // One commit, and so one fsync, for all that one turn of the event loop brings.
      if (this.#queue.length === 0)
        setImmediate(() => {
          this.#flush();
        });
      this.#queue.push({ changes: encoded, done, failed });
    });
  }

  close(): Promise<void> {
    if (!this.#open) return Promise.resolve();
    this.#open = false;
    this.#flush();
    this.#database.close();
    this.#lock.release();
    return Promise.resolve();
  }

  #flush(): void {
    const batch = this.#queue;
    this.#queue = [];
    try {
      this.#commit(batch);
    } catch {
      // One of them may be the reason (too large for the space that is left): each gets a commit of its own.
      for (const waiting of batch) this.#flushAlone(waiting);
      return;
    }
    for (const { done } of batch) done();
  }

  #flushAlone(waiting: Waiting): void {
    try {
      this.#commit([waiting]);
      waiting.done();
    } catch (error) {
      waiting.failed(storeError('write', error, this.#directory));
    }
  }

  /** All or none, on disk when it returns; memory follows only then. */
  #commit(batch: readonly Waiting[]): void {
    const delta: Delta = new Map();
    if (batch.every(({ changes }) => changes.length === 0)) return;
    try {
      this.#database.exec('BEGIN IMMEDIATE');
      for (const { changes } of batch) for (const change of changes) this.#change(change, delta);
      this.#database.exec('COMMIT');
    } catch (error) {
      // A full disk makes SQLite itself roll back.
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK');
      throw error;
    }
    for (const [key, row] of delta) this.#remember(key, row);
  }

  #change({ key, text }: Encoded, delta: Delta): void {
    const id = delta.has(key) ? delta.get(key)?.id : this.#ids.get(key);
    if (text === undefined) {
      if (id !== undefined) this.#delete.run(id);
      delta.set(key, undefined);
    } else if (id === undefined) {
      const { lastInsertRowid } = this.#insert.run(key, text, checksum(key, text));
      delta.set(key, { id: lastInsertRowid, text });
    } else {
      this.#update.run(text, checksum(key, text), id);
      delta.set(key, { id, text });
    }
  }

  #remember(key: string, row: { id: number | bigint; text: string } | undefined): void {
    this.#mirror.set(key, row?.text);
    if (row === undefined) this.#ids.delete(key);
    else this.#ids.set(key, row.id);
  }
}

/**
 * As `mkdir -p`. Not Node's `recursive`, which never returns where the file system answers ENOENT although the parent is there,
 * as below /proc.
 */
function makeDirectory(directory: string): void {
  try {
    mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return;
    if (code !== 'ENOENT' || dirname(directory) === directory) throw error;
    makeDirectory(dirname(directory));
    mkdirSync(directory, { mode: 0o700 });
  }
}
