/**
 * Overlay networks with a way out of their own (`egress=gateway`), between the Engines of overlay-docker.test.ts and the lab's world:
 *
 *     world 203.0.113.1 ── uplink ──┬── eth0 h1 ── cnmu… ── up0 ── out: web, peer     (20.10)
 *     asks h1 and h2, is asked      │            └─ cnmu… ── up0 ── twin: its subnet is the same (a sandbox)
 *                                   └── eth0 h2 ── cnmu… ── up0 ── out: far           (28.5)
 *
 * and `user` (vtep=userspace) on both, with `near` on h1 and `remote` on h2.
 *
 * Every answer is the server's name and the client's address as the server saw it.
 */
import type { Test } from 'tap';
import { until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { NODE, REPOSITORY } from '../lab/host.ts';
import { type Lab, WORLD, WORLD6 } from '../lab/lab.ts';
import { assertAllRestored, snapshots } from '../lab/snapshot.ts';
import { exchange } from './exchange.ts';
import { attached, capture, type Tcpdump } from './observe.ts';
import { answer, ask, check, type Client, elements, held } from './published.ts';

export interface EgressWorld {
  readonly lab: Lab;
  readonly h1: DockerHost;
  readonly h2: DockerHost;
  readonly peers: string;
}

const OUT = ['10.6.0.0/24', 'fd00:6::/64'];
const ANSWERER = `${REPOSITORY}/tests/firewall/answerer.ts`;
/** What hosts know containers by: see drivers/overlay/egress.ts. */
const OUTSIDE = /^\S+ 2[45]\d(?:\.\d+){3}$/;

export async function egress(t: Test, world: EgressWorld): Promise<void> {
  const { lab, h1, h2 } = world;
  const hosts = [h1, h2];
  // What the first networks switch on, and make, and leave.
  for (const h of hosts) await h.sh('sysctl -qw net.ipv6.conf.all.forwarding=1; mkdir -p /run/cnm/netns');
  const before = await snapshots(hosts);
  const server = lab.world.spawnNet([NODE, ANSWERER, 'world', 'tcp:9000', 'udp:9000']);
  await until('the world to listen', 20_000, () => server.stdout.includes('ready') || undefined);
  await create(world);

  await t.test('a way out, and none of Docker’s', (t) => wayOut(t, world));
  await t.test('published ports: who is served, and whom the server sees', (t) => whoIsServed(t, world));
  await t.test('segments that come by the uplink fit the network', (t) => clamped(t, world));
  await t.test('O02 two with one subnet, each with its way out', (t) => twins(t, world));
  await t.test('a tunnel in user space, and a port without a number', (t) => inUserSpace(t, world));
  await t.test('daemon killed, pieces taken away: found, and put back', (t) => repaired(t, world));
  await t.test('what cannot be is refused', (t) => refused(t, world));

  t.equal(await ask(lab.world, `udp:${h1.address}:5300`), 'web 198.51.100.1');
  t.match(await h1.sh('cat /proc/net/nf_conntrack'), / dport=5300 /);
  await h1.docker('rm', '--force', 'web', 'peer');
  t.notMatch(await h1.sh('cat /proc/net/nf_conntrack'), / dport=5300 /, 'nothing is remembered of the port');
  await h2.docker('rm', '--force', 'far');
  for (const h of hosts) {
    t.same(await elements(h), [], 'no port is published');
    t.same(await held(h), [], 'nor held');
    t.equal(
      await h.sh('ls /run/cnm/netns; ip -o link | grep cnmu || true'),
      '',
      'no uplink without containers',
    );
    await h.docker('network', 'rm', 'out');
  }
  await assertAllRestored(t, hosts, before);
  await server.kill('SIGTERM');
}

/** On both hosts `out`, with containers that answer. */
async function create({ h1, h2, peers }: EgressWorld): Promise<void> {
  for (const [number, h] of [h1, h2].entries()) {
    const ranges = [`10.6.0.${number * 64}/26`, `fd00:6::${number}:0/112`];
    const each = ranges.flatMap((range) => ['--ip-range', range]);
    const pools = OUT.flatMap((pool) => ['--subnet', pool]);
    const o = ['vni=4600', `peers=${peers}`, `ip-range=${ranges.join(',')}`, 'egress=gateway'];
    const options = o.flatMap((one) => ['-o', one]);
    await h.docker('network', 'create', '-d', 'cnm-overlay', '--ipv6', ...pools, ...each, ...options, 'out');
  }
  const listens = ['tcp:80', 'tcp:81', 'udp:53', 'tcp:9001'];
  const ports = ['-p', '8080:80', '-p', '5300:53/udp', '-p', '9000-9002:9000-9002'];
  const two = ['-p', '127.0.0.1:8081:80', '-p', `${h2.address}:8081:81`];
  await Promise.all([
    answer(h1, 'web', listens, '--network', 'out', ...ports).then(() => h1.container('peer', 'out')),
    answer(h2, 'far', listens, '--network', 'out', ...two),
  ]);
}

async function wayOut(t: Test, { h1, h2 }: EgressWorld): Promise<void> {
  for (const [h, name] of [
    [h1, 'web'],
    [h2, 'far'],
  ] as const) {
    t.notMatch(await h.inContainer(name, 'ip', '-o', 'link'), 'eth1', `${name} is not on docker_gwbridge`);
    t.match(await h.inContainer(name, 'ip', 'route'), /^default via 10\.6\.0\.\d+ dev eth0/m);
    t.match(await h.inContainer(name, 'ip', '-6', 'route'), /^default via fd00:6::\S* dev eth0/m);
    await check(t, [
      [name, { h, container: name }, `tcp:${WORLD}:9000`, `world ${h.address}`],
      [name, { h, container: name }, 'udp:198.51.100.1:9000', `world ${h.address}`],
      [name, { h, container: name }, `tcp:[${WORLD6}]:9000`, `world ${h.address6}`],
    ]);
    const routes = await h.net('sh', '-c', 'ip route show table all; ip -6 route show table all');
    t.notMatch(routes, /\b10\.6\.0\.|fd00:6:/, 'no subnet of an overlay is among the routes of the host');
  }
  const [web, far] = [await attached(h1, 'web', 'out'), await attached(h2, 'far', 'out')];
  await check(t, [
    ['web', { h: h1, container: 'web' }, `tcp:${far.v4}:80`, `far ${web.v4}`],
    ['web', { h: h1, container: 'web' }, `tcp:[${far.v6}]:80`, `far ${web.v6}`],
  ]);
}

async function whoIsServed(t: Test, { lab: { world }, h1, h2 }: EgressWorld): Promise<void> {
  const inside = (h: DockerHost, container: string): Client => ({ h, container });
  await check(t, [
    ['the world', world, `tcp:${h1.address}:8080`, 'web 198.51.100.1'],
    ['the world', world, `tcp:[${h1.address6}]:8080`, 'web 2001:db8:1::1'],
    ['the world', world, `udp:${h1.address}:5300`, 'web 198.51.100.1'],
    ['the world, of a range', world, `tcp:${h1.address}:9001`, 'web 198.51.100.1'],
    ['the world, on one address', world, `tcp:${h2.address}:8081`, 'far 198.51.100.1'],
    ['the world, what is not published', world, `tcp:${h1.address}:81`, 'refused'],
    ['the host', h1, `tcp:${h1.address}:8080`, `web ${h1.address}`],
    ['the host', h1, `tcp:[${h1.address6}]:8080`, `web ${h1.address6}`],
    ['the host, by a loopback address', h1, 'tcp:127.0.0.1:8080', OUTSIDE],
    ['the host, on its loopback address', h2, 'tcp:127.0.0.1:8081', OUTSIDE],
    ['a neighbour', inside(h1, 'peer'), `tcp:${h1.address}:8080`, OUTSIDE],
    ['a neighbour', inside(h1, 'peer'), `tcp:[${h1.address6}]:8080`, /^web fd/],
    ['the container itself', inside(h1, 'web'), `tcp:${h1.address}:8080`, OUTSIDE],
    ['a neighbour on another host', inside(h2, 'far'), `tcp:${h1.address}:8080`, `web ${h2.address}`],
  ]);
  // By which address the host knows it: for the host alone, whatever routes a neighbour has.
  const outside = await outsideOf(h1, 'web');
  await world.net('ip', 'route', 'add', `${outside}/32`, 'via', h1.address);
  await check(t, [
    ['the host, straight', h1, `tcp:${outside}:81`, /^web 240\./],
    ['the world, straight', world, `tcp:${outside}:81`, 'nothing'],
    ['the world, straight to a published port', world, `tcp:${outside}:80`, 'nothing'],
  ]);
  await world.net('ip', 'route', 'del', `${outside}/32`);
  // A client whose address is one of the network's: it would be answered there.
  await world.net('ip', 'address', 'add', '10.6.0.77/32', 'dev', 'lo');
  await h1.net('ip', 'route', 'add', '10.6.0.77', 'via', '198.51.100.1');
  t.match(
    await ask(world, `tcp:${h1.address}:8080`, { options: ',bind=10.6.0.77' }),
    OUTSIDE,
    'a client of a like address',
  );
  await h1.net('ip', 'route', 'del', '10.6.0.77');
  await world.net('ip', 'address', 'del', '10.6.0.77/32', 'dev', 'lo');
  const drawing = await h1.cnm('network', 'inspect', 'out');
  t.match(
    drawing,
    /uplink up0 {2}up .*\n.*10\.6\.0\.0\/24 is 2\d+\.[^]*fd00:6::\/64 is fd[^]*-- host cnmu\w{10} {2}up/,
  );
  const shown = await h1.cnm('firewall', 'show', 'out');
  t.match(shown, /IPv4 +nat: containers go out with the address of the interface they leave by/);
  t.match(shown, /web +10\.6\.0\.\d+:80\/tcp +0\.0\.0\.0:8080 +[1-9]\d* +\d+/, 'counted');
  t.match(await h1.cnm('port', 'web', '80'), /^0\.0\.0\.0:8080\n\[::\]:8080\n$/);
}

async function outsideOf(h: DockerHost, container: string): Promise<string> {
  const [view] = JSON.parse(await h.cnm('port', container, '--json')) as { via?: string }[];
  return view?.via ?? '';
}

/** What `act` makes a machine see of TCP's first segments: the sizes that they offer. */
async function offered(
  tcpdump: Tcpdump,
  filter: string,
  act: () => Promise<unknown>,
): Promise<readonly string[]> {
  const seen = await capture(tcpdump, filter, act);
  return [...seen.matchAll(/Flags \[S\],.*\bmss (\d+)/g)].map(([, mss = '']) => mss);
}

async function clamped(t: Test, { lab: { world }, h1 }: EgressWorld): Promise<void> {
  const sandbox = await h1.sandbox('web');
  const inside: Tcpdump = (argv) => h1.spawnNet(['nsenter', `--net=${sandbox}`, '--', ...argv]);
  for (const [address, mss] of [
    [h1.address, '1410'],
    [`[${h1.address6}]`, '1390'],
  ] as const) {
    const seen = await offered(inside, '-i eth0 tcp port 80 or ip6', () => ask(world, `tcp:${address}:8080`));
    t.same([...new Set(seen)], [mss], `to ${address} from an MTU of 1500`);
  }
  const [, gateway = ''] = /default via (\S+)/.exec(await h1.inContainer('web', 'ip', 'route')) ?? [];
  const offer = (more: string[]) =>
    h1.inContainer('web', 'ip', 'route', 'replace', 'default', 'via', gateway, 'dev', 'eth0', ...more);
  await offer(['advmss', '1460']);
  const out: Tcpdump = (argv) => world.spawnNet(argv);
  const seen = await offered(out, '-i uplink tcp port 9000', () =>
    ask({ h: h1, container: 'web' }, `tcp:${WORLD}:9000`),
  );
  t.same([...new Set(seen)], ['1410'], 'from a container that offers 1460');
  await offer([]);
  // The uplink follows the network below at both ends, as all links of the network do.
  const mtus = async () => {
    const near = await h1.sh('for n in /run/cnm/netns/ov-*; do nsenter --net=$n ip -o link show up0; done');
    const far = await h1.sh('ip -o link | grep cnmu');
    return [near, far].map((text) => /mtu (\d+)/.exec(text)?.[1]).join(' ');
  };
  t.equal(await mtus(), '1450 1450');
  for (const [below, inner] of [
    ['1400', '1350 1350'],
    ['1500', '1450 1450'],
  ] as const) {
    await h1.net('ip', 'link', 'set', 'eth0', 'mtu', below);
    await until(`the uplink to follow ${below}`, 20_000, async () => (await mtus()) === inner || undefined);
  }
}

/** On h1 a network of its own, with the subnet of `out`, and a sandbox with the address of `web`. */
async function twins(t: Test, { lab: { world }, h1, h2 }: EgressWorld): Promise<void> {
  const [web, far] = [await attached(h1, 'web', 'out'), await attached(h2, 'far', 'out')];
  const o = ['vni=4601', `peers=${h1.address}`, 'ip-range=any', 'egress=gateway'].flatMap((one) => [
    '-o',
    one,
  ]);
  const pools = OUT.flatMap((pool) => ['--subnet', pool]);
  await h1.cnm('network', 'create', '-d', 'cnm-overlay', '--ipv6', ...pools, ...o, 'twin');
  await h1.cnm('sandbox', 'create', 'twin');
  await h1.cnm('sandbox', 'join', 'twin', '--network', 'twin', '--ip', web.v4, '--ip6', web.v6);
  t.match(await h1.cnm('endpoint', 'publish', 'twin', '-p', '8090:80'), '80/tcp -> 0.0.0.0:8090');
  const [view] = JSON.parse(await h1.cnm('sandbox', 'inspect', 'twin', '--json')) as { path: string }[];
  const enter = ['nsenter', `--net=${view?.path ?? ''}`, '--'];
  const server = h1.spawn([...enter, NODE, ANSWERER, 'twin', 'tcp:80']);
  await until('the twin to listen', 20_000, () => server.stdout.includes('ready') || undefined);
  await check(t, [
    ['the world', world, `tcp:${h1.address}:8090`, 'twin 198.51.100.1'],
    ['the world', world, `tcp:[${h1.address6}]:8090`, 'twin 2001:db8:1::1'],
    ['the world', world, `tcp:${h1.address}:8080`, 'web 198.51.100.1'],
    ['web', { h: h1, container: 'web' }, `tcp:${h1.address}:8090`, OUTSIDE],
    ['web, at its own address', { h: h1, container: 'web' }, `tcp:${web.v4}:80`, `web ${web.v4}`],
  ]);
  const within = ['nsenter', `--net=${h1.outside(view?.path ?? '')}`, '--'];
  const asks = async (to: string, seconds = 20) =>
    (await exchange(within, `tcp:${to}`, seconds)).stdout.trim();
  t.equal(await asks(`${WORLD}:9000`), `world ${h1.address}`);
  t.equal(await asks(`[${WORLD6}]:9000`), `world ${h1.address6}`);
  t.match(await asks(`${h1.address}:8080`), OUTSIDE, 'the two meet where all do');
  t.equal(await asks(`${far.v4}:80`, 1), '', 'and nowhere else');
  await server.kill('SIGTERM');
  await h1.cnm('sandbox', 'leave', 'twin', '--network', 'twin');
  await h1.cnm('sandbox', 'rm', 'twin');
  await h1.cnm('network', 'rm', 'twin');
}

/** The way out is the kernel's, whoever's the tunnel is: it stands while the daemon, and with it the tunnel, is away. */
async function inUserSpace(t: Test, { lab: { world }, h1, h2, peers }: EgressWorld): Promise<void> {
  const places = [
    [h1, 'near', '10.7.0.0/26'],
    [h2, 'remote', '10.7.0.64/26'],
  ] as const;
  const port = await Promise.all(
    places.map(async ([h, name, range]) => {
      const o = ['vni=4603', 'port=4790', `peers=${peers}`, `ip-range=${range}`, 'vtep=userspace'];
      const options = [...o, 'egress=gateway'].flatMap((one) => ['-o', one]);
      const pool = ['--subnet', '10.7.0.0/24', '--ip-range', range];
      await h.docker('network', 'create', '-d', 'cnm-overlay', ...pool, ...options, 'user');
      await answer(h, name, ['tcp:80'], '--network', 'user', '-p', '80');
      const [, chosen = ''] = /^0\.0\.0\.0:(\d+)$/m.exec(await h.cnm('port', name, '80')) ?? [];
      return chosen;
    }),
  );
  const [near, remote] = [await attached(h1, 'near', 'user'), await attached(h2, 'remote', 'user')];
  const [a, b] = [
    { h: h1, container: 'near' },
    { h: h2, container: 'remote' },
  ];
  const outAndIn = (): Promise<void> =>
    check(t, [
      ['near', a, `tcp:${WORLD}:9000`, `world ${h1.address}`],
      ['near', a, 'udp:198.51.100.1:9000', `world ${h1.address}`],
      ['remote', b, `tcp:${WORLD}:9000`, `world ${h2.address}`],
      ['the world', world, `tcp:${h1.address}:${port[0] ?? ''}`, 'near 198.51.100.1'],
      ['the world', world, `tcp:${h2.address}:${port[1] ?? ''}`, 'remote 198.51.100.1'],
    ]);
  const across = (): Promise<void> =>
    check(t, [
      ['near', a, `tcp:${remote.v4}:80`, `remote ${near.v4}`],
      ['remote', b, `tcp:${near.v4}:80`, `near ${remote.v4}`],
    ]);
  await outAndIn();
  await across();
  t.match(await h1.cnm('network', 'inspect', 'user'), /uplink up0 {2}up/);
  await h1.killPlugin();
  await outAndIn();
  t.notMatch(await ask(a, `tcp:${remote.v4}:80`, { seconds: 1 }), 'remote', 'the tunnel is the daemon’s');
  await h1.startPlugin();
  await until('the tunnel to be back', 30_000, async () => {
    return (await ask(a, `tcp:${remote.v4}:80`, { seconds: 2 })).startsWith('remote') || undefined;
  });
  await across();
  for (const [h, name] of places) {
    await h.docker('rm', '--force', name);
    await h.docker('network', 'rm', 'user');
  }
}

async function repaired(t: Test, { lab: { world }, h1 }: EgressWorld): Promise<void> {
  const served = () =>
    check(t, [
      ['the world', world, `tcp:${h1.address}:8080`, 'web 198.51.100.1'],
      ['web', { h: h1, container: 'web' }, `tcp:${WORLD}:9000`, `world ${h1.address}`],
    ]);
  await h1.killPlugin();
  await served();
  await h1.startPlugin();
  t.equal((await h1.tryCnm('doctor')).code, 0, 'a start finds all as it was');
  const within = 'for n in /run/cnm/netns/ov-*; do nsenter --net=$n';
  for (const [gone, says] of [
    [`${within} nft delete table inet cnm; done`, /nft translate 10\.6\.0\.0\/24 as 2[45]\d\./],
    [`${within} nft flush chain inet cnm passing; done`, /nft translate /],
  ] as const) {
    await h1.sh(gone);
    t.match(await h1.tryCnm('doctor'), { code: 3, stdout: says });
    await h1.tryCnm('doctor', '--fix');
    t.equal((await h1.tryCnm('doctor')).code, 0, 'as it was');
    await served();
  }
  // That is seen on the host, where its other end was.
  await h1.sh(`${within} ip link del up0; done`);
  const healthy = async () =>
    (await h1.net('ip', '-o', 'link')).includes('cnmu') && (await h1.tryCnm('doctor')).code === 0;
  await until('the uplink to be back', 30_000, async () => (await healthy()) || undefined);
  await served();
}

async function refused(t: Test, { h1 }: EgressWorld): Promise<void> {
  const wanted = (o: readonly string[], ...more: string[]) => {
    const all = ['vni=4602', `peers=${h1.address}`, 'ip-range=any', ...o].flatMap((one) => ['-o', one]);
    return h1.tryCnm(
      'network',
      'create',
      '-d',
      'cnm-overlay',
      '--subnet',
      '10.9.0.0/24',
      ...all,
      ...more,
      'no',
    );
  };
  t.match(await wanted(['egress=moon']), { code: 1, stderr: /egress cannot be "moon".*docker, gateway/ });
  t.match(await wanted(['egress=gateway'], '--internal'), { code: 1, stderr: /--internal forbids/ });
  await wanted([]);
  await h1.cnm('sandbox', 'create', 'no');
  const publish = ['sandbox', 'join', 'no', '--network', 'no', '-p', '8099:80'];
  t.match(await h1.tryCnm(...publish), { code: 1, stderr: /-o egress=gateway/ });
  await h1.cnm('sandbox', 'rm', 'no');
  await h1.cnm('network', 'rm', 'no');
}
