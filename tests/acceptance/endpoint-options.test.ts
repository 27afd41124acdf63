/*
 * Options of an endpoint, and what neighbours are told when an address gets another owner, on Docker 20.10 and 28.5:
 *
 *   h: dockerd + cnm-bridge ── n1 10.1.0.0/24, fd00:1::/64 ── near, router 10.1.0.7, fd00:1::7 (and 10.9.0.1, fd00:9::1, 192.168.5.9)
 *                           │                             └── box: a sandbox of cnm's, on a network of its own, alone 10.4.0.0/24
 *                           └─ n2 10.2.0.0/24, where every endpoint has a route and a limit
 */
import t from 'tap';
import type { Test } from 'tap';
import { parseRate, parseSize } from '../../drivers/bridge/rates.ts';
import { until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { openLab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { bridgeOf, portsOf } from './observe.ts';

const ROUTES = 'cnm.routes=10.9.0.0/16 via 10.1.0.7;192.168.5.0/24;fd00:9::/48 via fd00:1::7;fd00:5::/64';

interface Qdisc {
  readonly kind: string;
  readonly options: { readonly rate?: number; readonly burst?: number };
  readonly bytes: number;
}

function on(network: string, ...options: readonly string[]): string {
  return [`name=${network}`, ...options.map((option) => `driver-opt=${option}`)].join(',');
}

async function routes(h: DockerHost, container: string): Promise<readonly string[]> {
  const shown = await Promise.all(
    ['-4', '-6'].map((family) => h.inContainer(container, 'ip', family, 'route', 'show', 'proto', 'boot')),
  );
  const plain = shown.flatMap((text) => text.split('\n')).map((line) => line.replace(/ metric.*/, '').trim());
  return plain.filter((line) => line !== '' && !line.startsWith('default')).sort();
}

async function tbf(h: DockerHost, link: string): Promise<Qdisc | undefined> {
  const shown = JSON.parse(await h.net('tc', '-s', '-j', 'qdisc', 'show', 'dev', link)) as readonly Qdisc[];
  return shown.find(({ kind }) => kind === 'tbf');
}

for (const engine of ['20.10', '28.5'] as const) {
  t.test(`endpoints of Docker ${engine}`, async (t) => {
    const lab = await openLab(t);
    const h = await lab.dockerHost({ engine, plugin: 'sockets' });
    await h.sh('sysctl -qw net.ipv6.conf.default.forwarding=1 net.ipv6.conf.all.forwarding=1');
    await h.makeSandboxFolder();
    const before = await snapshot(h);
    const create = (name: string, ...options: readonly string[]) =>
      h.docker('network', 'create', '-d', 'cnm-bridge', ...options, name);
    await create('n1', '--subnet=10.1.0.0/24', '--ipv6', '--subnet=fd00:1::/64');
    await create('n2', '--subnet=10.2.0.0/24', '-o', 'cnm.routes=10.8.0.0/16', '-o', 'cnm.rate-in=1gbit');
    await h.container('router', 'n1', '--ip=10.1.0.7', '--ip6=fd00:1::7');
    for (const address of ['10.9.0.1/32', '192.168.5.9/24', 'fd00:9::1/128'])
      await h.inContainer('router', 'ip', 'address', 'add', address, 'dev', 'eth0', 'nodad');

    await t.test('B19 static routes', (t) => staticRoutes(t, h));
    await t.test('B19 what cannot be is refused, and changes nothing', (t) => refusals(t, h));
    await t.test('limits in both directions', (t) => limits(t, h));
    await t.test('an address with a new owner', (t) => newOwner(t, h));
    if (engine === '28.5') await t.test('a name that ends in 0, and sysctls', (t) => interfaceName(t, h));
    else await t.test('B19 the same without Docker', (t) => standalone(t, h));
    await t.test('nothing is left', async (t) => {
      await h.docker('rm', '--force', 'router');
      await h.docker('network', 'rm', 'n1', 'n2');
      await assertRestored(t, h, before);
    });
  });
}

async function staticRoutes(t: Test, h: DockerHost): Promise<void> {
  const wanted = [
    '10.9.0.0/16 via 10.1.0.7 dev eth0',
    '192.168.5.0/24 dev eth0 scope link',
    'fd00:5::/64 dev eth0',
    'fd00:9::/48 via fd00:1::7 dev eth0',
  ];
  await h.container('near', on('n1', ROUTES));
  t.same(await routes(h, 'near'), wanted);
  for (const address of ['10.9.0.1', '192.168.5.9', 'fd00:9::1'])
    t.ok(await h.containerPings('near', address, 3), `${address} answers`);
  await h.docker('network', 'connect', 'n2', 'near');
  t.same(await routes(h, 'near'), ['10.8.0.0/16 dev eth1 scope link', ...wanted], 'the default of a network');
  await h.docker('network', 'disconnect', 'n2', 'near');
  t.same(await routes(h, 'near'), wanted, 'gone with its network');
  await h.docker('network', 'connect', '--driver-opt', 'cnm.routes=10.7.0.0/16;10.6.0.0/16', 'n2', 'near');
  t.same((await routes(h, 'near')).length, 6, 'its own in place of the default');
  await h.docker('restart', '-t0', 'near');
  t.same((await routes(h, 'near')).length, 6, 'and again at the next start');
  await h.docker('rm', '--force', 'near');
}

async function refusals(t: Test, h: DockerHost): Promise<void> {
  const state = await snapshot(h);
  for (const [option, message] of [
    ['cnm.routes=10.9.0.0/33', /cnm\.routes cannot be "10\.9\.0\.0\/33"/],
    ['cnm.routes=10.9.0.0/16 via 10.77.0.1', /10\.77\.0\.1 is not in the network's subnet 10\.1\.0\.0\/24/],
    ['cnm.rate-in=fast', /cnm\.rate-in cannot be "fast": it must be a rate as tc\(8\) reads it/],
    ['cnm.rates=1mbit', /does not know the option "cnm\.rates" of an endpoint; it knows cnm\.routes, /],
  ] as const) {
    const { code, stderr } = await h.tryDocker(
      'create',
      '--name',
      'bad',
      '--network',
      on('n1', option),
      'cnm-lab',
    );
    t.equal(code, 0, stderr);
    const started = await h.tryDocker('start', 'bad');
    t.equal(started.code, 1);
    t.match(started.stderr, message);
    await h.docker('rm', '--force', 'bad');
  }
  await assertRestored(t, h, state);
}

async function limits(t: Test, h: DockerHost): Promise<void> {
  await h.container('near', on('n1', 'cnm.rate-in=40mbit', 'cnm.rate-out=2500kbps', 'cnm.burst-out=48kb'));
  const ports = await portsOf(h, await bridgeOf(h, 'n1'));
  const found = await Promise.all(ports.map(async (port) => [port, await tbf(h, port)] as const));
  const [port = ''] = found.find(([, qdisc]) => qdisc !== undefined) ?? [];
  const ifb = port.replace(/^veth(.*)h$/, 'ifb$1');
  // In kilobytes: tc(8) rounds the burst down by a few bytes.
  const settings = async () => {
    const [towards, from] = await Promise.all([tbf(h, port), tbf(h, ifb)]);
    const filter = await h.net('tc', 'filter', 'show', 'dev', port, 'ingress');
    const through = /Egress Redirect to device (\S+)\)/.exec(filter)?.[1];
    return {
      in: towards?.options.rate,
      out: from?.options.rate,
      burst: Math.round((from?.options.burst ?? 0) / 1024),
      through,
    };
  };
  const wanted = { in: 5_000_000, out: 2_500_000, burst: 48, through: ifb };
  t.same(await settings(), wanted, 'as tc(8) shows them');

  const server = await h.sandbox('router');
  const iperf = h.spawnNet(['nsenter', `--net=${server}`, '--', 'iperf3', '--server', '--forceflush']);
  await until('iperf3 to listen', 10_000, () => iperf.stdout.includes('listening') || undefined);
  for (const [name, rate, link, more] of [
    ['in', 40e6, port, ['--reverse']],
    ['out', 20e6, ifb, []],
  ] as const) {
    const counted = (await tbf(h, link))?.bytes ?? 0;
    const began = performance.now();
    const report = JSON.parse(
      await h.inContainer('near', 'iperf3', '-J', '-t2', '-c', '10.1.0.7', ...more),
    ) as {
      readonly end: { readonly sum_received: { readonly bits_per_second: number; readonly bytes: number } };
    };
    const seconds = (performance.now() - began) / 1000;
    const { bits_per_second: bits, bytes } = report.end.sum_received;
    const passed = ((await tbf(h, link))?.bytes ?? 0) - counted;
    t.comment(`${name}: ${(rate / 1e6).toFixed(0)} Mbit/s set, ${(bits / 1e6).toFixed(1)} Mbit/s received`);
    t.ok(bits < rate * 1.5 && bits > rate / 4, `${name}: ${bits} of ${rate} bit/s`);
    t.ok(passed >= bytes, `${name}: all of it went through the qdisc: ${passed} bytes, ${bytes} received`);
    t.ok((passed * 8) / seconds < rate * 1.5, 'and no more than that in the whole time');
  }
  await iperf.kill();

  // By hand, in all ways.
  for (const command of [
    `tc qdisc del dev ${port} root`,
    `tc qdisc replace dev ${ifb} root tbf rate 1gbit burst 1mb latency 1s`,
    `tc qdisc del dev ${port} ingress`,
    `ip link del ${ifb}`,
  ]) {
    await h.net(...command.split(' '));
    const there = async () => JSON.stringify(await settings()) === JSON.stringify(wanted) || undefined;
    t.ok(
      await until(`${command} to be repaired`, 10_000, async () => there().catch(() => undefined)),
      command,
    );
  }
  t.ok(await h.containerPings('near', '10.1.0.7', 3), 'packets go through it');
  t.ok(await h.containerPings('near', 'fd00:1::7', 3));
  t.match(await h.cnm('doctor'), 'Store and kernel agree.');
  await h.docker('rm', '--force', 'near');
  t.equal((await h.tryNet('ip', 'link', 'show', ifb)).code, 1, 'gone with the container');
  await tcWords(t, h);
}

/** Rates and sizes mean what tc(8) takes them for. */
async function tcWords(t: Test, h: DockerHost): Promise<void> {
  await h.sh('ip link add words type veth peer name words2');
  const rates = [
    '8000000',
    '8mbit',
    '8MBit',
    '1.5mbit',
    '8mibit',
    '800kbit',
    '8gbit',
    '1mbps',
    '900kbps',
    '2mibps',
    '1gibit',
  ];
  const sizes = ['20000', '20000b', '20k', '20kb', '20KB', '1m', '1mb', '400kbit', '2mbit'];
  const of = async (rate: string, size: string) => {
    await h.net(
      'tc',
      'qdisc',
      'replace',
      'dev',
      'words',
      'root',
      'tbf',
      'rate',
      rate,
      'burst',
      size,
      'latency',
      '50ms',
    );
    return (await tbf(h, 'words'))?.options;
  };
  for (const rate of rates) t.equal(parseRate(rate), (await of(rate, '20000'))?.rate, rate);
  for (const size of sizes) {
    // tc(8) shows what is left of it after the kernel's ticks.
    const shown = (await of('8mbit', size))?.burst ?? 0;
    t.ok(Math.abs((parseSize(size) ?? 0) - shown) <= shown / 1000, `${size}: ${shown}`);
  }
  await h.sh('ip link del words');
}

/** Who has the former owner in his cache, as good as new, reaches the new one with the first packet. */
async function newOwner(t: Test, h: DockerHost): Promise<void> {
  const address = ['--ip=10.1.0.20', '--ip6=fd00:1::20'];
  await h.container('near', 'n1');
  const keep = ['net.ipv4.neigh.eth0.base_reachable_time_ms', 'net.ipv6.neigh.eth0.base_reachable_time_ms'];
  await h.inContainer('near', 'sysctl', '-qw', ...keep.map((key) => `${key}=3600000`));
  await h.container('owner', 'n1', ...address, '--mac-address=02:42:0a:00:00:0a');
  const cached = async () => (await h.inContainer('near', 'ip', 'neigh', 'show')).split('\n').sort();
  for (const to of ['10.1.0.20', 'fd00:1::20']) {
    t.ok(await h.containerPings('near', to, 3));
    t.ok(await h.pings(to), 'the host as well');
    t.ok(
      (await cached()).some(
        (line) => line.startsWith(`${to} `) && /02:42:0a:00:00:0a.* REACHABLE/.test(line),
      ),
      `${to} is REACHABLE for the neighbour`,
    );
  }
  await h.docker('rm', '--force', 'owner');
  await h.container('owner', 'n1', ...address, '--mac-address=02:42:0a:00:00:0b');
  for (const to of ['10.1.0.20', 'fd00:1::20']) {
    const line = (await cached()).find((one) => one.startsWith(`${to} `));
    t.match(line, /02:42:0a:00:00:0b/, 'the neighbour knows, before it has sent anything');
    // The first packet, and there is no second: where it goes is what its cache says.
    t.ok(await h.containerPings('near', to), `${to} answers it`);
    const [own = ''] = (await h.net('ip', 'neigh', 'show', to)).split('\n');
    t.match(own, /02:42:0a:00:00:0b/, 'and so does the host');
    t.ok(await h.pings(to));
  }
  await h.docker('rm', '--force', 'near', 'owner');
}

async function interfaceName(t: Test, h: DockerHost): Promise<void> {
  const option = (name: string) => on('n1', `com.docker.network.endpoint.ifname=${name}`);
  await h.container('near', option('lan0'));
  t.match(await h.inContainer('near', 'ip', '-o', 'link', 'show', 'dev', 'lan0'), 'lan0@');
  const sysctl = 'com.docker.network.endpoint.sysctls=net.ipv4.conf.IFNAME.log_martians=1';
  await h.container('strict', on('n1', sysctl));
  t.equal((await h.inContainer('strict', 'cat', '/proc/sys/net/ipv4/conf/eth0/log_martians')).trim(), '1');
  await h.docker('rm', '--force', 'near', 'strict');
  const { code, stderr } = await h.tryDocker('run', '--rm', '--network', option('lan7'), 'cnm-lab', 'true');
  t.equal(code, 125);
  t.match(stderr, /ifname cannot be "lan7": it must be a name of up to 12 characters that ends in 0/);
}

async function standalone(t: Test, h: DockerHost): Promise<void> {
  await h.cnm('network', 'create', '-d', 'cnm-bridge', '--subnet', '10.4.0.0/24', 'alone');
  await h.cnm('sandbox', 'create', 'box');
  const join = (option: string) =>
    h.tryCnm('sandbox', 'join', 'box', '--network', 'alone', '--driver-opt', option);
  t.match(await join('cnm.routes=10.9.0.0/16 via 10.5.0.1'), {
    code: 1,
    stderr: /not in the network's subnet/,
  });
  t.match(await join('cnm.routes=10.9.0.0/16 via 10.4.0.9,192.168.5.0/24'), { code: 0 });
  const shown = await h.cnm('sandbox', 'exec', 'box', '--', 'ip', 'route');
  t.match(shown, '10.9.0.0/16 via 10.4.0.9 dev eth0');
  t.match(shown, '192.168.5.0/24 dev eth0');
  await h.cnm('sandbox', 'leave', 'box', '--network', 'alone');
  t.notMatch(await h.cnm('sandbox', 'exec', 'box', '--', 'ip', 'route'), '10.9.0.0');
  await h.cnm('sandbox', 'rm', 'box');
  await h.cnm('network', 'rm', 'alone');
}
