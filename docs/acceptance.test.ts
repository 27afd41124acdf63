/** Holds docs/acceptance.md to the tests that it names. */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';

const ROOT = join(import.meta.dirname, '..');
const text = readFileSync(join(import.meta.dirname, 'acceptance.md'), 'utf8');
const [tested = '', open = ''] = text.split('\n## Not met yet\n');
const CASE = /\b[BDEILMOPSTV]\d\d\b/g;

const rows = [...tested.matchAll(/^\| ([A-Z]\d\d) \|.*\| (`.*`) \|$/gm)].map(([, id = '', files = '']) => ({
  id,
  files: [...files.matchAll(/`([^`]+)`/g)].map(([, file = '']) => file),
}));
const later = [...open.matchAll(/^\| ((?:[A-Z]\d\d(?:, )?)+) \|/gm)].flatMap(([, ids = '']) =>
  ids.split(', '),
);

t.test('a case that counts as tested is in the files that are named', (t) => {
  t.ok(rows.length > 50);
  for (const { id, files } of rows) {
    t.ok(files.length > 0, id);
    for (const file of files) {
      const path = join(ROOT, file);
      const borne = existsSync(path) ? readFileSync(path, 'utf8').matchAll(CASE) : [];
      t.ok([...borne].map(String).includes(id), `${id} in ${file}`);
    }
  }
  t.end();
});

t.test('a case is listed once', (t) => {
  const all = [...rows.map(({ id }) => id), ...later];
  t.equal(all.length, 152, 'every case, met or not');
  t.same(
    all.filter((id, index) => all.indexOf(id) !== index),
    [],
  );
  t.end();
});

t.test('a case that a root test bears is listed', (t) => {
  const listed = new Set([...rows.map(({ id }) => id), ...later]);
  const titles = globSync('tests/**/*.test.ts', { cwd: ROOT }).flatMap((file) =>
    [...readFileSync(join(ROOT, file), 'utf8').matchAll(/\bt\.test\(\s*['"`](.*)$/gm)].map(
      ([, title = '']) => title,
    ),
  );
  const borne = titles.flatMap((title) => title.match(CASE) ?? []);
  t.ok(borne.length > 40);
  t.same(
    borne.filter((id) => !listed.has(id)),
    [],
  );
  t.end();
});

t.test('every file that is named exists', (t) => {
  for (const [, file = ''] of text.matchAll(/`((?:tests|docs|cnm|ipam|dns|drivers|plugin-api)\/[^`]+)`/g)) {
    t.ok(existsSync(join(ROOT, file)), file);
  }
  t.end();
});
