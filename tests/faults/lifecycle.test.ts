/*
 *   h1: dockerd 20.10, cnmd ── n1 (cnm-bridge) ── c1, c2
 */
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import t from 'tap';
import { until } from '../lab/command.ts';
import { NODE, REPOSITORY } from '../lab/host.ts';
import { openLab } from '../lab/lab.ts';
import { admin, CrashDaemon, holdings } from './crash-host.ts';

const CREATE = [
  'network',
  'create',
  '-d',
  'cnm-bridge',
  '--ipam-driver',
  'cnm-ipam',
  '--subnet',
  '10.30.0.0/24',
];

t.test("L10: a container's namespace is gone before Docker tears it down", async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets' });
  await h.docker(...CREATE, 'n1');
  const before = await holdings(h);
  await h.container('c1', 'n1');
  const [pid, key] = (
    await h.docker('inspect', '-f', '{{.State.Pid}} {{.NetworkSettings.SandboxKey}}', 'c1')
  ).split(' ');
  await h.killDocker('SIGSTOP');
  await h.sh(`kill -KILL ${pid ?? ''}; umount -l /run/docker/netns/${basename(key ?? '')}`);
  // The sockets of Docker's resolver may keep the namespace itself alive; nothing can be brought back from it any more.
  await h.killDocker('SIGCONT');
  await until('Docker to notice', 60_000, async () => (await h.docker('ps', '-q')) === '' || undefined);
  await h.docker('rm', '-f', 'c1');
  const after = await holdings(h);
  t.same(after.kernel, before.kernel, 'links and rules on the host are gone');
  t.same(after.records, before.records, 'and the records');
  t.same(after.wrong, [], 'the doctor finds nothing');
  await h.container('c2', 'n1');
  t.ok(await h.containerPings('c2', '10.30.0.1'), 'the network serves the next container');
});

t.test('L11: links that were deleted by hand do not keep anything alive', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets' });
  const before = await holdings(h);
  await h.docker(...CREATE, 'n1');
  await h.container('c1', 'n1');
  // Stopped, or it would put them back.
  const links = JSON.parse(await h.net('ip', '-j', 'link', 'show')) as readonly Link[];
  const ours = links.filter(({ ifalias }) => ifalias?.startsWith('cnm '));
  t.equal(ours.length, 2, 'a bridge and a veth');
  await h.killPlugin('SIGSTOP');
  for (const { ifname } of ours) await h.net('ip', 'link', 'del', ifname);
  await h.killPlugin('SIGCONT');
  await h.docker('rm', '-f', 'c1');
  await h.docker('network', 'rm', 'n1');
  const after = await holdings(h);
  t.same(after.kernel, before.kernel, 'nothing is left in the kernel, rules included');
  t.same(after.records, before.records, 'nor in the records');
  t.same(after.wrong, []);
});

t.test('L13: signals, stale sockets, and a second instance', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets' });
  await h.docker(...CREATE, 'n1');
  await h.container('c1', 'n1');
  const sockets = [
    '/run/docker/plugins/cnm-bridge.sock',
    '/run/docker/plugins/cnm-ipam.sock',
    '/run/cnm/cnm.sock',
  ];
  const there = () => sockets.filter((path) => existsSync(h.outside(path)));
  const running = await holdings(h);

  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    await h.killPlugin(signal);
    t.same(there(), [], `${signal}: no socket is left`);
    t.ok(await h.containerPings('c1', '10.30.0.1'), `${signal}: the network goes on`);
    await h.startPlugin();
    // The lab waits for the driver's socket; the others follow it.
    await until('all sockets', 60_000, () => there().length === sockets.length || undefined);
    t.same(await holdings(h), running, `${signal}: and after the start all is as it was`);
  }

  await h.killPlugin('SIGKILL');
  t.same(there(), sockets, 'SIGKILL leaves the sockets');
  await h.startPlugin();
  t.same((await admin(h, 'GET', '/v1/version')).status, 200, 'stale sockets are replaced');

  const second = new CrashDaemon(h);
  await t.rejects(second.start(), /in use by|Another cnmd/, 'a second instance on the same state is refused');
  const argv = [
    '--state-dir',
    '/tmp/other',
    '--admin-socket',
    '/tmp/other.sock',
    '--plugin-dir',
    '/tmp/plugins',
  ];
  const { code, stderr } = await h.tryRun([NODE, join(REPOSITORY, 'main.ts'), ...argv]);
  t.not(code, 0, 'and so is one on other folders: one daemon looks after a namespace');
  t.match(stderr, /Another cnmd/);
  t.same(await holdings(h), running, 'neither of them touched anything');
  t.same((await h.plugin('cnm-bridge', 'Plugin.Activate')).status, 200, 'and the first still answers');
});

interface Link {
  readonly ifname: string;
  readonly ifalias?: string;
}
