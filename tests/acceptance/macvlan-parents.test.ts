/*
 * The interfaces that macvlan networks are on: one that is unplugged while containers run and plugged in again, and kinds other than a NIC.
 *
 *   h: dockerd 20.10 + cnm-macvlan                             r: 10.40.0.9, fd00:40::9; 10.41.0.9; 10.42.0.9; 10.44.0.9
 *     eth4 ── p1 (c1, and c2, which is on `alone` first), p2 (a sandbox) ══ eth4
 *     br5 (port eth5) ── p3 ══════════════════════════════════════════════ eth5
 *     eth7 ── p5, p6, p7 (slaac=true) ═══════ eth7, which advertises itself as a router of fd00:47::/64
 *     tap6 ── p4 ═══════════════════════════════ socat ═════════════════ tap7
 */
import { readFile } from 'node:fs/promises';
import t from 'tap';
import type { Test } from 'tap';
import { admin } from '../faults/crash-host.ts';
import { until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import type { Host } from '../lab/host.ts';
import { type Lab, openLab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { attached } from './observe.ts';

const PATIENCE_MS = 20_000;

t.test('the interfaces that macvlan networks are on', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets', drivers: ['macvlan'] });
  const r = await lab.peer({ name: 'r', uplink: false });
  // The first sandbox makes the folder for all.
  await admin(h, 'POST', '/v1/sandboxes', { name: 'first' });
  await admin(h, 'DELETE', '/v1/sandboxes/first');
  const before = await snapshot(h);
  await t.test('unplugged while containers run, and plugged in again', (t) => unplugged(t, lab, h, r));
  await t.test('a bridge with a port', (t) => bridge(t, lab, h, r));
  await t.test('a router that advertises itself', (t) => advertised(t, lab, h, r));
  await t.test('a tap device', (t) => tap(t, h, r));
  await assertRestored(t, h, before);
});

function create(h: DockerHost, name: string, parent: string, ...options: string[]): Promise<string> {
  const driver = ['--driver', 'cnm-macvlan', '-o', `parent=${parent}`];
  return h.docker('network', 'create', ...driver, ...options, name);
}

/** A cable, made anew each time: what is on one that is gone is gone. */
function plug(lab: Lab, h: Host, r: Host): Promise<void> {
  const addresses = ['10.40.0.9/24', 'fd00:40::9/64', '10.41.0.9/24'];
  return lab.link({ host: h, link: 'eth4' }, { host: r, link: 'eth4', addresses });
}

const P1 = ['--subnet=10.40.0.0/24', '--gateway=10.40.0.9', '--ipv6', '--subnet=fd00:40::/64'];

async function unplugged(t: Test, lab: Lab, h: DockerHost, r: Host): Promise<void> {
  await plug(lab, h, r);
  await create(
    h,
    'p1',
    'eth4',
    ...P1,
    '--gateway=fd00:40::9',
    '-o',
    'promiscuous=true',
    '-o',
    'host_access=true',
  );
  await h.docker('network', 'create', '-d', 'cnm-macvlan', '--subnet=10.43.0.0/24', 'alone');
  await Promise.all([h.container('c1', 'p1'), h.container('c2', 'alone')]);
  await h.docker('network', 'connect', 'p1', 'c2');
  const sandbox = await standalone(h);
  const reached = async () => {
    const pings = [
      ['c1', '10.40.0.9'],
      ['c1', 'fd00:40::9'],
      ['c2', '10.40.0.9'],
    ].map(([from = '', to = '']) => h.containerPings(from, to, 3));
    return (await Promise.all([...pings, sandbox('10.41.0.9')])).every(Boolean);
  };
  await until('all to reach the LAN', PATIENCE_MS, async () => (await reached()) || undefined);
  const inside = async () => Promise.all(['c1', 'c2'].map((name) => insideOf(h, name)));
  const was = await inside();
  t.match(was[1], /eth1 .*10\.40\.0\./, 'the name is not the first one');

  await h.net('ip', 'link', 'del', 'eth4');
  await until('the loss to be said', PATIENCE_MS, async () => (await lost(h)) || undefined);
  t.notMatch(await insideOf(h, 'c1'), 'eth0', 'c1 has lost its interface');
  const { stdout, code } = await h.tryCnm('doctor');
  t.match({ code, stdout }, { code: 3, stdout: 'it waits for the interface eth4' });
  t.equal(told(h, 'is gone: they wait for it'), 1, 'said once');

  await plug(lab, h, r);
  await until('all to reach the LAN again', PATIENCE_MS, async () => (await reached()) || undefined);
  t.same(await inside(), was, 'names, MACs, addresses and routes as before');
  // Of the interface, and of three links.
  await until('the return to be said', PATIENCE_MS, () => told(h, 'is back') === 4 || undefined);
  const drawn = await h.cnm('network', 'inspect', 'p1');
  t.match(drawn, /container c1, endpoint [^\n]*\n[^]*put back at 20[^\n]*, after its parent had gone/);
  t.match(drawn, /promiscuous +yes/);
  t.ok(await h.pings((await attached(h, 'c1', 'p1')).v4, 3), 'the host reaches its container');
  t.equal((await h.tryCnm('doctor')).code, 0);

  await t.test('while the daemon is dead', async (t) => {
    await h.killPlugin();
    await h.net('ip', 'link', 'del', 'eth4');
    await h.startPlugin();
    await plug(lab, h, r);
    await until('all to reach the LAN again', PATIENCE_MS, async () => (await reached()) || undefined);
    t.same(await inside(), was);
  });
  await t.test('Docker takes it for its own', async (t) => {
    await h.docker('restart', '--time', '0', 'c1');
    t.ok(await h.containerPings('c1', '10.40.0.9', 5));
    await h.docker('network', 'disconnect', 'p1', 'c2');
    t.notMatch(await insideOf(h, 'c2'), 'eth1');
  });
  await h.docker('rm', '--force', 'c1', 'c2');
  await h.net('ip', 'link', 'del', 'eth4');
  await h.docker('network', 'rm', 'p1', 'alone');
  for (const path of ['sandboxes/s', 'networks/p2']) await admin(h, 'DELETE', `/v1/${path}`);
}

/** A sandbox of ours on a second network of the same interface. Gives what runs a ping in it. */
async function standalone(h: DockerHost): Promise<(to: string) => Promise<boolean>> {
  const options = { parent: 'eth4' };
  await admin(h, 'POST', '/v1/networks', {
    ...{ name: 'p2', driver: 'cnm-macvlan', subnets: ['10.41.0.0/24'], options },
  });
  const { path } = (await admin(h, 'POST', '/v1/sandboxes', { name: 's' })).body as { readonly path: string };
  const { status, text } = await admin(h, 'POST', '/v1/sandboxes/s/join', { network: 'p2' });
  if (status >= 300) throw new Error(text);
  return async (to) => {
    const ping = ['nsenter', `--net=${path}`, '--', 'ping', '-n', '-c1', '-W3', to];
    return (await h.tryRun(ping)).code === 0;
  };
}

/** What a container has, without the numbers that the kernel draws, the link-local addresses that come later, and who made a route. */
async function insideOf(h: DockerHost, container: string): Promise<string> {
  const lines = await Promise.all([
    h.inContainer(container, 'ip', '-br', 'link'),
    h.inContainer(container, 'ip', '-br', 'address'),
    h.inContainer(container, 'ip', 'route'),
    h.inContainer(container, 'ip', '-6', 'route', 'show', 'default'),
  ]);
  return lines
    .flatMap((text) => text.split('\n').sort())
    .join('\n')
    .replaceAll(/@\S+/g, '')
    .replaceAll(/ fe80:\S+/g, '')
    .replaceAll(/ linkdown| pref medium| proto 110/g, '');
}

async function lost(h: DockerHost): Promise<boolean> {
  const { body } = await admin(h, 'GET', '/v1/networks/p2');
  const { warnings = [] } = body as { readonly warnings?: readonly string[] };
  return warnings.some((one) => one.startsWith('eth4 is not there')) && told(h, 'is gone') > 0;
}

function told(h: DockerHost, words: string): number {
  return h.cnmd.log.split('\n').filter((line) => line.includes(words)).length;
}

async function bridge(t: Test, lab: Lab, h: DockerHost, r: Host): Promise<void> {
  await lab.link({ host: h, link: 'eth5' }, { host: r, link: 'eth5', addresses: ['10.42.0.9/24'] });
  await h.sh('ip link add br5 type bridge && ip link set br5 up && ip link set eth5 master br5');
  await create(h, 'p3', 'br5', '--subnet=10.42.0.0/24');
  await h.container('c1', 'p3');
  t.ok(await h.containerPings('c1', '10.42.0.9', 5));
  await h.docker('rm', '--force', 'c1');
  await h.docker('network', 'rm', 'p3');
  await h.sh('ip link del br5; ip link del eth5');
}

async function advertised(t: Test, lab: Lab, h: DockerHost, r: Host): Promise<void> {
  await lab.link({ host: h, link: 'eth7' }, { host: r, link: 'eth7', addresses: ['fd00:47::9/64'] });
  const [range, every] = ['--dhcp-range=fd00:47::,ra-only,64,600', '--ra-param=eth7,4'];
  const quiet = ['--port=0', '--no-daemon', '--conf-file=/dev/null', '--pid-file', '--leasefile-ro'];
  const router = r.spawn([
    'dnsmasq',
    ...quiet,
    '--interface=eth7',
    '--bind-interfaces',
    '--enable-ra',
    range,
    every,
  ]);
  const subnet = (n: number) => [`--subnet=10.4${n}.0.0/24`, '--ipv6', `--subnet=fd00:4${n}::/64`];
  await create(h, 'p5', 'eth7', ...subnet(5), '--gateway=fd00:45::9');
  await create(h, 'p7', 'eth7', ...subnet(6), '-o', 'slaac=true');
  await Promise.all([h.container('c1', 'p5'), h.container('willing', 'p7')]);
  const v6 = (name: string) => h.inContainer(name, 'ip', '-6', '-br', 'address', 'show', 'dev', 'eth0');
  await until(
    'the willing one to have an address',
    30_000,
    async () => /fd00:47::/.test(await v6('willing')) || undefined,
  );
  t.match(await h.inContainer('willing', 'ip', '-6', 'route', 'show', 'default'), /via fe80::\S+ .*proto ra/);
  const pings = () => h.containerPings('willing', 'fd00:47::9', 3);
  await until(
    'its address to be past its detection of duplicates',
    PATIENCE_MS,
    async () => (await pings()) || undefined,
  );

  const sandbox = await sandboxWithIpv6(h);
  const ears = [await h.sandbox('c1'), sandbox].map((netns) =>
    h.spawnNet([
      'nsenter',
      `--net=${netns}`,
      '--',
      'tcpdump',
      '-lnn',
      '--immediate-mode',
      '-i',
      'eth0',
      'icmp6 and ip6[40] == 134',
    ]),
  );
  const heard = () => ears.every(({ stdout }) => stdout.includes('router advertisement')) || undefined;
  await until('two that are not to have heard it, too', 30_000, heard);
  for (const ear of ears) await ear.kill('SIGINT');
  t.match(await v6('c1'), /^eth0\S+ +UP +fd00:45::\S+ fe80::\S+ \n$/, 'its own addresses alone');
  t.match(
    await h.inContainer('c1', 'ip', '-6', 'route', 'show', 'default'),
    /^default via fd00:45::9 dev eth0 [^\n]*\n$/,
  );
  const inside = (...argv: string[]) => h.net('nsenter', `--net=${sandbox}`, '--', 'ip', '-6', ...argv);
  t.notMatch(await inside('address'), 'fd00:47::');
  t.equal(await inside('route', 'show', 'default'), '');
  await until(
    'the record of it',
    PATIENCE_MS,
    async () => (await h.tryCnm('doctor')).code === 0 || undefined,
  );

  await t.test('what came in before it was said is taken away', (t) => late(t, h, v6));
  t.match(
    await h.tryDocker(
      'network',
      'create',
      '-d',
      'cnm-macvlan',
      '-o',
      'parent=eth7',
      '-o',
      'slaac=true',
      '--subnet=10.49.0.0/24',
      'no',
    ),
    {
      code: 1,
      stderr: 'slaac needs a network with IPv6: add --ipv6 and a subnet',
    },
  );
  await h.docker('rm', '--force', 'c1', 'willing');
  for (const path of ['sandboxes/s6', 'networks/p6']) await admin(h, 'DELETE', `/v1/${path}`);
  await h.docker('network', 'rm', 'p5', 'p7');
  await router.kill('SIGTERM');
  await h.net('ip', 'link', 'del', 'eth7');
}

/** The daemon is stopped in the moment in which Docker takes the link in, and goes on when the container has taken what it was offered. */
async function late(t: Test, h: DockerHost, v6: (name: string) => Promise<string>): Promise<void> {
  // The kernel tells of it: who looks again and again may miss it, for it is there for some milliseconds.
  const stop = `exec 3< <(exec ip -o monitor link); echo "$!"
    while read -r -u 3 line; do [[ $line == Deleted*cnmm* ]] && break; done
    kill -STOP ${await h.cnmd.pid()}; kill "$!"`;
  const stopped = h.spawnNet(['bash', '-c', stop]);
  const monitor = await until('a monitor', PATIENCE_MS, () => stopped.stdout.trim() || undefined);
  // It listens when it has nothing to do.
  await until('the monitor to listen', PATIENCE_MS, async () => {
    const stat = await readFile(`/proc/${monitor}/stat`, 'utf8');
    return /^\d+ \(ip\) S /.test(stat) || undefined;
  });
  const started = h.container('late', 'p5');
  await stopped.exited;
  const netns = `--net=${h.outside(`/run/docker/netns/${await h.sh('ls -t /run/docker/netns | head -n 1')}`.trim())}`;
  const taken = async () =>
    (await h.tryNet('nsenter', netns, '--', 'ip', '-6', 'address')).stdout.includes('fd00:47::');
  await until('it to take an address', 30_000, async () => (await taken()) || undefined);
  await h.killPlugin('SIGCONT');
  await started;
  await until('it to be taken away', PATIENCE_MS, async () => !(await taken()) || undefined);
  t.match(await v6('late'), /^eth0\S+ +UP +fd00:45::/);
  t.match(
    await h.inContainer('late', 'ip', '-6', 'route', 'show', 'default'),
    /^default via fd00:45::9 [^\n]*\n$/,
  );
  await h.docker('rm', '--force', 'late');
}

/** Gives its namespace. */
async function sandboxWithIpv6(h: DockerHost): Promise<string> {
  const options = { parent: 'eth7' };
  const subnets = ['10.48.0.0/24', 'fd00:48::/64'];
  await admin(h, 'POST', '/v1/networks', { name: 'p6', driver: 'cnm-macvlan', subnets, ipv6: true, options });
  const { path } = (await admin(h, 'POST', '/v1/sandboxes', { name: 's6' })).body as {
    readonly path: string;
  };
  const { status, text } = await admin(h, 'POST', '/v1/sandboxes/s6/join', { network: 'p6' });
  if (status >= 300) throw new Error(text);
  return h.outside(path);
}

/** As a virtual machine has it: what the containers send, a program reads, which hands it to r. */
async function tap(t: Test, h: DockerHost, r: Host): Promise<void> {
  const [one, other] = ['tap6', 'tap7'].map((name) => `TUN,tun-type=tap,tun-name=${name},iff-no-pi`);
  const cable = h.spawn(['socat', one ?? '', other ?? '']);
  await until(
    'the devices',
    PATIENCE_MS,
    async () => (await h.tryNet('ip', 'link', 'show', 'dev', 'tap7')).code === 0 || undefined,
  );
  await h.net('ip', 'link', 'set', 'tap7', 'netns', String(r.pid));
  // socat ends with the first frame for a device that is down (tun_chr_write_iter(): EIO): the one that comes up first must say nothing.
  await r.sh('sysctl -qw net.ipv6.conf.tap7.disable_ipv6=1');
  await r.sh('ip link set tap7 up && ip address add 10.44.0.9/24 dev tap7');
  await h.net('ip', 'link', 'set', 'tap6', 'up');
  await create(h, 'p4', 'tap6', '--subnet=10.44.0.0/24');
  await Promise.all(['c1', 'c2'].map((name) => h.container(name, 'p4')));
  t.ok(await h.containerPings('c1', '10.44.0.9', 5));
  t.ok(await h.containerPings('c1', (await attached(h, 'c2', 'p4')).v4, 5));
  await h.docker('rm', '--force', 'c1', 'c2');
  await h.docker('network', 'rm', 'p4');
  await cable.kill('SIGKILL');
}
