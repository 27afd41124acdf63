import t from 'tap';
import { fields, table } from './table.ts';
import { printable } from './text.ts';
import { drawBranches } from './tree.ts';

t.test('columns are as wide as their widest cell; nothing is cut off', (t) => {
  const long = 'x'.repeat(64);
  t.equal(
    table(
      ['ID', 'NAME', 'N'],
      [
        ['1', long, '3'],
        ['22222', 'b', ''],
      ],
    ),
    [`ID      NAME${' '.repeat(63)}N`, `1       ${long}   3`, '22222   b', ''].join('\n'),
  );
  t.equal(table(['ID', 'NAME'], []), 'ID   NAME\n', 'an empty listing is its header');
  t.strictSame(
    fields([
      ['a', '1'],
      ['bcd', '2'],
    ]),
    ['  a     1', '  bcd   2'],
  );
  t.end();
});

t.test("others' names cannot write to the terminal", (t) => {
  t.equal(printable('a\u001b[2J\u0000\n\u009bz é'), 'a\\x1b[2J\\x00\\x0a\\x9bz é');
  t.notMatch(table(['A'], [['\u001b[31m']]), '\u001b');
  t.end();
});

t.test('a tree', (t) => {
  const leaf = (name: string) => ({ lines: [name, `${name}2`], children: [] });
  t.strictSame(drawBranches([{ lines: ['a'], children: [leaf('b'), leaf('c')] }, leaf('d')], ' '), [
    ' +-- a',
    ' |   +-- b',
    ' |   |   b2',
    ' |   `-- c',
    ' |       c2',
    ' `-- d',
    '     d2',
  ]);
  t.end();
});
