/** A padded table: columns as wide as their widest cell, nothing cut off. Pure. */
import { type Paint, PLAIN, printable } from './text.ts';

export function table(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  paint: Paint = PLAIN,
): string {
  const cells = rows.map((row) => row.map(printable));
  const widths = header.map((title, column) =>
    Math.max(title.length, ...cells.map((row) => row[column]?.length ?? 0)),
  );
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('   ')
      .trimEnd();
  return [paint.bold(line(header)), ...cells.map(line)].join('\n') + '\n';
}

/** Name and value in two columns, indented. */
export function fields(rows: readonly (readonly [name: string, value: string])[]): readonly string[] {
  const width = Math.max(0, ...rows.map(([name]) => name.length));
  return rows.map(([name, value]) => `  ${name.padEnd(width)}   ${printable(value)}`.trimEnd());
}
