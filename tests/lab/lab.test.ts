/*
 *   world 203.0.113.1 ── uplink ── h1: dockerd 20.10 ── n1 (Docker's own bridge driver) ── c1, c2
 *                          └────── r
 */
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { Running, tryRun, until } from './command.ts';
import { openLab, WORLD, WORLD6 } from './lab.ts';
import { assertRestored, snapshot } from './snapshot.ts';
import { leftOf, PREFIX, suspectLinks, sweep } from './leftovers.ts';

t.test('a host with Docker 20.10 in one call', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost();
  t.match(await h.docker('version', '--format', '{{.Server.Version}}'), /^20\.10\./);

  t.test('reaches the world, and a peer on its segment', async (t) => {
    const r = await lab.peer({ name: 'r' });
    t.ok(await h.pings(WORLD));
    t.ok(await h.pings(WORLD6));
    t.ok(await h.pings(r.address));
    t.notOk(await h.pings('203.0.113.77', 1), 'and no address that is not there');
  });

  t.test('runs containers, which reach each other by name and the world by address', async (t) => {
    await h.docker('network', 'create', 'n1');
    await h.container('c1', 'n1');
    await h.container('c2', 'n1');
    t.match(await h.exec('c1', 'ping', '-c1', 'c2'), '1 received');
    t.match(await h.exec('c1', 'getent', 'hosts', 'c2'), 'c2');
    t.ok(await h.containerPings('c1', WORLD));
    t.match(await h.inContainer('c2', 'dig', '+short', '@127.0.0.11', 'c1'), /^\d+\.\d+\.\d+\.\d+\n$/);
  });

  t.test('sees in a snapshot what changed, and that it is as before when it was undone', async (t) => {
    const before = await snapshot(h);
    t.ok(await assertRestored(t, h, before));
    const changes: Record<string, [string, string]> = {
      links: ['ip link add probe type bridge', 'ip link del probe'],
      addresses: ['ip address add 192.0.2.9/32 dev lo', 'ip address del 192.0.2.9/32 dev lo'],
      routes: ['ip route add 192.0.2.0/24 via 198.51.100.1', 'ip route del 192.0.2.0/24'],
      'routes v6': ['ip -6 route add 2001:db8:9::/64 dev eth0', 'ip -6 route del 2001:db8:9::/64 dev eth0'],
      neighbours: [
        'ip neigh add 198.51.100.99 lladdr 02:00:00:00:00:01 dev eth0',
        'ip neigh del 198.51.100.99 dev eth0',
      ],
      nftables: ['nft add table inet probe', 'nft delete table inet probe'],
      iptables: ['iptables -A FORWARD -j DROP', 'iptables -D FORWARD -j DROP'],
      sysctls: ['sysctl -qw net.ipv6.conf.all.forwarding=1', 'sysctl -qw net.ipv6.conf.all.forwarding=0'],
      files: ['ip netns add probe', 'ip netns del probe'],
    };
    for (const [section, [make, undo]] of Object.entries(changes)) {
      await h.sh(make);
      const after = await snapshot(h);
      t.notSame(after[section], before[section], `${section}: ${make}`);
      await h.sh(undo);
    }
    await assertRestored(t, h, before);
    await h.docker('network', 'create', 'n2');
    await h.container('c3', 'n2');
    await h.docker('rm', '--force', 'c3');
    await h.docker('network', 'rm', 'n2');
    await assertRestored(t, h, before);
  });

  t.test('keeps containers over a killed dockerd only as Docker does', async (t) => {
    await h.killDocker();
    await t.rejects(h.docker('ps'), /Cannot connect to the Docker daemon/);
    await h.startDocker();
    t.match(await h.docker('ps', '--all', '--format', '{{.Names}}'), /c2\nc1/);
  });

  t.test('touches nothing of the machine', async (t) => {
    t.notOk(existsSync('/sys/class/net/docker0'));
    await h.sh('echo changed > /etc/cnm-lab-probe');
    t.notOk(existsSync('/etc/cnm-lab-probe'), 'a file that the host writes is its own');
  });
});

t.test('two segments with a router between them', async (t) => {
  const lab = await openLab(t);
  const [a, b, r] = await Promise.all(['a', 'b', 'r'].map((name) => lab.peer({ name, uplink: false })));
  if (a === undefined || b === undefined || r === undefined) throw new Error('three peers were asked for');
  await lab.segment(
    { host: a, link: 'eth0', addresses: ['192.0.2.2/25'] },
    { host: r, link: 'eth0', addresses: ['192.0.2.1/25'] },
  );
  await lab.link(
    { host: b, link: 'eth0', addresses: ['192.0.2.130/25'] },
    { host: r, link: 'eth1', addresses: ['192.0.2.129/25'] },
  );
  await a.net('ip', 'route', 'add', 'default', 'via', '192.0.2.1');
  await b.net('ip', 'route', 'add', 'default', 'via', '192.0.2.129');
  t.notOk(await a.pings('192.0.2.130', 1));
  await r.sh('sysctl -qw net.ipv4.ip_forward=1');
  t.ok(await a.pings('192.0.2.130'));
});

t.test('a test killed with SIGKILL leaves nothing that the next lab does not remove', async (t) => {
  // Where no other test's lab looks, which would remove it first.
  const shared = process.env['TMPDIR'];
  const folder = await mkdtemp(join(tmpdir(), 'lab-'));
  process.env['TMPDIR'] = folder;
  t.teardown(async () => {
    if (shared === undefined) delete process.env['TMPDIR'];
    else process.env['TMPDIR'] = shared;
    await rm(folder, { recursive: true });
  });
  const links = await suspectLinks();
  const victim = new Running(['node', join(import.meta.dirname, 'victim.ts')], {
    env: { PATH: process.env['PATH'] ?? '', TMPDIR: tmpdir() },
  });
  const name = await until('the victim to have a container', 60_000, () => {
    if (!victim.alive) throw new Error(victim.stderr);
    return /^running (\S+)$/m.exec(victim.stdout)?.[1];
  });
  t.ok(name.startsWith(PREFIX));
  await sweep();
  t.ok((await readdir(tmpdir())).includes(name), 'a running test is not swept');
  t.not((await leftOf(name, links)).length, 0, 'and there is something to find');
  await victim.kill('SIGKILL');
  t.ok((await sweep()).includes(name));
  t.same(await leftOf(name, links), []);
});

t.test('a test that throws leaves nothing', async (t) => {
  const links = await suspectLinks();
  const thrown = await tryRun(['node', join(import.meta.dirname, 'victim.ts'), 'throw'], {
    env: { PATH: process.env['PATH'] ?? '', TMPDIR: tmpdir() },
  });
  t.not(thrown.code, 0);
  const name = /^running (\S+)$/m.exec(thrown.stdout)?.[1];
  if (name === undefined) throw new Error(thrown.stderr);
  t.same(await leftOf(name, links), []);
});

t.test('a shell runs what it is told, and nothing of the user’s own before it', async (t) => {
  const HOME = await mkdtemp(join(tmpdir(), 'home-of-cnmlab-'));
  t.teardown(() => rm(HOME, { recursive: true }));
  for (const name of ['.bashrc', '.profile', '.bash_profile']) await writeFile(join(HOME, name), 'echo mine');
  const { stdout } = await tryRun(['bash', '-c', 'bash -c "echo inner"; echo outer'], { env: { HOME } });
  t.equal(stdout, 'inner\nouter\n');
});
