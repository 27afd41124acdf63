/*
 * Published ports over time: conflicts, stops, kills and restarts of everybody, and moves between networks. On Docker 20.10 and 28.5:
 *
 *   r ── uplink ── eth0 h ── n1  10.1.0.0/24, fd00:1::/64 ── one, two, …
 *                        ├── aaa 10.5.0.0/24 ┐
 *                        ├── zzz 10.6.0.0/24 ┴── mover, whose gateway is the first network by name
 *                        └── docker0 (Docker's own bridge)
 */
import t, { type Test } from 'tap';
import { run, until } from '../lab/command.ts';
import type { Running } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { type Host, NODE } from '../lab/host.ts';
import { IMAGE } from '../lab/image.ts';
import { openLab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { attached } from './observe.ts';
import { answer, answering, ask, elements, held, hostPortOf } from './published.ts';

interface Site {
  readonly h: DockerHost;
  readonly r: Host;
}

/** The ports of `tcp 0.0.0.0:8080`, and of the elements that lead to containers: both must tell of the same. */
async function assertPorts(t: Test, h: DockerHost, wanted: readonly number[], when: string): Promise<void> {
  const sorted = [...wanted].sort((a, b) => a - b);
  const numbers = async () => {
    const sockets = (await held(h)).filter((one) => one.startsWith('tcp 0.0.0.0:'));
    const leading = (await elements(h)).filter((one) => one.startsWith('publish4_any '));
    return {
      held: sockets.map((one) => Number(one.slice('tcp 0.0.0.0:'.length))).sort((a, b) => a - b),
      leading: leading.map((one) => Number(/(\d+) : /.exec(one)?.[1])).sort((a, b) => a - b),
    };
  };
  const right = { held: sorted, leading: sorted };
  const settled = async () => JSON.stringify(await numbers()) === JSON.stringify(right) || undefined;
  await until('the ports', 30_000, settled).catch(() => undefined);
  t.same(await numbers(), right, when);
}

async function assertServed(t: Test, { h, r }: Site, port: number, name: string): Promise<void> {
  const wanted = `${name} ${r.address}`;
  const asked = async () =>
    (await ask(r, `tcp:${h.address}:${port}`, { seconds: 2 })) === wanted || undefined;
  await until(`${name} at ${port}`, 15_000, asked).catch(() => undefined);
  t.equal(await ask(r, `tcp:${h.address}:${port}`), wanted, `${name} serves ${port}`);
}

/** A process of the host that has a port; `node (pid …)` as we name it. */
async function occupy(h: DockerHost, proto: 'tcp' | 'udp', port: number): Promise<Running & { who: string }> {
  const bind =
    proto === 'tcp'
      ? `require('node:net').createServer().listen(${port}, '0.0.0.0', said)`
      : `require('node:dgram').createSocket('udp4').bind(${port}, '0.0.0.0', said)`;
  const running = h.spawn([NODE, '-e', `const said = () => console.log(process.pid); ${bind}`]);
  const pid = await until(`${proto} ${port}`, 10_000, () => running.stdout.trim() || undefined);
  return Object.assign(running, { who: `node \\(pid ${pid}\\)` });
}

/** `docker run` that must fail, and the sentence in it. Nothing of it stays but the container, which is removed. */
async function assertRefused(t: Test, h: DockerHost, ports: readonly string[], says: RegExp): Promise<void> {
  const before = await snapshot(h);
  const words = ports.flatMap((port) => ['-p', port]);
  const { code, stderr } = await h.tryDocker(
    'run',
    '--name',
    'no',
    '--network',
    'n1',
    ...words,
    IMAGE,
    'true',
  );
  t.equal(code, 125, ports.join(' '));
  t.match(stderr, says);
  await h.docker('rm', 'no');
  await assertRestored(t, h, before);
}

const initOf = (h: DockerHost, container: string) => h.docker('inspect', '-f', '{{.State.Pid}}', container);

async function killContainer(h: DockerHost, container: string): Promise<void> {
  await h.sh(`kill -KILL ${await initOf(h, container)}`);
}

for (const engine of ['20.10', '28.5'] as const) {
  t.test(`Docker ${engine}`, async (t) => {
    const lab = await openLab(t);
    const [h, r] = await Promise.all([lab.dockerHost({ engine, plugin: 'sockets' }), lab.peer()]);
    const site: Site = { h, r };
    const create = ['network', 'create', '-d', 'cnm-bridge'];
    await h.sh('sysctl -qw net.ipv6.conf.all.forwarding=1');
    await h.docker(...create, '--subnet=10.1.0.0/24', '--ipv6', '--subnet=fd00:1::/64', 'n1');
    await h.docker(...create, '--subnet=10.5.0.0/24', 'aaa');
    await h.docker(...create, '--subnet=10.6.0.0/24', 'zzz');

    await t.test('T07: what processes of the host have', (t) => processes(t, site));
    await t.test('T06: what another container has', (t) => taken(t, site));
    await t.test('what Docker’s own bridge has, and what it does not get', (t) => besideDocker(t, site));
    await t.test('T09: removed and published again at once', (t) => atOnce(t, site));
    await t.test('T15: ports that nobody chose', (t) => unchosen(t, site));
    await t.test('as many as the daemon may have files', (t) => tooMany(t, site));
    await t.test('a container’s gateway moves to another network, and its ports with it', (t) =>
      moves(t, site),
    );
    await t.test('stops and kills: what is held is what the living have', (t) => life(t, site));
    await h.docker('network', 'rm', 'n1', 'aaa', 'zzz');
    await assertPorts(t, h, [], 'at the end');
  });
}

async function processes(t: Test, { h }: Site): Promise<void> {
  const tcp = await occupy(h, 'tcp', 8090);
  const udp = await occupy(h, 'udp', 8091);
  const on = (proto: string, port: number, who: string) =>
    new RegExp(
      `Port ${port}/${proto} on 0\\.0\\.0\\.0 is not free: ${proto} 0\\.0\\.0\\.0:${port} is held by ${who}`,
    );
  // Held in IPv4 alone: IPv6 is given up with it, and the other ports that were asked for.
  await assertRefused(t, h, ['8090:80', '8092:81'], on('tcp', 8090, tcp.who));
  await assertRefused(t, h, ['8091:80/udp'], on('udp', 8091, udp.who));
  await assertRefused(t, h, ['8089-8092:80-83'], on('tcp', 8090, tcp.who));
  await h.docker('run', '--rm', '--network', 'n1', '-p', '8091:80', '-p', '8090:80/udp', IMAGE, 'true');
  await h.docker('run', '-d', '--name', 'one', '--network', 'n1', '-p', '8090-8092:80', IMAGE);
  await assertPorts(t, h, [8091], 'of a range to choose from, the first that is free');
  await h.docker('rm', '-f', 'one');
  await Promise.all([tcp.kill('SIGKILL'), udp.kill('SIGKILL')]);
}

async function taken(t: Test, site: Site): Promise<void> {
  const { h } = site;
  await answer(h, 'one', ['tcp:80'], '--network', 'n1', '-p', '8000:80');
  const again = answering('two', ['tcp:80'], '--network', 'n1', '--restart', 'always', '-p', '8000:80');
  const { code, stderr } = await h.tryDocker('run', '-d', ...again);
  t.equal(code, 125);
  t.match(
    stderr,
    /Port 8000\/tcp on 0\.0\.0\.0 and :: is not free: container one \(endpoint [0-9a-f]{12}\) holds it/,
  );
  t.equal(await h.docker('inspect', '-f', '{{.State.Status}} {{.RestartCount}}', 'two'), 'created 0');
  await assertServed(t, site, 8000, 'one');
  await h.docker('rm', '-f', 'one');
  await h.docker('start', 'two');
  await assertServed(t, site, 8000, 'two');
  await h.docker('rm', '-f', 'two');
}

async function besideDocker(t: Test, { h }: Site): Promise<void> {
  await h.docker('run', '-d', '--name', 'theirs', '-p', '8085:80', IMAGE);
  const says =
    /Port 8085\/tcp on 0\.0\.0\.0 is not free: tcp 0\.0\.0\.0:8085 is held by docker-proxy \(pid \d+\)/;
  await assertRefused(t, h, ['8085:80'], says);
  await h.docker('run', '-d', '--name', 'ours', '--network', 'n1', '-p', '8086:80', IMAGE);
  const { code, stderr } = await h.tryDocker('run', '--name', 'no', '-p', '8086:80', IMAGE, 'true');
  t.equal(code, 125);
  t.match(stderr, /8086.*(address already in use|port is already allocated)/);
  await h.docker('rm', '-f', 'theirs', 'ours', 'no');
}

async function atOnce(t: Test, site: Site): Promise<void> {
  const { h } = site;
  for (const name of ['one', 'two', 'three']) {
    await answer(h, name, ['tcp:80'], '--network', 'n1', '-p', '8080:80');
    await assertServed(t, site, 8080, name);
    await h.docker('rm', '-f', name);
  }
}

async function unchosen(t: Test, { h }: Site): Promise<void> {
  const names = ['net.ipv4.ip_local_port_range', 'net.ipv4.ip_local_reserved_ports'];
  const [range = '', reserved = ''] = await Promise.all(names.map((name) => h.sh(`sysctl -n ${name}`)));
  await h.sh(`sysctl -qw ${names[0]}='40000 40007' ${names[1]}=40000-40001,40003`);
  const process = await occupy(h, 'tcp', 40004);
  const free = [40002, 40005, 40006, 40007];
  const start = (name: string, ...ports: string[]) =>
    h.tryDocker('run', '-d', '--name', name, '--network', 'n1', ...ports, IMAGE);
  // Two at once, each with a pair.
  const both = await Promise.all(['one', 'two'].map((name) => start(name, '-p', '80', '-p', '81')));
  t.same(
    both.map(({ stderr }) => stderr),
    ['', ''],
  );
  await assertPorts(t, h, free, 'neither reserved, nor held by a process, nor twice');
  const third = await start('no', '-p', '80');
  t.equal(third.code, 125);
  t.match(third.stderr, /Port 40000-40007\/tcp on 0\.0\.0\.0 and :: is not free/);
  await h.docker('rm', '-f', 'one', 'no');
  await start('three', '-p', '40003:80');
  t.ok((await held(h)).includes('tcp 0.0.0.0:40003'), 'a reserved port for who asks for it by number');
  await h.docker('rm', '-f', 'two', 'three');
  await process.kill('SIGKILL');
  await h.sh(`sysctl -qw ${names[0]}='${range.trim()}' ${names[1]}='${reserved.trim()}'`);
}

async function tooMany(t: Test, { h }: Site): Promise<void> {
  const pid = String(await h.cnmd.pid());
  const before = (await run(['prlimit', '--pid', pid, '--nofile', '--noheadings', '-o', 'SOFT,HARD'])).trim();
  await run(['prlimit', '--pid', pid, '--nofile=256:']);
  const says =
    /EMFILE \(each published port takes one file descriptor; raise the limit \(LimitNOFILE= of the service\)\)/;
  await assertRefused(t, h, ['10000-10299:10000-10299'], says);
  await run(['prlimit', '--pid', pid, `--nofile=${before.split(/\s+/)[0] ?? ''}:`]);
  await h.docker('run', '-d', '--name', 'many', '--network', 'n1', '-p', '10000-10299:10000-10299', IMAGE);
  t.equal((await held(h)).length, 600, 'in both families');
  await h.docker('rm', '-f', 'many');
  await assertPorts(t, h, [], 'removed');
}

async function moves(t: Test, site: Site): Promise<void> {
  const { h } = site;
  await answer(h, 'mover', ['tcp:80'], '--network', 'zzz', '-p', '8080:80');
  const leads = async () => (await elements(h)).filter((one) => one.startsWith('publish'));
  const onZzz = await attached(h, 'mover', 'zzz');
  await h.docker('network', 'connect', 'aaa', 'mover');
  const onAaa = await attached(h, 'mover', 'aaa');
  t.same(
    await leads(),
    [`publish4_any tcp . 8080 : ${onAaa.v4} . 80`],
    'to the network that is the gateway now',
  );
  await assertServed(t, site, 8080, 'mover');
  await h.docker('network', 'disconnect', 'aaa', 'mover');
  t.same(await leads(), [`publish4_any tcp . 8080 : ${onZzz.v4} . 80`], 'and back');
  await assertServed(t, site, 8080, 'mover');
  await assertPorts(t, h, [8080], 'held once');
  await h.docker('rm', '-f', 'mover');
}

async function life(t: Test, site: Site): Promise<void> {
  const { h } = site;
  await answer(h, 'one', ['tcp:80', 'tcp:81'], '--network', 'n1', '-p', '8080:80', '-p', '81');
  await answer(h, 'two', ['tcp:80'], '--network', 'n1', '--restart', 'always', '-p', '8081:80');
  const chosen = async () => hostPortOf(h, 'tcp', (await attached(h, 'one', 'n1')).v4, 81);
  const all = async () => [8080, 8081, await chosen()];
  const assertAll = async (when: string) => {
    await assertPorts(t, h, await all(), when);
    await assertServed(t, site, 8080, 'one');
    await assertServed(t, site, await chosen(), 'one');
    await assertServed(t, site, 8081, 'two');
  };

  await t.test('containers', async () => {
    await h.docker('stop', '-t', '0', 'one');
    await assertPorts(t, h, [8081], 'one stopped');
    await h.docker('start', 'one');
    await h.docker('restart', '-t', '0', 'one');
    await assertAll('one started, and restarted');
    await killContainer(h, 'one');
    await assertPorts(t, h, [8081], 'one killed');
    await h.docker('start', 'one');
    const first = await initOf(h, 'two');
    await killContainer(h, 'two');
    await until('two again', 20_000, async () => !['0', first].includes(await initOf(h, 'two')) || undefined);
    await assertAll('two killed, and back by its policy');
  });

  await t.test('our daemon', async () => {
    const before = await all();
    await h.killPlugin();
    await assertServed(t, site, 8080, 'one');
    const thief = await occupy(h, 'tcp', 8080);
    await h.startPlugin();
    const told = new RegExp(`tcp 0\\.0\\.0\\.0:8080 is held by ${thief.who}`);
    t.ok(await until('a word of it', 10_000, () => told.test(h.cnmd.log) || undefined), 'it says who has it');
    // That one is taken it may say before it has the others: it is ready when it has looked at all.
    await h.cnm('network', 'ls');
    t.same((await held(h)).filter((one) => one.includes('tcp [::]:')).length, before.length);
    t.ok((await held(h)).includes('tcp 0.0.0.0:8081'), 'a port that was taken meanwhile keeps no other');
    await assertServed(t, site, 8080, 'one');
    await thief.kill('SIGKILL');
    await h.cnm('doctor', '--fix');
    await assertPorts(t, h, before, 'the same numbers as before');
    await h.killPlugin('SIGTERM');
    await h.startPlugin();
    await assertAll('ended, and started');
    await h.killPlugin();
    await killContainer(h, 'one');
    await h.startPlugin();
    await assertPorts(t, h, [8081], 'one died meanwhile');
    await h.docker('start', 'one');
  });

  await t.test('dockerd', async () => {
    await h.killDocker();
    await h.startDocker();
    // Docker tells nothing of the endpoints that it forgot: their ports are free for who asks for them.
    await assertServed(t, site, 8081, 'two');
    await h.docker('start', 'one');
    await assertAll('killed: it starts again what has a policy, and one is started by hand');
    await h.killPlugin();
    await h.killDocker();
    await Promise.all([h.startPlugin(), h.startDocker()]);
    await assertPorts(t, h, [8081], 'both killed');
    await h.stopDocker();
    await assertPorts(t, h, [], 'stopped');
    await h.startDocker('--live-restore');
    await h.docker('start', 'one');
    const before = await all();
    await h.killDocker();
    await h.startDocker('--live-restore');
    t.same(await all(), before);
    await assertAll('killed, under containers that live on');
    await h.docker('stop', '-t', '0', 'one');
    await assertPorts(t, h, [8081], 'and then one stopped');
  });
  await h.docker('rm', '-f', 'one', 'two');
  await assertPorts(t, h, [], 'both removed');
}
