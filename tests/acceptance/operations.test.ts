/*
 * docs/operations.md as a stranger reads it: the blocks marked `console run` typed one after the other on one machine, and
 * what the command prints held against the page, line by line. Ids, random MACs, times and the spaces of a table may differ;
 * an id or name that the page has twice must be the same one here, too.
 *
 *   world ── uplink ── h1 (cnmd) ── demo 10.88.0.0/24, fd00:88::/64 ── web, db
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { REPOSITORY } from '../lab/host.ts';
import { openLab } from '../lab/lab.ts';
import { installCommand } from './observe.ts';

interface Example {
  readonly command: string;
  /** What it prints, standard error last. */
  readonly prints: readonly string[];
  readonly status: number;
}

async function examples(): Promise<readonly Example[]> {
  const page = await readFile(join(REPOSITORY, 'docs/operations.md'), 'utf8');
  const blocks = [...page.matchAll(/^```console run\n([^]*?)^```$/gm)].map(([, block = '']) => block);
  return blocks.flatMap((block) =>
    block
      .split(/^\$ /m)
      .slice(1)
      .map((one) => {
        const [command = '', ...lines] = one.trimEnd().split('\n');
        const status = /^\[exit status (\d+)\]$/.exec(lines.at(-1) ?? '')?.[1];
        return {
          command,
          prints: status === undefined ? lines : lines.slice(0, -1),
          status: Number(status ?? 0),
        };
      }),
  );
}

/** What no two runs have in common. A line is cut at these; what stands between them is held to the letter. */
const VOLATILE =
  /[0-9a-f]{64}|(?<=\bcnm|\b)[0-9a-f]{12}\b|\bveth\w+h\b|\d{4}-\d\d-\d\dT[\d:.]+Z|(?:[0-9a-f]{2}:){5}[0-9a-f]{2}|\d+\.\d+(?:\/\d+\.\d+)+(?= ms)|(?<==)\d+(?:\.\d+)?(?= ms)|(?<=time )\d+(?=ms)/g;

/** Measured times are no names. */
const MEASURED = /T[\d:.]+Z$|^\d+(\.\d+(\/|$)|$)/;

/** The kernel makes link-local addresses in its own time: just after a join there may be none yet. */
const settled = (line: string) => line.replace(/ {2}fe80::[0-9a-f:]+\/64/g, '');

const fixed = (line: string) => settled(line).replace(VOLATILE, '…').replace(/ {2,}/g, '  ').trimEnd();

/** The page's ids, and what they are here. */
class Meanings {
  readonly #here = new Map<string, string>();

  /** @returns the page's words that had another meaning before. */
  learn(page: string, here: string): readonly string[] {
    const theirs = settled(here).match(VOLATILE) ?? [];
    return (settled(page).match(VOLATILE) ?? []).filter((word, n) => {
      if (MEASURED.test(word)) return false;
      const before = this.#here.get(word);
      this.#here.set(word, theirs[n] ?? '');
      return before !== undefined && before !== theirs[n];
    });
  }
}

t.test('what docs/operations.md shows is what one sees', async (t) => {
  const lab = await openLab(t);
  const h = await lab.bareHost();
  await installCommand(h);
  const meanings = new Meanings();
  const all = await examples();
  t.ok(all.length > 15, `${all.length} examples`);
  for (const { command, prints, status } of all) {
    const { code, stdout, stderr } = await h.trySh(command);
    t.equal(code, status, `$ ${command}: ${stderr}`);
    const lines = (stdout + stderr).trimEnd().split('\n');
    t.same(lines.map(fixed), prints.map(fixed), `$ ${command}`);
    const changed = lines.flatMap((line, n) => meanings.learn(prints[n] ?? '', line));
    t.same(changed, [], 'one word of the page is one thing');
  }
});
