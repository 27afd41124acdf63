/** Holds README.md to the options that there are, and to the tests that it names. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { assertNamedTests, assertSections, knownOptions, tableRows } from '../../tests/driver-readme.ts';
import { parseOptions } from './options.ts';

const text = readFileSync(join(import.meta.dirname, 'README.md'), 'utf8');
const known = knownOptions(parseOptions);
const comparison = tableRows(text, "Where Docker's driver and this one differ");

t.test('every option is in the table of options, and every Docker option in the one that compares', (t) => {
  const options = tableRows(text, '\n## Options\n').flatMap(({ names }) => names);
  const compared = comparison.flatMap(({ names }) => names);
  t.ok(known.length > 15);
  for (const name of known) {
    t.ok(options.includes(name), name);
    const short = name.replace(/^com\.docker\.network\.(bridge\.)?/, '').replace(/_ipv[46]$/, '');
    const isThere = compared.some((one) => one.startsWith(short) || `bridge.${short}` === one);
    t.ok(isThere || name.startsWith('cnm.'), `${name} compared`);
  }
  t.end();
});

t.test('the tests that are named exist', (t) => {
  t.ok(assertNamedTests(t, comparison, 'tests/acceptance/bridge-options.test.ts') > 15);
  t.end();
});

t.test('the sections that every driver’s README has', (t) => {
  assertSections(t, text, 'bridge');
  t.end();
});
