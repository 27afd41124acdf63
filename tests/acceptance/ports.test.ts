/*
 * Published ports, as those see them who ask: acceptance.md §4. On Docker 20.10 and 28.5:
 *
 *   r 198.51.100.x ── uplink ── eth0 h: 198.51.100.y, 198.51.100.77 (B), 2001:db8:1::y
 *     routes to all subnets         ├── n1 10.1.0.0/24, fd00:1::/64 ── web, peer, …
 *     of h, as a careless           ├── n2 10.2.0.0/24              ── other
 *     neighbour may have            └── shut 10.3.0.0/24 (internal) ── inner
 *
 * Every answer is the server's name and the client's address as the server saw it.
 */
import t, { type Test } from 'tap';
import { until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { type Host, NODE } from '../lab/host.ts';
import { openLab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { attached, capture } from './observe.ts';
import {
  answer,
  answering,
  ask,
  check,
  type Client,
  elements,
  held,
  hostPortOf,
  listening,
} from './published.ts';

const B = '198.51.100.77';

/** A host with its networks, and a machine beside it. */
interface Site {
  readonly h: DockerHost;
  readonly r: Host;
  readonly in: (container: string) => Client;
}

async function assertNothing(t: Test, h: DockerHost): Promise<void> {
  t.same(await elements(h), [], 'no elements');
  t.same(await held(h), [], 'no port is held');
}

for (const engine of ['20.10', '28.5'] as const) {
  t.test(`Docker ${engine}`, async (t) => {
    const lab = await openLab(t);
    const h = await lab.dockerHost({ engine, plugin: 'sockets' });
    const r = await lab.peer();
    const site: Site = { h, r, in: (container) => ({ h, container }) };
    await h.sh(`ip address add ${B}/24 dev eth0; sysctl -qw net.ipv6.conf.all.forwarding=1`);
    for (const subnet of ['10.1.0.0/24', '10.2.0.0/24'])
      await r.net('ip', 'route', 'add', subnet, 'via', h.address);
    await r.net('ip', 'route', 'add', 'fd00:1::/64', 'via', h.address6);
    const create = ['network', 'create', '-d', 'cnm-bridge'];
    await h.docker(...create, '--subnet=10.1.0.0/24', '--ipv6', '--subnet=fd00:1::/64', 'n1');

    await t.test('V10: IPv6 from outside, at once on a new network', (t) => overIpv6(t, site));
    await h.docker(...create, '--subnet=10.2.0.0/24', 'n2');
    await t.test('T01 and T17: who is served, and whom the server sees', (t) => whoIsServed(t, site));
    await t.test('T10: neighbours and the container itself, with br_netfilter and without', (t) =>
      throughTheHost(t, site),
    );
    await t.test('T02: udp, and ranges one to one', (t) => ranges(t, site));
    await t.test('T03: on one address of the host', (t) => oneAddress(t, site));
    await t.test('T13: two loopback addresses', (t) => loopbacks(t, site));
    await t.test('T14: several without a number, and one of them on loopback', (t) => mixed(t, site));
    await t.test('T16: two protocols on two addresses, and nothing of them afterwards', (t) =>
      twoByTwo(t, site),
    );
    await t.test('T18: an internal network', (t) => internal(t, site));
    await t.test('firewall=host: the host’s own rules decide', (t) => obeysHost(t, site));
    await t.test('T19: an IPv6 address of the host for a container without IPv6', (t) => fourForSix(t, site));
    await t.test('T20: no answer of the host’s own once a port is published', (t) => steady(t, site));
    await t.test('3 port mapping, as the book has it', (t) => portMapping(t, site));
    await h.docker('network', 'rm', 'n1', 'n2');
    await assertNothing(t, h);
  });
}

async function overIpv6(t: Test, { h, r }: Site): Promise<void> {
  await answer(
    h,
    'web',
    ['tcp:80', 'tcp:81', 'udp:53'],
    '--network',
    'n1',
    '-p',
    '8080:80',
    '-p',
    '53:53/udp',
  );
  const { v6 } = await attached(h, 'web', 'n1');
  await check(t, [
    ['r', r, `tcp:[${h.address6}]:8080`, `web ${r.address6}`],
    ['r', r, `udp:[${h.address6}]:53`, `web ${r.address6}`],
    ['h', h, `tcp:[${h.address6}]:8080`, `web ${h.address6}`],
    ['r, straight', r, `tcp:[${v6}]:80`, 'nothing'],
    ['r, an unpublished port', r, `tcp:[${v6}]:81`, 'nothing'],
    ['h at ::1, so that it goes on to 127.0.0.1', h, 'tcp:[::1]:8080', 'refused'],
  ]);
  await h.docker('rm', '-f', 'web');
}

async function whoIsServed(t: Test, { h, r, in: inside }: Site): Promise<void> {
  const ports = ['-p', '8080:80', '-p', '5300:53/udp'];
  await answer(h, 'web', ['tcp:80', 'tcp:81', 'udp:53'], '--network', 'n1', ...ports);
  await Promise.all([h.container('peer', 'n1'), h.container('other', 'n2')]);
  const [web, other] = await Promise.all([attached(h, 'web', 'n1'), attached(h, 'other', 'n2')]);
  await check(t, [
    ['h', h, 'tcp:127.0.0.1:8080', 'web 10.1.0.1'],
    ['h', h, 'udp:127.0.0.1:5300', 'web 10.1.0.1'],
    ['h', h, `tcp:${h.address}:8080`, `web ${h.address}`],
    // The kernel's route to a second address of the host has the first one as its source.
    ['h', h, `tcp:${B}:8080`, `web ${h.address}`],
    ['r', r, `tcp:${h.address}:8080`, `web ${r.address}`],
    ['r', r, `tcp:${B}:8080`, `web ${r.address}`],
    ['r', r, `udp:${h.address}:5300`, `web ${r.address}`],
    // Its answer would go straight back within the bridge, from an address that nobody asked: it sees the gateway.
    ['a neighbour', inside('peer'), `tcp:${h.address}:8080`, 'web 10.1.0.1'],
    ['another network', inside('other'), `tcp:${h.address}:8080`, `web ${other.v4}`],
    ['another network', inside('other'), `udp:${h.address}:5300`, `web ${other.v4}`],
    ['another network, at its gateway', inside('other'), 'tcp:10.2.0.1:8080', `web ${other.v4}`],
    ['another network, straight', inside('other'), `tcp:${web.v4}:80`, 'nothing'],
    [
      'a neighbour, straight',
      inside('peer'),
      `tcp:${web.v4}:81`,
      `web ${(await attached(h, 'peer', 'n1')).v4}`,
    ],
    ['r, straight', r, `tcp:${web.v4}:80`, 'nothing'],
    ['r, straight, unpublished', r, `tcp:${web.v4}:81`, 'nothing'],
    ['r, another port', r, `tcp:${h.address}:81`, 'refused'],
    ['r, another port', r, `tcp:${h.address}:8081`, 'refused'],
    ['r, another protocol', r, `tcp:${h.address}:5300`, 'refused'],
  ]);
}

/** Goes on with the containers of the case before. */
async function throughTheHost(t: Test, { h, in: inside }: Site): Promise<void> {
  for (const value of [0, 1]) {
    await h.sh(
      `sysctl -qw net.bridge.bridge-nf-call-iptables=${value} net.bridge.bridge-nf-call-ip6tables=${value}`,
    );
    await t.test(`bridge-nf-call-iptables=${value}`, (t) =>
      check(
        t,
        ['web', 'peer'].flatMap((who) => [
          [who, inside(who), `tcp:${h.address}:8080`, 'web 10.1.0.1'] as const,
          [who, inside(who), `udp:${h.address}:5300`, 'web 10.1.0.1'] as const,
          [who, inside(who), 'tcp:10.1.0.1:8080', 'web 10.1.0.1'] as const,
          [who, inside(who), `tcp:[${h.address6}]:8080`, 'web fd00:1::1'] as const,
        ]),
      ),
    );
  }
  await h.docker('rm', '-f', 'web', 'peer', 'other');
}

async function ranges(t: Test, { h, r }: Site): Promise<void> {
  const ports = [
    '-p',
    '9000-9002:80-82',
    '-p',
    '9100-9102:53-55/udp',
    '-p',
    '7000-7002:7000-7002',
    '-p',
    '9200-9202:83',
  ];
  const listens = [80, 81, 82, 83, 7000, 7002].map((port) => `tcp:${port}`);
  const many = answering('many', [...listens, 'udp:53', 'udp:55'], '--network', 'n1', ...ports);
  await h.docker('run', '-d', ...many);
  // One of a range is taken by the container before, which shows that another of it is found.
  await answer(h, 'more', ['tcp:83'], '--network', 'n1', '-p', '9200-9202:83');
  await listening(h, 'many');
  const from = (name: string) => `${name} ${r.address}`;
  await check(t, [
    ['r', r, `tcp:${h.address}:9000`, from('many')],
    ['r', r, `tcp:${h.address}:9001`, from('many')],
    ['r', r, `tcp:${h.address}:9002`, from('many')],
    ['r, behind the range', r, `tcp:${h.address}:9003`, 'refused'],
    ['r', r, `udp:${h.address}:9100`, from('many')],
    ['r, a port of the container that is silent', r, `udp:${h.address}:9101`, 'refused'],
    ['r', r, `udp:${h.address}:9102`, from('many')],
    ['r', r, `tcp:${h.address}:7000`, from('many')],
    ['r', r, `tcp:${h.address}:7002`, from('many')],
    ['r', r, `tcp:[${h.address6}]:7002`, `many ${r.address6}`],
    ['r, a range to choose from', r, `tcp:${h.address}:9200`, from('many')],
    ['r, and the next of it', r, `tcp:${h.address}:9201`, from('more')],
  ]);
  const full = await h.tryDocker('run', '--rm', '--network', 'n1', '-p', '9200-9201:1', 'cnm-lab', 'true');
  t.equal(full.code, 125);
  t.match(
    full.stderr,
    /Port 9200-9201\/tcp on 0\.0\.0\.0 and :: is not free: container (many|more) \(endpoint/,
  );
  await h.docker('rm', '-f', 'many', 'more');
  await assertNothing(t, h);
}

async function oneAddress(t: Test, { h, r }: Site): Promise<void> {
  await answer(h, 'a1', ['tcp:80'], '--network', 'n1', '-p', `${h.address}:8080:80`);
  await check(t, [
    ['r, at A', r, `tcp:${h.address}:8080`, `a1 ${r.address}`],
    ['r, at B', r, `tcp:${B}:8080`, 'refused'],
    ['r, over IPv6', r, `tcp:[${h.address6}]:8080`, 'refused'],
    ['h, at 127.0.0.1', h, 'tcp:127.0.0.1:8080', 'refused'],
  ]);
  await answer(h, 'b1', ['tcp:80'], '--network', 'n1', '-p', `${B}:8080:80`);
  t.equal(await ask(r, `tcp:${B}:8080`), `b1 ${r.address}`, 'the same port of B is free for another');
  const absent = await h.tryDocker(
    'run',
    '--name',
    'c1',
    '--network',
    'n1',
    '-p',
    '192.0.2.9:8080:80',
    'cnm-lab',
  );
  t.equal(absent.code, 125);
  t.match(
    absent.stderr,
    /Port 8080\/tcp cannot be published on 192\.0\.2\.9: the host does not have this address/,
  );
  t.equal(await h.docker('inspect', '-f', '{{.State.Status}}', 'c1'), 'created');
  await h.docker('rm', '-f', 'a1', 'b1', 'c1');
  await assertNothing(t, h);
}

async function loopbacks(t: Test, { h, r }: Site): Promise<void> {
  await answer(
    h,
    'a1',
    ['tcp:80', 'udp:80'],
    '--network',
    'n1',
    '-p',
    '127.0.1.2:1716:80',
    '-p',
    '127.0.1.2:1716:80/udp',
  );
  await answer(
    h,
    'b1',
    ['tcp:80', 'udp:80'],
    '--network',
    'n1',
    '-p',
    '127.0.1.3:1716:80',
    '-p',
    '127.0.1.3:1716:80/udp',
  );
  await check(t, [
    ['h', h, 'tcp:127.0.1.2:1716', 'a1 10.1.0.1'],
    ['h', h, 'udp:127.0.1.2:1716', 'a1 10.1.0.1'],
    ['h', h, 'tcp:127.0.1.3:1716', 'b1 10.1.0.1'],
    ['h', h, 'udp:127.0.1.3:1716', 'b1 10.1.0.1'],
    ['h, elsewhere', h, 'tcp:127.0.0.1:1716', 'refused'],
    ['r', r, `tcp:${h.address}:1716`, 'refused'],
  ]);
  await h.docker('rm', '-f', 'a1', 'b1');
  await assertNothing(t, h);
}

async function mixed(t: Test, { h, r }: Site): Promise<void> {
  const listens = ['80', '81', '82'].flatMap((port) => [`tcp:${port}`, `udp:${port}`]);
  const ports = ['81', '82', '127.0.0.1::80'].flatMap((port) => ['-p', port, '-p', `${port}/udp`]);
  await answer(h, 'c1', listens, '--network', 'n1', ...ports);
  const { v4, v6 } = await attached(h, 'c1', 'n1');
  const all = await elements(h);
  for (const proto of ['tcp', 'udp']) {
    const numbers = await Promise.all([80, 81, 82].map((port) => hostPortOf(h, proto, v4, port)));
    t.equal(new Set(numbers).size, 3, `distinct: ${numbers.join(', ')}`);
    for (const [n, port] of [81, 82].entries()) {
      const number = numbers[n + 1] ?? 0;
      t.ok(
        all.includes(`publish6_any ${proto} . ${number} : ${v6} . ${port}`),
        'the same number on 0.0.0.0 and ::',
      );
      await check(t, [['r', r, `${proto}:${h.address}:${number}`, `c1 ${r.address}`]]);
    }
    const [local = 0] = numbers;
    await check(t, [
      ['h', h, `${proto}:127.0.0.1:${local}`, 'c1 10.1.0.1'],
      ['r', r, `${proto}:${h.address}:${local}`, 'refused'],
    ]);
  }
  await h.docker('rm', '-f', 'c1');
  await assertNothing(t, h);
}

async function twoByTwo(t: Test, { h, r }: Site): Promise<void> {
  const before = await snapshot(h);
  const ports = [h.address, B].flatMap((ip) => ['-p', `${ip}:8080:80`, '-p', `${ip}:8080:80/udp`]);
  await answer(h, 'c1', ['tcp:80', 'udp:80'], '--network', 'n1', ...ports);
  for (const ip of [h.address, B]) {
    await check(t, [
      ['r', r, `tcp:${ip}:8080`, `c1 ${r.address}`],
      ['r', r, `udp:${ip}:8080`, `c1 ${r.address}`],
    ]);
  }
  t.equal((await held(h)).length, 4);
  await h.docker('rm', '-f', 'c1');
  await assertNothing(t, h);
  await assertRestored(t, h, before);
}

async function internal(t: Test, { h, r }: Site): Promise<void> {
  await h.docker('network', 'create', '-d', 'cnm-bridge', '--internal', '--subnet=10.3.0.0/24', 'shut');
  await answer(h, 'inner', ['tcp:80'], '--network', 'shut', '-p', '8080:80');
  await assertNothing(t, h);
  await check(t, [
    ['r', r, `tcp:${h.address}:8080`, 'refused'],
    ['h', h, 'tcp:127.0.0.1:8080', 'refused'],
  ]);
  await h.docker('rm', '-f', 'inner');
  await h.docker('network', 'rm', 'shut');
}

async function obeysHost(t: Test, { h, r }: Site): Promise<void> {
  const inputDrop = (verb: string) =>
    h.sh(`for x in iptables ip6tables; do for p in tcp udp; do
      $x ${verb} INPUT -i eth0 -p $p -m multiport --dports 8070,5370 -j DROP; done; done`);
  // iptables makes its tables with the first rule, and leaves them.
  await inputDrop('-I');
  await inputDrop('-D');
  const before = await snapshot(h);
  const options = ['-o', 'firewall=host', '--subnet=10.4.0.0/24', '--ipv6', '--subnet=fd00:4::/64'];
  await h.docker('network', 'create', '-d', 'cnm-bridge', ...options, 'obeys');
  await answer(
    h,
    'guarded',
    ['tcp:80', 'udp:53'],
    '--network',
    'obeys',
    '-p',
    '8070:80',
    '-p',
    '5370:53/udp',
  );
  const asks = (wanted?: readonly [string, string]) =>
    check(t, [
      ['r', r, `tcp:${h.address}:8070`, wanted?.[0] ?? 'nothing'],
      ['r', r, `udp:${h.address}:5370`, wanted?.[0] ?? 'nothing'],
      ['r', r, `tcp:[${h.address6}]:8070`, wanted?.[1] ?? 'nothing'],
      ['r', r, `udp:[${h.address6}]:5370`, wanted?.[1] ?? 'nothing'],
      ['h', h, `tcp:${h.address}:8070`, `guarded ${h.address}`],
    ]);
  await inputDrop('-I');
  await asks();
  await inputDrop('-D');
  await asks([`guarded ${r.address}`, `guarded ${r.address6}`]);
  const entrance = (await h.sh("ip -o link | grep -o 'cnmg[0-9a-z]\\{10\\}i' | head -n 1")).trim();
  for (const command of [
    'nft delete table inet cnm',
    'nft delete table ip cnm; nft delete table ip6 cnm',
    'nft flush set inet cnm guarded4; nft flush map inet cnm publish4_any',
    `ip link del ${entrance}`,
  ]) {
    await h.sh(command);
    const seen = async () =>
      (await ask(r, `udp:${h.address}:5370`, { seconds: 2 })) === `guarded ${r.address}` || undefined;
    await until(`${command} to be mended`, 5000, seen);
    const drops = async () => {
      await inputDrop('-I');
      const answers = await ask(r, `tcp:${h.address}:8070`, { seconds: 1 });
      await inputDrop('-D');
      return answers === 'nothing' || undefined;
    };
    t.ok(await until('the host to decide again', 10_000, drops), command);
  }
  await h.docker('rm', '-f', 'guarded');
  await h.docker('network', 'rm', 'obeys');
  await assertRestored(t, h, before);
}

async function fourForSix(t: Test, { h }: Site): Promise<void> {
  const before = await snapshot(h);
  for (const [network, ip, says] of [
    ['n2', '::1', /Ports cannot be published on ::1: the kernel does not route from it; use 127\.0\.0\.1/],
    ['n1', '::1', /Ports cannot be published on ::1/],
    [
      'n2',
      h.address6,
      /cannot be published on 2001:db8:1::\d+: the container has no IPv6 address on this network/,
    ],
  ] as const) {
    const run = ['run', '--name', 'c1', '--network', network, '-p', `[${ip}]:8080:80`, 'cnm-lab', 'true'];
    const { code, stderr } = await h.tryDocker(...run);
    t.equal(code, 125, `${ip} on ${network}`);
    t.match(stderr, says);
    await h.docker('rm', 'c1');
  }
  await assertRestored(t, h, before);
}

/**
 * Connections again and again while a container starts, serves and goes. At r the packets that the host itself sends have not been
 * forwarded: their time to live is 64, that of the container's packets 63.
 */
async function steady(t: Test, { h, r }: Site): Promise<void> {
  const knock = `setInterval(() => require('node:net').connect(8080, '${h.address}').on('error', () => {}).on('data', (d) => console.log(String(d).trim())), 2)`;
  const seen = await capture(
    (argv) => r.spawnNet([...argv]),
    `-v -i eth0 tcp and src ${h.address} and src port 8080`,
    async () => {
      const knocking = r.spawnNet([NODE, '-e', knock]);
      await answer(h, 'web', ['tcp:80'], '--network', 'n1', '-p', '8080:80', '-p', '5300:53/udp');
      const served = () => knocking.stdout.split('\n').length > 100 || undefined;
      await until('a hundred answers', 20_000, served);
      await knocking.kill('SIGKILL');
      t.same(new Set(knocking.stdout.trim().split('\n')), new Set([`web ${r.address}`]));
    },
  );
  const packets = [...seen.matchAll(/ttl (\d+),[^]*?Flags \[(\S+)\]/g)].map(
    ([, ttl, flags]) => `${ttl} ${flags}`,
  );
  const first = packets.findIndex((packet) => packet.startsWith('63 '));
  t.ok(first >= 0, 'the container answers');
  t.same(
    packets.slice(first).filter((packet) => packet.startsWith('64 ')),
    [],
    'from its first packet on the host itself says nothing',
  );
  for (const listen of [
    'UDP4-RECV:5300,reuseaddr',
    'UDP4-RECV:5300',
    'TCP4-LISTEN:8080,reuseaddr',
    'TCP6-LISTEN:8080',
  ]) {
    const { code, stderr } = await h.tryNet('timeout', '20', 'socat', '-u', listen, '-');
    t.equal(code, 1, `no other process binds ${listen}`);
    t.match(stderr, /Address already in use/);
  }
  await h.docker('rm', '-f', 'web');
}

async function portMapping(t: Test, { h, r }: Site): Promise<void> {
  await h.docker('network', 'create', '-d', 'cnm-bridge', 'localnet');
  const page = ['cnm-lab', 'httpd', '-f', '-p', '80', '-h', '/www'];
  await h.docker('run', '-d', '--name', 'web', '--network', 'localnet', '-p', '5001:80', ...page);
  const fetch = async (from: Host) =>
    (await from.tryNet('curl', '-s', '--max-time', '20', `http://${h.address}:5001/`)).stdout;
  await until('the page', 10_000, async () => (await fetch(h)) === 'cnm-lab\n' || undefined);
  t.equal(await fetch(r), 'cnm-lab\n', 'the page is served on the host’s address');
  const second = ['run', '-d', '--name', 'web2', '--network', 'localnet', '-p', '5001:80', ...page];
  const { code, stderr } = await h.tryDocker(...second);
  t.equal(code, 125);
  t.match(
    stderr,
    /Port 5001\/tcp on 0\.0\.0\.0 is not free: container web \(endpoint [0-9a-f]{12}\) holds it/,
  );
  t.equal(await fetch(r), 'cnm-lab\n', 'the first serves on');
  await h.docker('rm', '-f', 'web', 'web2');
  await h.docker('network', 'rm', 'localnet');
}
