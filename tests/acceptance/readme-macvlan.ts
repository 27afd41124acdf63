/** drivers/macvlan/README.md as tests read it: its examples, and the table for debugging. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { REPOSITORY } from '../lab/host.ts';

export interface Readme {
  /** The lines of each ```console block that follow a prompt. */
  readonly examples: readonly (readonly string[])[];
  /** Those among them that need a kernel with 8021q. */
  readonly vlans: readonly string[];
  /** The table for debugging: a question, and the commands that answer it. */
  readonly questions: ReadonlyMap<string, readonly string[]>;
}

export async function readme(): Promise<Readme> {
  const text = await readFile(join(REPOSITORY, 'drivers/macvlan/README.md'), 'utf8');
  const blocks = [...text.matchAll(/^```console\n([^]*?)^```$/gm)].map((match) => match[1] ?? '');
  const all = blocks.map((block) => [...block.matchAll(/^# (.*)$/gm)].map((match) => match[1] ?? ''));
  const isVlan = (lines: readonly string[]) => lines.some((line) => line.includes('vlan='));
  const [, table = ''] = /^## How to debug it\n([^]*?)^## /m.exec(text) ?? [];
  const rows = [...table.matchAll(/^\| (.*?\?) \| (.*) \|$/gm)].map(([, question = '', answer = '']) => {
    const commands = [...answer.matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? '');
    return [question, commands] as const;
  });
  return {
    examples: all.filter((lines) => !isVlan(lines)),
    vlans: all.filter(isVlan).flat(),
    questions: new Map(rows),
  };
}
