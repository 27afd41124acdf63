/** A damaged store: never emptied in silence, nothing false in it, and all that is readable is kept. */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { openStore } from './sqlite.ts';
import type { Change } from './store.ts';

const PAGE = 4096;

/** Small ones, some of several overflow pages, and non-ASCII ones. */
const RECORDS = new Map<string, unknown>(
  Array.from({ length: 400 }, (_, n) => [
    `key/${n}`,
    { n, text: `${n}é`.repeat(n % 40 === 0 ? 3000 : (n % 7) * 10) },
  ]),
);

/** A store that was closed, and one whose records are in the log as after kill -9. */
async function templates(root: string): Promise<{ closed: string; killed: string }> {
  const closed = join(root, 'closed');
  const killed = join(root, 'killed');
  const store = await openStore(closed);
  const changes: Change[] = [...RECORDS].map(([put, value]) => ({ put, value }));
  await store.write([...changes.slice(0, 300), { put: 'deleted', value: 'must not come back' }]);
  await store.write([{ put: 'key/1', value: 'old' }, { delete: 'deleted' }]);
  await store.write(changes.slice(300));
  await store.write(changes.slice(1, 2));
  copy(closed, killed);
  await store.close();
  return { closed, killed };
}

function copy(from: string, to: string): void {
  mkdirSync(to);
  for (const file of ['cnm.db', 'cnm.db-wal']) {
    if (existsSync(join(from, file))) copyFileSync(join(from, file), join(to, file));
  }
}

const root = t.testdir();
const { closed, killed } = await templates(root);

let copies = 0;
function damaged(from: string, damage: (directory: string) => void): string {
  const directory = join(root, `copy-${copies++}`);
  copy(from, directory);
  damage(directory);
  return directory;
}

function overwrite(file: string, at: number, bytes: Uint8Array): void {
  const content = readFileSync(file);
  content.set(bytes.subarray(0, content.length - at), at);
  writeFileSync(file, content);
}

/**
 * Opens it and holds what it shows against the records. A last write that is damaged in the log cannot be told from one that
 * a power cut tore before it was acknowledged: with a notice, the state before it is right too.
 */
async function survey(
  directory: string,
): Promise<{ missing: number; wrong: string[]; notices: number; keptAs: string }> {
  const store = await openStore(directory);
  const entries = new Map(store.list(''));
  const wrong = [...entries]
    .filter(([key, value]) => JSON.stringify(RECORDS.get(key)) !== JSON.stringify(value))
    .filter(([key, value]) => store.notices.length === 0 || key !== 'key/1' || value !== 'old')
    .map(([key]) => key);
  const notice = store.notices[0];
  const keptAs = notice?.kind === 'damaged' ? notice.keptAs : '';
  await store.write([{ put: 'still/writable', value: 1 }]);
  await store.close();
  return { missing: RECORDS.size - entries.size, wrong, notices: store.notices.length, keptAs };
}

t.test('the templates are sound, the killed one by its log', async (t) => {
  for (const from of [closed, killed]) {
    const directory = damaged(from, () => undefined);
    t.same(await survey(directory), { missing: 0, wrong: [], notices: 0, keptAs: '' });
  }
});

t.test('damage that costs no record', async (t) => {
  const rows: readonly (readonly [string, string, (directory: string) => void])[] = [
    [
      'header',
      closed,
      (d) => {
        overwrite(join(d, 'cnm.db'), 0, Buffer.alloc(100, 0xa5));
      },
    ],
    [
      'first page',
      closed,
      (d) => {
        overwrite(join(d, 'cnm.db'), 0, Buffer.alloc(PAGE, 0xa5));
      },
    ],
    [
      "first two pages, the b-tree's root",
      closed,
      (d) => {
        overwrite(join(d, 'cnm.db'), 0, Buffer.alloc(2 * PAGE));
      },
    ],
    [
      'header of the log',
      killed,
      (d) => {
        overwrite(join(d, 'cnm.db-wal'), 0, Buffer.alloc(32, 0xa5));
      },
    ],
    [
      'checksum of a frame of the log',
      killed,
      (d) => {
        overwrite(join(d, 'cnm.db-wal'), 32 + 4120 + 18, Buffer.alloc(1, 0xa5));
      },
    ],
    [
      'database gone, all in the log',
      killed,
      (d) => {
        rmSync(join(d, 'cnm.db'));
      },
    ],
  ];
  for (const [name, from, damage] of rows) {
    const directory = damaged(from, damage);
    const before = readFileSync(
      join(directory, existsSync(join(directory, 'cnm.db')) ? 'cnm.db' : 'cnm.db-wal'),
    );
    const { missing, wrong, notices, keptAs } = await survey(directory);
    t.same([missing, wrong, notices], [0, [], 1], name);
    t.match(keptAs, /cnm\.db\.damaged-\d{4}-\d\d-\d\dT/);
    const kept = readFileSync(existsSync(keptAs) ? keptAs : `${keptAs}-wal`);
    t.ok(kept.equals(before), 'the damaged file is kept as it was');
    const again = await openStore(directory);
    t.same(again.notices, [], 'once');
    t.equal(again.get('still/writable'), 1);
    await again.close();
  }
});

t.test('a truncated file keeps what its pages hold', async (t) => {
  for (const size of [0, 50, PAGE, 5 * PAGE + 7, readFileSync(join(closed, 'cnm.db')).length - PAGE]) {
    const directory = damaged(closed, (d) => {
      truncateSync(join(d, 'cnm.db'), size);
    });
    const { wrong, notices } = await survey(directory);
    t.same([wrong, notices], [[], 1], `${size} bytes`);
  }
  const directory = damaged(closed, (d) => {
    truncateSync(join(d, 'cnm.db'), 8 * PAGE);
  });
  t.ok((await survey(directory)).missing < 390, 'and that is not nothing');
});

t.test('a crash while the damaged file is set aside is taken up again', async (t) => {
  const directory = damaged(closed, (d) => {
    overwrite(join(d, 'cnm.db'), 0, Buffer.alloc(100));
  });
  const store = await openStore(directory);
  await store.close();
  // As it was between the two renames: nothing under the real name.
  const kept = readdirSync(directory).find((file) => file.startsWith('cnm.db.damaged-')) ?? '';
  const salvaged = join(directory, kept.replace('damaged', 'salvaged'));
  copyFileSync(join(directory, 'cnm.db'), salvaged);
  rmSync(join(directory, 'cnm.db'));
  t.same(await survey(directory), { missing: 0, wrong: [], notices: 1, keptAs: join(directory, kept) });
  t.notOk(existsSync(salvaged));
});

t.test('any damaged bytes: nothing false, nothing lost in silence, little lost', async () => {
  const damage = fc.record({
    from: fc.constantFrom(closed, killed),
    file: fc.constantFrom('cnm.db', 'cnm.db-wal'),
    // Of the file's length.
    at: fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true }),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 64 }),
  });
  await fc.assert(
    fc.asyncProperty(damage, async ({ from, file, at, bytes }) => {
      fc.pre(existsSync(join(from, file)));
      const directory = damaged(from, (d) => {
        const length = readFileSync(join(d, file)).length;
        overwrite(join(d, file), Math.floor(at * length), bytes);
      });
      const { missing, wrong, notices } = await survey(directory);
      rmSync(directory, { recursive: true });
      if (wrong.length > 0) throw new Error(`wrong: ${wrong.join(' ')}`);
      if (missing > 0 && notices === 0) throw new Error(`${missing} records missing and no notice`);
      return missing < 150;
    }),
    { numRuns: 120 },
  );
});
