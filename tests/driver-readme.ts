/** What every driver's README is held to: its options, the tests that it names, its sections. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';

const ROOT = join(import.meta.dirname, '..');

/** Cells of a row, with the words in code of its first; `…` in a name stands for what the name before it begins with. */
export interface Row {
  readonly names: readonly string[];
  readonly cells: readonly string[];
}

/** Of the table after a heading, or after a sentence. */
export function tableRows(text: string, heading: string): readonly Row[] {
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

/** What a driver says when it is asked for what it does not know. */
export function knownOptions(
  parse: (options: Readonly<Record<string, string>>) => unknown,
): readonly string[] {
  try {
    parse({ nonsense: '' });
  } catch (error) {
    return /it knows (.*)$/.exec((error as Error).message)?.[1]?.split(', ') ?? [];
  }
  return [];
}

/** `"title" in [file](path)` in the last cell, or `"title"` alone, of a test in `other`; a link or a path alone is that file. */
export function assertNamedTests(t: Test, rows: readonly Row[], other: string): number {
  let named = 0;
  for (const { cells } of rows) {
    const cell = cells.at(-1) ?? '';
    for (const [, title = '', path = other] of cell.matchAll(
      /"([^"]+)"(?: in \[[^\]]+\]\(\.\.\/\.\.\/([^)]+)\))?/g,
    )) {
      t.ok(readFileSync(join(ROOT, path), 'utf8').includes(title), `"${title}" in ${path}`);
      named += 1;
    }
    for (const [, linked, code = ''] of cell.matchAll(
      /\(\.\.\/\.\.\/([^)]+)\)|`((?:tests|drivers)\/[^`]+)`/g,
    ))
      t.ok(existsSync(join(ROOT, linked ?? code)), linked ?? code);
  }
  return named;
}

/** @param drawn what its drawing shows. */
export function assertSections(t: Test, text: string, drawn: string): void {
  const sections = [...text.matchAll(/^## (.*)$/gm)].map(([, title]) => title);
  for (const title of ['What it builds', 'Options', 'Examples', 'How to debug it', 'Limits'])
    t.ok(sections.includes(title), title);
  t.match(text, new RegExp(`## What it builds[^]*\`\`\`text\\n[^]*${drawn}`), 'with a drawing');
}
