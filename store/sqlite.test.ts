import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { setImmediate } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { openReader } from './reader.ts';
import { MIGRATIONS, checksum } from './schema.ts';
import { openStore } from './sqlite.ts';
import type { StoreOptions } from './sqlite.ts';
import type { Store } from './store.ts';
import { storeSuite } from './suite.ts';

async function opened(t: Test, directory: string, options?: StoreOptions): Promise<Store> {
  const store = await openStore(directory, options);
  t.teardown(() => store.close());
  return store;
}

await t.test('the store suite', async (t) => {
  let n = 0;
  const root = t.testdir();
  await storeSuite(t, () => openStore(join(root, `store-${n++}`)));
});

t.test('is there after reopening, private, and with ids that do not collide', async (t) => {
  const directory = join(t.testdir(), 'not', 'there yet');
  const first = await openStore(directory);
  const value = { text: 'é'.repeat(20_000), n: 1 };
  await first.write([
    { put: 'a', value },
    { put: 'b', value: 2 },
    { put: 'c', value: 3 },
  ]);
  await first.write([{ delete: 'b' }]);
  await first.close();
  for (let round = 0; round < 3; round++) {
    const store = await openStore(directory);
    t.same(store.notices, []);
    t.same(store.get('a'), value);
    t.equal(store.get('b'), undefined);
    await store.write([
      { put: `new/${round}`, value: round },
      { put: 'c', value: round },
    ]);
    await store.close();
  }
  const store = await opened(t, directory);
  t.same(store.list('new/').length, 3);
  t.equal(store.get('c'), 2);
  const mode = (path: string) => statSync(path).mode & 0o777;
  t.equal(mode(directory), 0o700);
  for (const file of readdirSync(directory)) t.equal(mode(join(directory, file)), 0o600, file);
});

t.test('one writer: a second one is told who has it, a reader is welcome', async (t) => {
  const directory = t.testdir();
  t.throws(() => openReader(directory), { name: 'StoreError', errno: 'ENOENT' });
  const store = await openStore(directory);
  await store.write([
    { put: 'n/b', value: { x: 1 } },
    { put: 'n/a', value: 2 },
    { put: 'o', value: 3 },
  ]);
  await t.rejects(openStore(directory), { name: 'StoreError', errno: 'EBUSY', message: String(process.pid) });
  const reader = openReader(directory);
  t.teardown(() => {
    reader.close();
  });
  t.same(reader.get('n/b'), { x: 1 });
  t.equal(reader.get('n'), undefined);
  await store.write([{ delete: 'o' }]);
  t.same(reader.list('n/'), [
    ['n/a', 2],
    ['n/b', { x: 1 }],
  ]);
  t.equal(reader.get('o'), undefined, 'sees what was committed after it opened');
  await store.close();
  const next = await opened(t, directory);
  t.equal(next.get('n/a'), 2);
  t.equal(reader.get('n/a'), 2, 'a reader outlives the writer');
});

const CHILD = `
  import { openStore } from ${JSON.stringify(join(import.meta.dirname, 'sqlite.ts'))};
  const store = await openStore(process.argv[1]);
  const write = async (n) => {
    const at = 'k' + n % 50;
    await store.write([{ put: at + '/x', value: n }, { put: at + '/y', value: n }]);
    process.stdout.write(n + '\\n');
  };
  for (let n = 0; ; n += 4) await Promise.all([write(n), write(n + 1), write(n + 2), write(n + 3)]);
`;

t.test(
  'SIGKILL in a stream of writes: all that was acknowledged, each write whole, the lock gone',
  async (t) => {
    const directory = t.testdir();
    for (let round = 0; round < 4; round++) {
      const { acknowledged, pid, refusal } = await killedWriter(directory, 2000 + round * 997);
      t.match(refusal, { name: 'StoreError', errno: 'EBUSY', message: `process ${pid} ` });
      t.ok(acknowledged.length > 100);
      const store = await openStore(directory);
      t.same(store.notices, []);
      for (const [key, n] of new Map(acknowledged.map((n) => [`k${n % 50}`, n]))) {
        const x = Number(store.get(`${key}/x`));
        // The last turns' writes may be durable and their acknowledgement lost.
        t.ok(x === n || (x > n && x <= (acknowledged.at(-1) ?? 0) + 7), `${key}: ${x} for ${n}`);
        t.equal(store.get(`${key}/y`), x, 'both changes of a write or neither');
      }
      await store.close();
    }
  },
);

/** What it acknowledged until it was killed, and what another opener was told meanwhile. */
async function killedWriter(directory: string, bytes: number) {
  const child = spawn(process.execPath, ['--input-type=module-typescript', '-e', CHILD, directory], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  let refusal: Promise<unknown> | undefined;
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
    refusal ??= openStore(directory).catch((error: unknown) => error);
    if (text.length > bytes) child.kill('SIGKILL');
  });
  await once(child, 'close');
  const acknowledged = text.slice(0, text.lastIndexOf('\n')).split('\n').map(Number);
  return { acknowledged, pid: child.pid ?? 0, refusal: await refusal };
}

t.test(
  'a full disk: ENOSPC, memory unchanged, the others of the same turn succeed, later writes too',
  async (t) => {
    const directory = t.testdir();
    const store = await opened(t, directory, { maxPages: 10 });
    await store.write([{ put: 'ballast', value: 'x'.repeat(16_000) }]);
    const small = store.write([{ put: 'small', value: 1 }]);
    const big = store.write([
      { put: 'big', value: 'y'.repeat(40_000) },
      { put: 'small', value: 'never' },
      { delete: 'ballast' },
    ]);
    const after = store.write([{ put: 'after', value: 2 }]);
    await t.rejects(big, { name: 'StoreError', operation: 'write', errno: 'ENOSPC' });
    await Promise.all([small, after]);
    t.same(
      store.list('').map(([key]) => key),
      ['after', 'ballast', 'small'],
    );
    await store.write([{ delete: 'ballast' }]);
    await store.write([{ put: 'big', value: 'z'.repeat(12_000) }]);
    await store.close();
    const again = await opened(t, directory);
    t.same(again.notices, []);
    t.same(
      again.list('').map(([key, value]) => [key, String(value).length]),
      [
        ['after', 1],
        ['big', 12_000],
        ['small', 1],
      ],
    );
  },
);

t.test('an older schema is migrated, at once or not at all', async (t) => {
  const directory = t.testdir();
  const old = await openStore(directory);
  await old.write([{ put: 'k', value: 'old' }]);
  await old.close();
  const next = [
    ...MIGRATIONS,
    (database: DatabaseSync) => {
      const value = JSON.stringify('new');
      database.exec("ALTER TABLE record ADD COLUMN extra TEXT DEFAULT 'x'");
      database
        .prepare('UPDATE record SET value = ?, crc = ? WHERE key = ?')
        .run(value, checksum('k', value), 'k');
    },
  ];
  const broken = [
    ...next,
    () => {
      throw new Error('third step fails');
    },
  ];
  await t.rejects(openStore(directory, { migrations: broken }), {
    name: 'StoreError',
    message: /third step fails/,
  });
  const untouched = await openStore(directory);
  t.equal(untouched.get('k'), 'old');
  await untouched.close();

  const migrated = await openStore(directory, { migrations: next });
  t.same(migrated.notices, [{ kind: 'migrated', from: MIGRATIONS.length, to: MIGRATIONS.length + 1 }]);
  t.equal(migrated.get('k'), 'new');
  await migrated.close();
  const again = await openStore(directory, { migrations: next });
  t.same(again.notices, []);
  await again.close();

  const path = join(directory, 'cnm.db');
  const before = readFileSync(path);
  await t.rejects(openStore(directory), { name: 'StoreError', errno: 'ENOTSUP', message: /newer/ });
  t.throws(() => openReader(directory), { name: 'StoreError', errno: 'ENOTSUP' });
  t.ok(before.equals(readFileSync(path)), 'a newer store is left as it is');
});

t.test('nothing of a failed open stays', async (t) => {
  const directory = t.testdir({ 'cnm.db': { 'is a folder': '' } });
  await t.rejects(openStore(directory), { name: 'StoreError', operation: 'open' });
  await t.rejects(
    openStore(directory),
    { name: 'StoreError', operation: 'open' },
    'not EBUSY: the lock was let go',
  );
  const file = join(t.testdir({ file: '' }), 'file');
  await t.rejects(openStore(join(file, 'below')), { name: 'StoreError', errno: 'ENOTDIR' });
});

t.test('a folder that cannot be made is an error, also where the file system lies about why', async (t) => {
  // Below /proc nothing can be made, and the kernel says ENOENT although the parent is there.
  await t.rejects(openStore('/proc/cnm/state'), { name: 'StoreError', errno: 'ENOENT' });
});

t.test('writes of one turn share one commit', async (t) => {
  const directory = t.testdir();
  const store = await opened(t, directory);
  await store.write([{ put: 'first', value: 1 }]);
  const log = join(directory, 'cnm.db-wal');
  const before = statSync(log).size;
  await Promise.all(Array.from({ length: 20 }, (_, n) => store.write([{ put: `k${n}`, value: n }])));
  t.ok(statSync(log).size - before <= 2 * 4120, 'a frame or two for twenty writes');
  await setImmediate();
  t.equal(store.list('k').length, 20);
  t.ok(existsSync(log));
});
