/** Holds README.md to the options that there are. Its examples are typed by tests/acceptance/readme-overlay.test.ts. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parseOptions } from './options.ts';

const text = readFileSync(join(import.meta.dirname, 'README.md'), 'utf8');

function section(title: string): string {
  return new RegExp(`^## ${title}\\n([^]*?)(?=^## |$(?![^]))`, 'm').exec(text)?.[1] ?? '';
}

/** The options that the table tells of, without Docker's own for every driver. */
function told(): readonly string[] {
  const rows = [...section('Options').matchAll(/^\| (`[^|]*`) \| (.*) \|$/gm)];
  return rows
    .filter(([, , rest = '']) => !rest.startsWith("Docker's own"))
    .flatMap(([, names = '']) => [...names.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name));
}

/** What the driver says when it is asked for what it does not know. */
function known(): readonly string[] {
  try {
    parseOptions({ options: { nonsense: '' } });
  } catch (error) {
    return /it knows (.*)$/.exec((error as Error).message)?.[1]?.split(', ') ?? [];
  }
  return [];
}

t.test('the table tells of every option, and of no other', (t) => {
  t.ok(known().length > 8);
  t.same([...told()].sort(), [...known()].sort());
  t.end();
});

t.test('the sections that every driver’s README has', (t) => {
  for (const title of ['What it builds', 'Options', 'Examples', 'How to debug it', 'Limits'])
    t.not(section(title), '', title);
  t.match(section('What it builds'), /```text\n[^]*br0/, 'with a drawing');
  t.end();
});
