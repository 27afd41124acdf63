/*
 * The examples of the README, typed as they stand there: the blocks marked `run=plugin` one after the other on a machine
 * with a Docker Engine, those marked `run=standalone` on one where cnmd runs.
 *
 *   world ── uplink ── h1 (dockerd 20.10)
 *                 └─── h2 (cnmd)
 */
import { mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import { type Output, run } from './lab/command.ts';
import { type Host, NODE, REPOSITORY } from './lab/host.ts';
import { openLab } from './lab/lab.ts';

const readme = await readFile(join(REPOSITORY, 'README.md'), 'utf8');

/** Blocks of shell, by what their first line says behind `run=`; undefined where it says nothing. */
function blocks(text: string): readonly { readonly where: string | undefined; readonly shell: string }[] {
  const found = text.matchAll(/^```bash(?: run=(\w+))?\n([^]*?)^```$/gm);
  return [...found].map(([, where, shell = '']) => ({ where, shell }));
}

function script(where: string): string {
  return blocks(readme)
    .filter((block) => block.where === where)
    .map((block) => block.shell)
    .join('\n');
}

/** A copy of the sources in the host's folder, for what the examples write; and `cnm` as an installation would give it. */
async function checkout(host: Host): Promise<string> {
  const folder = join(host.dir, 'checkout');
  await mkdir(join(folder, 'bin'), { recursive: true });
  const copy =
    'git ls-files -z --cached --others --exclude-standard | tar -c --null -T - --ignore-failed-read | tar -x -C "$1"';
  await run(['bash', '-c', copy, 'copy', folder], { cwd: REPOSITORY });
  await symlink(join(REPOSITORY, 'node_modules'), join(folder, 'node_modules'));
  await writeFile(join(folder, 'bin/cnm'), `#!/bin/sh\nexec ${NODE} ${REPOSITORY}/inspect/cnm.ts "$@"\n`, {
    mode: 0o755,
  });
  return folder;
}

async function type(host: Host, shell: string): Promise<Output> {
  const folder = await checkout(host);
  return host.trySh(`cd ${folder} && PATH=$PWD/bin:$PATH && set -e\n${shell}`, { timeout: 200_000 });
}

t.test('every block is run here, or is one that this test cannot run', (t) => {
  const others = blocks(readme).filter(({ where }) => where === undefined);
  t.equal(others.length, 2, 'the quickstart (its own test) and the installation as a service (systemd)');
  t.match(others[0]?.shell, /npm run quickstart/);
  t.match(others[1]?.shell, /systemctl/);
  t.end();
});

t.test('as a managed plugin of Docker', async (t) => {
  const lab = await openLab(t);
  const host = await lab.dockerHost();
  await host.docker('tag', 'cnm-lab', 'alpine');
  const { code, stdout, stderr } = await type(host, script('plugin'));
  t.equal(code, 0, code === 0 ? 'every command succeeds' : stderr + stdout);
  t.match(stdout, /1 packets transmitted, 1 (packets )?received/, 'c1 answers to its name');
  t.match(stdout, /localnet +cnm-bridge/, 'cnm network ls');
  t.match(stdout, /container c1/, 'cnm network inspect');
});

t.test('without Docker', async (t) => {
  const lab = await openLab(t);
  const host = await lab.bareHost();
  const { code, stdout, stderr } = await type(host, script('standalone'));
  t.equal(code, 0, code === 0 ? 'every command succeeds' : stderr + stdout);
  t.match(stdout, /1 packets transmitted, 1 (packets )?received/);
  t.match(stdout, /sandbox web/);
});
