/** Holds README.md to the options that there are. Its examples are typed by tests/acceptance/readme-overlay.test.ts. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { assertSections, knownOptions, tableRows } from '../../tests/driver-readme.ts';
import { parseOptions } from './options.ts';

const text = readFileSync(join(import.meta.dirname, 'README.md'), 'utf8');
const known = knownOptions((options) => parseOptions({ options }));

t.test('the table tells of every option, and of no other', (t) => {
  const told = tableRows(text, '\n## Options\n')
    .filter(({ cells }) => cells[1]?.startsWith("Docker's own") === false)
    .flatMap(({ names }) => names);
  t.ok(known.length > 8);
  t.same([...told].sort(), [...known].sort());
  t.end();
});

t.test('the sections that every driver’s README has', (t) => {
  assertSections(t, text, 'br0');
  t.end();
});
