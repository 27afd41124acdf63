/** A program with musl's resolver in it (resolve.c), for containers whose image has glibc's. */
import { join } from 'node:path';
import type { Host } from '../lab/host.ts';

/** Builds it on a host. @returns Where it stands there. */
export async function muslResolve(h: Host): Promise<string> {
  const made = '/usr/local/bin/resolve';
  const source = join(import.meta.dirname, 'resolve.c');
  await h.run(['musl-gcc', '-static', '-O1', '-Wall', '-Werror', '-o', made, source]);
  return made;
}

/** What it says of each name: its addresses in order, or a sentence. */
export function resolved(output: string): Readonly<Record<string, string>> {
  return Object.fromEntries(
    output
      .trim()
      .split('\n')
      .map((line) => {
        const [, name = '', said = ''] = /^([^\s:]+):? ?(.*)$/.exec(line) ?? [];
        return [name, line.includes(': ') ? said : said.split(' ').sort().join(' ')];
      }),
  );
}
