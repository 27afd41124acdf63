/*
 * IPv6 on Docker Engine 20.10 (V01 to V05, V07, V08), on 28.5 (V06, V07, V09) and without Docker (networks that have nothing else).
 *
 *   world 2001:db8:ffff::1 ── uplink ── eth0 h1: dockerd 20.10 + cnm-bridge
 *                                 │           ├── dual  10.6.0.0/24, fd00:6::/64      ── c1, c2 02:42:ac:11:00:02
 *                                 │           ├── local 10.7.0.0/24, fe80:1234::/64   ── l1, l2
 *                                 │           ├── four  10.8.0.0/24                   ── v4
 *                                 │           └── six   fd00:66::/64 alone            ── sandboxes s1, s2
 *                                 └──── eth0 h2: dockerd 28.5 + cnm-bridge
 *                                             ├── six   fd00:67::/64 alone            ── x1, x2
 *                                             ├── both  10.68.0.0/24, fd00:68::/64    ── with, without (IPv6)
 *                                             └── u1…u3 chosen by cnm-ipam            ── v1, v2
 */
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import type { NetworkView } from '../../inspect/views.ts';
import { until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { NODE, REPOSITORY } from '../lab/host.ts';
import { IMAGE } from '../lab/image.ts';
import { openLab, WORLD, WORLD6 } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { ask, inContainer, onHost, serve } from './asking.ts';
import { attached, bridgeOf, portsOf } from './observe.ts';

/** Seconds. On a loaded machine the first packet may wait for a second neighbour solicitation, a second later. */
const PATIENCE = 10;

function create(h: DockerHost, name: string, ...options: string[]): Promise<string> {
  return h.docker('network', 'create', '--driver', 'cnm-bridge', ...options, name);
}

t.test('IPv6 on Docker 20.10', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets' });
  await h.sh('sysctl -qw net.ipv6.conf.default.forwarding=1 net.ipv6.conf.all.forwarding=1');
  await h.makeSandboxFolder();
  const before = await snapshot(h);

  t.test('V05 the first packet goes through, with no address still in doubt', (t) => firstPacket(t, h));

  t.test('V01 by address and by name, and out by the gateway', async (t) => {
    await h.container('c1', 'dual');
    await h.container('c2', 'dual', '--mac-address', '02:42:ac:11:00:02');
    const [c1, c2] = await Promise.all([attached(h, 'c1', 'dual'), attached(h, 'c2', 'dual')]);
    t.match(c1.v6, /^fd00:6::/);
    t.ok(await h.containerPings('c1', c2.v6, PATIENCE));
    t.ok(await h.containerPings('c2', c1.v6, PATIENCE));
    t.match(await h.inContainer('c1', 'dig', '+short', '@127.0.0.11', 'AAAA', 'c2'), c2.v6);
    t.match(await h.exec('c1', 'ping', '-6', '-c1', `-W${PATIENCE}`, 'c2'), `(${c2.v6})`, 'by name');
    const route = await h.inContainer('c1', 'ip', '-6', 'route', 'show', 'default');
    t.match(route, /^default via fd00:6::1 dev eth0 [^\n]*\n$/);
    t.ok(await h.containerPings('c1', 'fd00:6::1', PATIENCE), 'the gateway');
    t.ok(await h.containerPings('c1', WORLD6, PATIENCE), 'the world');
    t.ok(await h.pings(c1.v6), 'the host reaches it');
  });

  t.test('V02 the link-local address that belongs to a chosen MAC answers', async (t) => {
    // Both ends make their link-local address themselves and look for a double first (RFC 4862 section 5.4).
    const answers = async () => (await h.containerPings('c1', 'fe80::42:acff:fe11:2%eth0', 1)) || undefined;
    t.ok(await until('the link-local address', 6000, answers));
    t.match(await h.inContainer('c2', 'ip', 'link', 'show', 'eth0'), '02:42:ac:11:00:02');
  });

  t.test('V03 a subnet of link-local addresses', async (t) => {
    await create(h, 'local', '--subnet=10.7.0.0/24', '--ipv6', '--subnet=fe80:1234::/64');
    await Promise.all([h.container('l1', 'local'), h.container('l2', 'local')]);
    const l2 = await attached(h, 'l2', 'local');
    t.match(l2.v6, /^fe80:1234::/);
    // An address of fe80::/10 needs its interface, whatever names it (RFC 4007 section 11).
    t.match(
      await h.exec('l1', 'ping', '-6', '-I', 'eth0', '-c1', `-W${PATIENCE}`, 'l2'),
      `(${l2.v6}`,
      'by name',
    );
    t.match(
      await h.exec('l1', 'ping', '-6', '-c1', `-W${PATIENCE}`, 'fe80:1234::1%eth0'),
      '1 received',
      'the gateway',
    );
    await h.docker('rm', '--force', 'l1', 'l2');
    await h.docker('network', 'rm', 'local');
  });

  t.test('V04 without --ipv6 there is none', async (t) => {
    await create(h, 'four', '--subnet=10.8.0.0/24');
    await h.container('v4', 'four');
    t.equal(await h.inContainer('v4', 'ip', '-6', 'address', 'show', 'dev', 'eth0'), '');
    t.equal((await attached(h, 'v4', 'four')).v6, '');
    t.equal(await h.inContainer('v4', 'ip', '-6', 'route', 'show', 'dev', 'eth0'), '');
    const bridge = await bridgeOf(h, 'four');
    t.equal(await h.net('ip', '-6', 'address', 'show', 'dev', bridge), '', 'nor on the bridge');
    for (const port of await portsOf(h, bridge)) {
      t.equal(await h.net('ip', '-6', 'address', 'show', 'dev', port), '', 'nor on its port');
    }
    t.ok(await h.containerPings('v4', WORLD, PATIENCE));
    await h.docker('rm', '--force', 'v4');
    await h.docker('network', 'rm', 'four');
  });

  t.test('IPv6 alone, without Docker', async (t) => {
    await h.cnm('network', 'create', '--ipv4=false', '--ipv6', '--subnet=fd00:66::/64', 'six');
    const addresses: string[] = [];
    for (const name of ['s1', 's2']) {
      await h.cnm('sandbox', 'create', name);
      const joined = await h.cnm('sandbox', 'join', name, '--network', 'six', '--json');
      addresses.push(...(JSON.parse(joined) as { addresses: string[] }).addresses);
    }
    t.same(
      addresses.map((address) => address.startsWith('fd00:66::')),
      [true, true],
      'one address each',
    );
    const inside = async (...argv: string[]) => h.tryCnm('sandbox', 'exec', 's1', '--', ...argv);
    t.equal((await inside('ip', '-4', 'address', 'show', 'dev', 'eth0')).stdout, '', 'no IPv4');
    const ping = ['ping', '-n', '-c1', `-W${PATIENCE}`];
    t.equal((await inside(...ping, addresses[1]?.replace(/\/.*/, '') ?? '')).code, 0, 's1 → s2');
    t.equal((await inside(...ping, 'fd00:66::1')).code, 0, 'the gateway');
    t.equal((await inside(...ping, WORLD6)).code, 0, 'the world');
    t.not((await inside(...ping, WORLD)).code, 0);
    const [view] = JSON.parse(await h.cnm('network', 'inspect', 'six', '--json')) as NetworkView[];
    t.same(
      view?.bridge?.addresses.filter((address) => !address.startsWith('fe80:')),
      ['fd00:66::1/64'],
    );
    t.equal(await h.net('ip', '-4', 'address', 'show', 'dev', view?.bridgeName ?? ''), '');
    await h.cnm('sandbox', 'rm', 's1', 's2');
    await h.cnm('network', 'rm', 'six');
  });

  t.test('an MTU that is too small for IPv6 is refused by name', async (t) => {
    const small = ['-o', 'com.docker.network.driver.mtu=1279', '--ipv6', '--subnet=fd00:9::/64', 'small'];
    const { code, stderr } = await h.tryDocker('network', 'create', '-d', 'cnm-bridge', ...small);
    t.equal(code, 1);
    t.match(stderr, 'cannot be "1279" on a network with IPv6: it must be at least 1280');
  });

  t.test('nothing is left', async (t) => {
    await h.docker('rm', '--force', 'c1', 'c2');
    await h.docker('network', 'rm', 'dual');
    await assertRestored(t, h, before);
  });

  t.test('V07 --ipv6 with no subnet: our IPAM gives a /64 of its own prefix', (t) => ownPrefix(t, h));

  t.test('V08 a host whose IPv6 is switched off', (t) => hostWithout(t, h));
});

t.test('IPv6 on Docker 28.5', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ engine: '28.5', plugin: 'sockets' });
  await h.sh(`echo nameserver ${WORLD6} > /etc/resolv.conf`);
  const server = lab.world.spawnNet([NODE, join(REPOSITORY, 'tests/acceptance/dns-answerer.ts'), WORLD6]);
  await until('the world to answer', 20_000, () => server.stdout.includes('ready') || undefined);
  await t.test('V09 IPv6 alone', (t) => onlyIpv6(t, h));
  await t.test('V06 a container that switches IPv6 off', (t) => switchedOff(t, h));
  await t.test('V07 --ipv6 with no subnet: our IPAM gives a /64 of its own prefix', (t) => ownPrefix(t, h));
});

async function onlyIpv6(t: Test, h: DockerHost): Promise<void> {
  await create(h, 'six', '--ipv4=false', '--ipv6', '--subnet=fd00:67::/64');
  await Promise.all([h.container('x1', 'six'), h.container('x2', 'six')]);
  const x2 = await attached(h, 'x2', 'six');
  t.equal(x2.v4, '');
  t.equal(await h.inContainer('x1', 'ip', '-4', 'address', 'show', 'dev', 'eth0'), '');
  t.ok(await h.containerPings('x1', x2.v6, PATIENCE));
  t.match(await h.exec('x1', 'ping', '-c1', `-W${PATIENCE}`, 'x2'), `(${x2.v6})`, 'by name');
  t.ok(await h.containerPings('x1', WORLD6, PATIENCE));
  t.notOk(await h.containerPings('x1', WORLD, 1));
  const dig = ['dig', '+short', '+time=5', '@127.0.0.11', 'AAAA', 'world.test'];
  t.equal((await h.inContainer('x1', ...dig)).trim(), WORLD6, 'names of the world');
  t.match(await h.exec('x1', 'ping', '-6', '-c1', `-W${PATIENCE}`, 'world.test'), '1 received');
  await h.docker('rm', '--force', 'x1', 'x2');
  await h.docker('network', 'rm', 'six');
}

async function switchedOff(t: Test, h: DockerHost): Promise<void> {
  await create(h, 'both', '--subnet=10.68.0.0/24', '--ipv6', '--subnet=fd00:68::/64');
  const off = ['--sysctl', 'net.ipv6.conf.all.disable_ipv6=1', '--publish', '8068:80'];
  await Promise.all([h.container('with', 'both'), h.container('without', 'both', ...off)]);
  t.equal(await h.inContainer('without', 'ip', '-6', 'address', 'show'), '', 'no IPv6, not even on lo');
  const { v4 } = await attached(h, 'without', 'both');
  t.ok(await h.containerPings('with', v4, PATIENCE));
  t.ok(await h.containerPings('without', WORLD, PATIENCE));
  const dig = (type: string) => h.inContainer('with', 'dig', '+short', '@127.0.0.11', type, 'without');
  t.equal((await dig('A')).trim(), v4);
  t.equal((await dig('AAAA')).trim(), '', 'no AAAA');
  const server = await serve(h, await inContainer(h, 'without'), 'tcp:80');
  t.match(await ask(onHost(h), `tcp:${h.address}:8068`), /^without /, 'published');
  await server.kill();
  await h.docker('rm', '--force', 'with', 'without');
  await h.docker('network', 'rm', 'both');
}

/** Which subnet it is stays through restarts of both daemons. */
async function ownPrefix(t: Test, h: DockerHost): Promise<void> {
  const subnetOf = async (network: string) => {
    const format = '{{range .IPAM.Config}}{{.Subnet}} {{end}}';
    const subnets = (await h.docker('network', 'inspect', '--format', format, network)).trim().split(' ');
    return subnets.find((subnet) => subnet.includes(':')) ?? '';
  };
  for (const name of ['u1', 'u2']) await create(h, name, '--ipam-driver=cnm-ipam', '--ipv6');
  const before = [await subnetOf('u1'), await subnetOf('u2')];
  for (const subnet of before) t.match(subnet, /^fd[0-9a-f:]+::\/64$/);
  t.equal(new Set(before).size, 2, 'distinct');
  await h.stopDocker();
  await h.killPlugin();
  await h.startPlugin();
  await h.startDocker();
  await create(h, 'u3', '--ipam-driver=cnm-ipam', '--ipv6');
  t.same([await subnetOf('u1'), await subnetOf('u2')], before, 'kept');
  t.notOk(before.includes(await subnetOf('u3')), 'and not given again');
  await Promise.all([h.container('v1', 'u1'), h.container('v2', 'u1')]);
  const { v6 } = await attached(h, 'v2', 'u1');
  t.ok(v6.startsWith(before[0]?.replace(/:\/64$/, '') ?? '-'), v6);
  t.ok(await h.containerPings('v1', v6, PATIENCE));
  await h.docker('rm', '--force', 'v1', 'v2');
  await h.docker('network', 'rm', 'u1', 'u2', 'u3');
}

/** Which the administrator did with a switch; another network of his has IPv4. */
async function hostWithout(t: Test, h: DockerHost): Promise<void> {
  await h.sh('sysctl -qw net.ipv6.conf.all.disable_ipv6=1');
  const before = await snapshot(h);
  const wanted = ['--driver=cnm-bridge', '--ipv6', '--subnet=fd00:8::/64', 'wrong'];
  const { code, stderr } = await h.tryDocker('network', 'create', ...wanted);
  t.equal(code, 1);
  t.match(stderr, /IPv6 is switched off on this host \(net\.ipv6\.conf\.all\.disable_ipv6 is 1\)/);
  await assertRestored(t, h, before);
  await create(h, 'four', '--subnet=10.8.0.0/24');
  await h.container('v4', 'four');
  t.ok(await h.containerPings('v4', WORLD, PATIENCE), 'a network without IPv6 works');
  await h.docker('rm', '--force', 'v4');
  await h.docker('network', 'rm', 'four');
  await assertRestored(t, h, before);
}

/**
 * The network, the container and its first packet: nothing waits for duplicate address detection, as the kernel says of the addresses at both
 * ends. How long the packet takes says nothing of that on a machine where it may take as long for want of its turn.
 */
async function firstPacket(t: Test, h: DockerHost): Promise<void> {
  await create(h, 'dual', '--subnet=10.6.0.0/24', '--ipv6', '--subnet=fd00:6::/64');
  const ping = ['ping', '-6', '-n', '-c1', `-W${PATIENCE}`];
  const begin = async (to: string) => {
    // By its path: busybox' shell has a ping of its own, with other words.
    const line = `ip -6 address show dev eth0 scope global; exec /bin/${ping.join(' ')} ${to}`;
    return (await h.tryDocker('run', '--rm', '--network', 'dual', IMAGE, 'sh', '-c', line)).stdout;
  };
  const inDoubt = /tentative|dadfailed/;
  const first = await begin('fd00:6::1');
  t.match(first, '1 received', 'to the gateway, which is as new');
  t.match(first, /inet6 fd00:6::/);
  t.notMatch(first, inDoubt);
  const gateway = await h.net('ip', '-6', 'address', 'show', 'dev', await bridgeOf(h, 'dual'));
  t.match(gateway, /fd00:6::1\/64 scope global nodad/, 'nor was there any at the gateway');
  await h.container('peer', 'dual');
  const { v6 } = await attached(h, 'peer', 'dual');
  const second = await begin(v6);
  t.match(second, '1 received', 'to a neighbour');
  t.notMatch(second, inDoubt);
  t.notMatch(await h.inContainer('peer', 'ip', '-6', 'address', 'show', 'scope', 'global'), inDoubt);
  await h.docker('rm', '--force', 'peer');
  // In our own sandboxes it is we who add the address.
  await h.cnm('network', 'create', '--ipv4=false', '--ipv6', '--subnet=fd00:65::/64', 'quick');
  await h.cnm('sandbox', 'create', 'q');
  await h.cnm('sandbox', 'join', 'q', '--network', 'quick');
  t.equal((await h.tryCnm('sandbox', 'exec', 'q', '--', ...ping, WORLD6)).code, 0, 'a sandbox to the world');
  await h.cnm('sandbox', 'rm', 'q');
  await h.cnm('network', 'rm', 'quick');
}
