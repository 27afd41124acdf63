import { DatabaseSync } from 'node:sqlite';
import t from 'tap';
import { saysDamaged, storeError } from './errno.ts';
import { StoreError } from './store.ts';

function sqliteError(errcode: number): Error {
  return Object.assign(new Error('what SQLite said'), { code: 'ERR_SQLITE_ERROR', errcode });
}

t.test('result codes, extended ones too, and what Node says', (t) => {
  const rows: readonly (readonly [error: unknown, errno: string])[] = [
    [sqliteError(13), 'ENOSPC'],
    [sqliteError(8), 'EROFS'],
    [sqliteError(8 | (3 << 8)), 'EROFS'], // SQLITE_READONLY_ROLLBACK
    [sqliteError(10 | (4 << 8)), 'EIO'], // SQLITE_IOERR_FSYNC
    [sqliteError(5), 'EBUSY'],
    [sqliteError(14), 'ENOENT'],
    [sqliteError(1), 'EIO'],
    [Object.assign(new Error('no'), { code: 'EACCES' }), 'EACCES'],
    [new Error('?'), 'EIO'],
    ['thrown text', 'EIO'],
  ];
  for (const [error, errno] of rows) {
    const failure = storeError('write', error, '/tmp');
    t.match(failure, { name: 'StoreError', operation: 'write', errno, cause: error });
    t.match(failure.message, /^write: E[A-Z]+ \(.*, in \/tmp\)$/);
  }
  const own = new StoreError('open', 'EBUSY', 'x');
  t.equal(storeError('write', own, '/tmp'), own);
  t.end();
});

t.test('damage as the real SQLite tells it', (t) => {
  const directory = t.testdir({ garbage: 'x'.repeat(8192) });
  const database = new DatabaseSync(`${directory}/garbage`);
  t.teardown(() => {
    database.close();
  });
  try {
    database.exec('SELECT * FROM sqlite_schema');
    t.fail('garbage was read');
  } catch (error) {
    t.equal(saysDamaged(error), true);
  }
  t.equal(saysDamaged(sqliteError(11 | (1 << 8))), true);
  t.equal(saysDamaged(sqliteError(10)), false);
  t.end();
});
