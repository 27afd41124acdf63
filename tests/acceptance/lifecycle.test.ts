// lab: timeout 900
/*
 * Daemons and machines that come and go, on Docker 20.10. All on one host, each case with networks of its own:
 *
 *   world ── uplink ── h1: dockerd, cnmd ── bridge networks a, b, c … ── containers
 *
 * After every case Docker, records and kernel agree, the doctor is quiet, and once the case's objects are removed the host
 * is as before. docs/acceptance.md has what else is covered, and where.
 */
import t, { type Test } from 'tap';
import { until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { IMAGE } from '../lab/image.ts';
import { openLab, WORLD } from '../lab/lab.ts';
import { assertRestored, snapshot, type Snapshot } from '../lab/snapshot.ts';
import { ping } from '../faults/probe.ts';
import { assertAgreement } from './agreement.ts';

/** Records are 15 s old, and missing for two looks 6 s apart, before they are reclaimed; addresses for a minute. */
const RECLAIM_LIMIT = 90_000;

const RESTART = ['--restart', 'always'];
const OUR_IPAM = ['--ipam-driver', 'cnm-ipam'];

function create(h: DockerHost, name: string, ...options: string[]): Promise<string> {
  return h.docker('network', 'create', '--driver', 'cnm-bridge', ...options, name);
}

/** Names of the networks that Docker says a container is on, whether it runs or not. */
async function networksOf(h: DockerHost, container: string): Promise<readonly string[]> {
  const format = '{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}';
  return (await h.docker('inspect', '--format', format, container)).trim().split(' ').sort();
}

async function addressOn(h: DockerHost, container: string, network: string): Promise<string> {
  const format = `{{with index .NetworkSettings.Networks "${network}"}}{{.IPAddress}}{{end}}`;
  return h.docker('inspect', '--format', format, container);
}

/** Docker starts containers with a restart policy by itself, some time after it answers. */
function running(h: DockerHost, count: number, limit = 180_000): Promise<true> {
  return until(`${count} containers to run`, limit, async () => {
    const ids = (await h.docker('ps', '--quiet')).split('\n').filter((id) => id !== '');
    return ids.length === count || undefined;
  });
}

async function restartDocker(h: DockerHost, how: 'SIGTERM' | 'SIGKILL', ...more: string[]): Promise<void> {
  await h.killDocker(how);
  await h.startDocker(...more);
}

/** Links in a container but lo, for each of which it has an address. */
async function linksIn(h: DockerHost, container: string): Promise<readonly string[]> {
  const brief = await h.inContainer(container, 'ip', '-brief', '-4', 'address', 'show', 'scope', 'global');
  return brief
    .trim()
    .split('\n')
    .map((line) => line.split(/[@ ]/)[0] ?? '');
}

/** Every container reaches the first one, by address. */
async function assertReachable(t: Test, h: DockerHost, network: string, names: readonly string[]) {
  const [first = '', ...others] = names;
  const address = await addressOn(h, first, network);
  const answers = await Promise.all(others.map((name) => h.containerPings(name, address)));
  t.same(
    others.filter((_, index) => answers[index] !== true),
    [],
    `all of ${network} reach ${first}`,
  );
}

/**
 * A dockerd that starts makes its own chains and jumps anew, in another order than before: their order says nothing, their
 * number does.
 */
async function stateOf(h: DockerHost): Promise<Snapshot> {
  const state = await snapshot(h);
  const sorted = (section: string) => [...(state[section] as readonly string[])].sort();
  return { ...state, nftables: sorted('nftables'), iptables: sorted('iptables') };
}

async function assertAsBefore(t: Test, h: DockerHost, before: Snapshot): Promise<void> {
  await assertRestored(t, h, before, undefined, () => stateOf(h));
}

/**
 * What a power cut leaves: disks, and nothing of the kernel's or in /run. The uplink is the lab's own, and containers'
 * namespaces end with their processes.
 */
async function losePower(h: DockerHost): Promise<void> {
  await Promise.all([h.killDocker(), h.killPlugin()]);
  // With the shims and the containers' first processes, as the host numbers them; the host's PID 1 stays.
  const alive = "pgrep --exact 'containerd|containerd-shim|sh'";
  await h.sh(`kill -KILL $(${alive})`);
  await until(
    'all else to be dead',
    10_000,
    async () => (await h.trySh(alive)).stdout.trim() === '' || undefined,
  );
  await h.sh(`
    findmnt --noheadings --raw --types nsfs --output TARGET | xargs --no-run-if-empty umount --lazy
    rm -rf /run/docker* /run/containerd /run/cnm
    for link in $(ls /sys/class/net | grep -v -e '^lo$' -e '^eth0$'); do ip link del $link 2>/dev/null; done
    nft flush ruleset
    sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0 net.ipv6.conf.default.forwarding=0`);
}

/**
 * dockerd 20.10 counts a network's endpoints apart from the endpoints themselves. After a crash the count is sometimes too
 * high: `network rm` then speaks of active endpoints where Docker itself lists none. A start puts the count right.
 */
async function removeNetworks(t: Test, h: DockerHost): Promise<void> {
  const list = async () =>
    (await h.docker('network', 'ls', '-q', '--filter', 'driver=cnm-bridge')).split('\n');
  const first = await h.tryDocker('network', 'rm', ...(await list()));
  if (first.code === 0) return;
  const attached = await h.docker('network', 'inspect', '--format', '{{len .Containers}}', ...(await list()));
  if (!/has active endpoints/.test(first.stderr) || /[1-9]/.test(attached)) throw new Error(first.stderr);
  t.comment(`dockerd miscounts: ${first.stderr}`);
  await restartDocker(h, 'SIGTERM');
  await h.docker('network', 'rm', ...(await list()));
}

/** Removes all containers and networks of ours. */
async function clear(t: Test, h: DockerHost, before?: Snapshot): Promise<void> {
  const containers = (await h.docker('ps', '--all', '--quiet')).split('\n').filter((id) => id !== '');
  if (containers.length > 0) await h.docker('rm', '--force', ...containers);
  await removeNetworks(t, h);
  await assertAgreement(t, h, 'when all is removed', RECLAIM_LIMIT);
  if (before !== undefined) await assertAsBefore(t, h, before);
}

t.test('daemons that come and go', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets' });
  // Forwarding stays on after the first network that needs it (drivers/bridge/README.md).
  await h.sh('sysctl -qw net.ipv6.conf.all.forwarding=1');
  const before = await stateOf(h);
  const dual = (n: number) => ['--ipv6', '--subnet', `10.9.${n}.0/24`, '--subnet', `fd00:9:${n}::/64`];

  await t.test('L09: of three networks removed at once, the one in use stays', async (t) => {
    for (const name of ['a', 'b', 'c']) await create(h, name);
    await h.container('c1', 'b');
    const { code, stdout, stderr } = await h.tryDocker('network', 'rm', 'a', 'b', 'c');
    t.not(code, 0);
    t.match(stderr, /network b .* has active endpoints/);
    t.same(stdout.trim().split('\n').sort(), ['a', 'c'], 'the others are removed');
    t.ok(await h.containerPings('c1', WORLD), 'and it still serves');
    await assertAgreement(t, h, 'about the one that stays');
    await clear(t, h, before);
  });

  await t.test('L08: what was connected and disconnected stays so after a restart', async (t) => {
    for (const name of ['a', 'b']) await create(h, name, ...OUR_IPAM);
    await h.container('peer', 'b', ...RESTART);
    await h.docker('create', '--name', 'still', '--network', 'a', IMAGE);
    await h.container('live', 'a', ...RESTART);
    await h.docker('network', 'connect', 'b', 'still');
    await h.docker('network', 'connect', 'b', 'live');
    await restartDocker(h, 'SIGTERM');
    await running(h, 2);
    t.same(await networksOf(h, 'still'), ['a', 'b'], 'stopped: connected');
    t.same(await networksOf(h, 'live'), ['a', 'b'], 'running: connected');
    await h.docker('start', 'still');
    for (const name of ['still', 'live']) {
      t.ok(await h.containerPings(name, await addressOn(h, 'peer', 'b')), `${name} reaches b`);
      t.equal((await linksIn(h, name)).length, 2);
    }
    await assertAgreement(t, h, 'about what was connected', RECLAIM_LIMIT);

    await h.docker('stop', 'still');
    for (const name of ['still', 'live']) await h.docker('network', 'disconnect', 'b', name);
    await restartDocker(h, 'SIGTERM');
    await running(h, 2);
    await h.docker('start', 'still');
    for (const name of ['still', 'live']) {
      t.same(await networksOf(h, name), ['a'], `${name}: disconnected`);
      t.equal((await linksIn(h, name)).length, 1);
    }
    await assertReachable(t, h, 'a', ['still', 'live']);
    await assertAgreement(t, h, 'about what was disconnected', RECLAIM_LIMIT);
    await clear(t, h, before);
  });

  await t.test('L14: a container on three networks has all three after either kind of restart', async (t) => {
    const names = ['a', 'b', 'c'];
    await create(h, 'a', ...dual(1));
    await create(h, 'b', ...OUR_IPAM);
    await create(h, 'c');
    await h.container('many', 'a', ...RESTART);
    for (const name of ['b', 'c']) await h.docker('network', 'connect', name, 'many');
    for (const name of names) await h.container(`peer-${name}`, name, ...RESTART);
    for (const how of ['SIGTERM', 'SIGKILL'] as const) {
      await restartDocker(h, how);
      await running(h, 4);
      t.same(await networksOf(h, 'many'), names, `${how}: Docker says so`);
      t.equal((await linksIn(h, 'many')).length, 3, `${how}: and it has a link for each`);
      for (const name of names)
        t.ok(
          await h.containerPings('many', await addressOn(h, `peer-${name}`, name)),
          `${how}: it reaches ${name}`,
        );
      t.ok(await h.containerPings('many', WORLD), `${how}: and the world`);
      await assertAgreement(t, h, `after ${how}`, RECLAIM_LIMIT);
    }
    await clear(t, h, before);
  });

  await t.test('L03: dockerd and cnmd are killed, and come back with ten containers', async (t) => {
    await create(h, 'a', ...dual(1));
    await create(h, 'b', ...OUR_IPAM);
    const names = Array.from({ length: 10 }, (_, index) => `c${index}`);
    const [ofA, ofB] = [names.slice(0, 5), names.slice(5)];
    for (const name of ofA) await h.container(name, 'a', ...RESTART);
    for (const name of ofB) await h.container(name, 'b', ...RESTART);
    await Promise.all([h.killDocker(), h.killPlugin()]);
    await h.startPlugin();
    await h.startDocker();
    await running(h, 10);
    await assertReachable(t, h, 'a', ofA);
    await assertReachable(t, h, 'b', ofB);
    await assertAgreement(t, h, 'after the crash', RECLAIM_LIMIT);
    // What was reclaimed was nobody's.
    await assertReachable(t, h, 'a', ofA);
    await assertReachable(t, h, 'b', ofB);
    t.equal((await h.docker('ps', '--quiet')).split('\n').length, 10, 'all still run');
    await clear(t, h, before);
  });

  await t.test('L04: dockerd starts 20 s before the plugin', async (t) => {
    await create(h, 'a', ...dual(1));
    await create(h, 'b', ...OUR_IPAM);
    for (const name of ['c1', 'c2']) await h.container(name, 'a', ...RESTART);
    await h.container('c3', 'b');
    await h.container('gone', 'a');
    await Promise.all([h.killDocker(), h.killPlugin()]);
    const began = performance.now();
    const plugin = new Promise((resolve) => setTimeout(resolve, 20_000)).then(() => h.startPlugin());
    await h.startDocker();
    const seconds = Math.round((performance.now() - began) / 1000);
    t.ok(seconds < 150, `dockerd is up after ${seconds} s`);
    await plugin;
    await h.docker('start', 'c1', 'c2', 'c3');
    await assertReachable(t, h, 'a', ['c1', 'c2']);
    t.ok(await h.containerPings('c3', WORLD), 'c3 → world');
    // Docker has cleared away what `gone` had, and nobody heard of it: it is reclaimed.
    await assertAgreement(t, h, 'when the plugin is late', RECLAIM_LIMIT);
    await assertReachable(t, h, 'a', ['c1', 'c2']);
    t.ok(await h.containerPings('c3', WORLD), 'what was reclaimed was nobody’s');
    await clear(t, h, before);
  });

  await t.test('live-restore: dockerd restarts under its containers', async (t) => {
    await restartDocker(h, 'SIGTERM', '--live-restore');
    await create(h, 'a', ...dual(1));
    await create(h, 'b', ...OUR_IPAM);
    for (const name of ['c1', 'c2', 'c3']) await h.container(name, 'a');
    await h.docker('network', 'connect', 'b', 'c3');
    await h.container('c4', 'b');
    const held = await stateOf(h);
    const traffic = await ping('c2 → c1', await h.sandbox('c2'), await addressOn(h, 'c1', 'a'));
    for (const how of ['SIGTERM', 'SIGKILL'] as const) await restartDocker(h, how, '--live-restore');
    const { sent, lost } = await traffic.stop();
    t.ok(sent > 50);
    t.same(lost, [], `none of ${sent} packets is lost`);
    await assertAsBefore(t, h, held);
    await assertAgreement(t, h, 'after the restarts');

    await h.docker('network', 'connect', 'b', 'c1');
    t.ok(await h.containerPings('c1', await addressOn(h, 'c4', 'b')), 'connect works');
    await h.docker('network', 'disconnect', 'a', 'c3');
    t.equal((await linksIn(h, 'c3')).length, 1, 'disconnect works');
    await h.docker('rm', '--force', 'c2');
    await h.container('fresh', 'a');
    await assertReachable(t, h, 'a', ['c1', 'fresh']);
    await assertAgreement(t, h, 'about what was changed since');
    await clear(t, h, before);
  });

  await t.test('L03: the machine loses its power, and starts again', async (t) => {
    await create(h, 'a', ...dual(1));
    await create(h, 'b', ...OUR_IPAM);
    for (const name of ['c1', 'c2']) await h.container(name, 'a', ...RESTART);
    for (const name of ['c3', 'c4']) await h.container(name, 'b', ...RESTART);
    await h.container('gone', 'a');
    await losePower(h);
    t.notMatch(await h.net('ip', '-brief', 'link'), /cnm|veth/);
    // In the order of the systemd units: cnmd is ready before dockerd starts.
    await h.startContainerd();
    await h.startPlugin();
    await h.startDocker();
    await running(h, 4);
    await assertReachable(t, h, 'a', ['c1', 'c2']);
    await assertReachable(t, h, 'b', ['c3', 'c4']);
    for (const name of ['c1', 'c3']) t.ok(await h.containerPings(name, WORLD), `${name} → world`);
    await assertAgreement(t, h, 'after the power cut', RECLAIM_LIMIT);
    // Docker's own part of the host is another now: docker0 has a new address.
    await clear(t, h);
    t.notMatch(await h.net('ip', '-brief', 'link'), /cnm|veth/);
  });
});
