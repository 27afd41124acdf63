/** Holds README.md to the options that there are, and to the tests that it names. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parseOptions } from './options.ts';

const text = readFileSync(join(import.meta.dirname, 'README.md'), 'utf8');

/** Cells of a row, with their words in code; `…` in a name stands for what the name before it begins with. */
interface Row {
  readonly names: readonly string[];
  readonly cells: readonly string[];
}

function rows(heading: string): readonly Row[] {
  const [, table = ''] = text.split(heading);
  const lines = table.slice(table.indexOf('\n|') + 1).split(/\n(?!\|)/)[0] ?? '';
  return lines
    .split('\n')
    .slice(2)
    .map((line) => line.slice(2, -2).split(' | '))
    .map((cells) => ({ names: namesIn(cells[0] ?? ''), cells }));
}

function namesIn(cell: string): readonly string[] {
  const names: string[] = [];
  for (const [, word = ''] of cell.matchAll(/`([^`]+)`/g)) {
    const before = names.at(-1) ?? '';
    const suffix = word.replace('…', '');
    names.push(word.startsWith('…') ? before.slice(0, -suffix.length) + suffix : word);
  }
  return names;
}

/** What the driver says when it is asked for what it does not know. */
function known(): readonly string[] {
  try {
    parseOptions({ nonsense: '' });
  } catch (error) {
    return /it knows (.*)$/.exec((error as Error).message)?.[1]?.split(', ') ?? [];
  }
  return [];
}

t.test('every option is in the table of options, and every Docker option in the one that compares', (t) => {
  const options = rows('\n## Options\n').flatMap(({ names }) => names);
  const compared = rows("Where Docker's driver and this one differ").flatMap(({ names }) => names);
  t.ok(known().length > 6);
  for (const name of known()) {
    t.ok(options.includes(name), name);
    const short = name.replace(/^com\.docker\.network\./, '');
    t.ok(compared.includes(short) || name.startsWith('cnm.'), `${name} compared`);
  }
  t.end();
});

t.test('the tests that are named exist', (t) => {
  const other = 'tests/acceptance/macvlan.test.ts';
  let named = 0;
  for (const { cells } of rows("Where Docker's driver and this one differ")) {
    const cell = cells.at(-1) ?? '';
    for (const [, title, path] of cell.matchAll(/"([^"]+)"(?: in \[[^\]]+\]\(\.\.\/\.\.\/([^)]+)\))?/g)) {
      const file = readFileSync(join(import.meta.dirname, '../..', path ?? other), 'utf8');
      t.ok(file.includes(title ?? ''), `"${title ?? ''}" in ${path ?? other}`);
      named += 1;
    }
    for (const [, linked, code] of cell.matchAll(/\(\.\.\/\.\.\/([^)]+)\)|`([^`]+)`/g)) {
      const path = linked ?? code ?? '';
      t.ok(existsSync(join(import.meta.dirname, '../..', path)), path);
    }
  }
  t.ok(named > 7);
  t.end();
});

t.test('the sections that every driver’s README has', (t) => {
  const sections = [...text.matchAll(/^## (.*)$/gm)].map(([, title]) => title);
  for (const title of ['What it builds', 'Options', 'Examples', 'How to debug it', 'Limits'])
    t.ok(sections.includes(title), title);
  t.match(text, /## What it builds[^]*```text\n[^]*macvlan/, 'with a drawing');
  t.end();
});
