// lab: alone
/*
 *   c1 ── n1 (cnm-bridge) ── c2                       ping c1 → c2, 100/s
 *           │
 *   h1: dockerd 20.10, cnmd ── uplink ── world        ping c1 → world, 100/s, and 100 new UDP flows a second
 *
 * The daemon comes, goes, dies and is replaced by another version; running containers must not notice.
 */
import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { NODE, REPOSITORY } from '../lab/host.ts';
import { openLab, WORLD } from '../lab/lab.ts';
import { FLOWS, newFlows, ping } from './probe.ts';

t.test('running containers lose no packet', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets' });
  const echo = lab.world.spawn([NODE, FLOWS, 'echo', WORLD]);
  await until('the echo server', 60_000, () => echo.stdout.includes('ready') || undefined);
  await h.docker('network', 'create', '-d', 'cnm-bridge', '--ipam-driver', 'cnm-ipam', 'n1');
  await h.container('c1', 'n1');
  await h.container('c2', 'n1');
  const there = await h.docker('inspect', '-f', '{{.NetworkSettings.Networks.n1.IPAddress}}', 'c2');
  const c1 = await h.sandbox('c1');

  const during = async (t: Test, work: () => Promise<void>): Promise<void> => {
    const probes = await Promise.all([
      ping('ping to the other container', c1, there),
      ping('ping to the world', c1, WORLD),
      newFlows('new flows to the world', c1, WORLD),
    ]);
    await work();
    await sleep(500);
    for (const probe of probes) {
      const { sent, lost } = await probe.stop();
      t.ok(sent > 50, `${probe.name}: ${sent} packets`);
      t.same(lost, [], `${probe.name}: none lost`);
    }
  };

  await t.test('while it is stopped with SIGTERM, absent for a second, and started', (t) =>
    during(t, async () => {
      await h.killPlugin('SIGTERM');
      await sleep(1_000);
      await h.startPlugin();
    }),
  );

  await t.test('while it is killed with SIGKILL, and started', (t) =>
    during(t, async () => {
      await h.killPlugin('SIGKILL');
      await sleep(300);
      await h.startPlugin();
    }),
  );

  await t.test('while it is restarted three times on end', (t) =>
    during(t, async () => {
      for (let times = 0; times < 3; times += 1) {
        await h.killPlugin(times === 1 ? 'SIGKILL' : 'SIGTERM');
        await h.startPlugin();
      }
    }),
  );

  await t.test('while it is replaced by a version with another ruleset, and back', async (t) => {
    const first = await rulesetVersion(h);
    const other = await otherVersion(h.dir);
    await during(t, async () => {
      await h.killPlugin('SIGTERM');
      const upgraded = h.spawn([NODE, join(other, 'main.ts'), ...daemonArguments(h)]);
      await until(
        'the other version to be ready',
        60_000,
        () => / ready /.test(upgraded.stdout + upgraded.stderr) || undefined,
      );
      t.not(await rulesetVersion(h), first, 'the other version loaded its own ruleset');
      await upgraded.kill('SIGTERM');
      await h.startPlugin();
      await until('the ruleset', 60_000, async () => (await rulesetVersion(h)) === first || undefined);
    });
  });

  await t.test('while doctor repairs, with nothing to repair and with a rule gone', (t) =>
    during(t, async () => {
      for (let times = 0; times < 3; times += 1) await h.cnm('doctor', '--fix');
      // Nothing that this traffic needs: an element too many, which the doctor takes away.
      await h.sh('nft add element inet cnm internal { "stranger" }');
      await h.cnm('doctor', '--fix');
      t.notMatch(await h.sh('nft list set inet cnm internal'), 'stranger');
    }),
  );

  const { code, stdout, stderr } = await h.tryCnm('doctor');
  t.equal(code, 0, `and at the end nothing differs: ${stdout}${stderr}`);
});

async function rulesetVersion(h: DockerHost): Promise<string> {
  return /set (version_\w+)/.exec(await h.sh('nft list table inet cnm'))?.[1] ?? 'none';
}

/** A copy of the project whose chains carry another stamp. */
async function otherVersion(folder: string): Promise<string> {
  const copy = join(folder, 'other-version');
  await mkdir(copy);
  const parts =
    'address cnm daemon dns drivers inspect ipam kernel plugin-api store main.ts vtep-worker.ts package.json';
  for (const part of parts.split(' '))
    await cp(join(REPOSITORY, part), join(copy, part), { recursive: true });
  await symlink(join(REPOSITORY, 'node_modules'), join(copy, 'node_modules'));
  const path = join(copy, 'kernel/ruleset.ts');
  const source = await readFile(path, 'utf8');
  const other = source.replace('.update(BODY', ".update('another' + BODY");
  if (other === source) throw new Error(`${path}: the version is no longer made there`);
  await writeFile(path, other);
  return copy;
}

function daemonArguments(h: DockerHost): readonly string[] {
  return ['--state-dir', h.cnmd.stateFolder, '--admin-socket', h.cnmd.adminSocket];
}
