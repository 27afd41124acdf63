/*
 * The bridge driver on Docker Engine 20.10: acceptance cases B01 to B18.
 *
 *   world 203.0.113.1 ── uplink 198.51.100.0/24 ── r
 *                          └─ eth0 h1: dockerd + cnm-bridge
 *                                  ├── n1     10.1.0.0/24, fd00:1::/64 ── c1, c2
 *                                  ├── n2     10.2.0.0/24, fd00:2::/64 ── c3
 *                                  ├── quiet  10.3.0.0/24 --internal   ── in1, in2
 *                                  └── x      10.5.0.0/24, the user's bridge ── m1, and eth1 ── eth1 r 10.5.0.9
 */
import t from 'tap';
import type { Test } from 'tap';
import type { DockerHost } from '../lab/docker-host.ts';
import type { Host } from '../lab/host.ts';
import { openLab, WORLD } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { attached, bridgeOf, capture, linkField, portsOf } from './observe.ts';

const MTU = 'com.docker.network.driver.mtu';
const BRIDGE_NAME = 'com.docker.network.bridge.name';
/** An address that nothing in the lab has a route to but the default one. */
const ELSEWHERE = '8.8.8.8';

/** What ping says of two requests, whether or not they were answered. */
async function ping(h: DockerHost, from: string, to: string): Promise<string> {
  const { stdout, stderr } = await h.tryInContainer(from, {}, 'ping', '-n', '-c2', '-i0.2', '-W1', to);
  return stdout + stderr;
}

/** Side by side: a ping that nobody answers takes its time. */
async function each<T>(all: readonly T[], act: (one: T) => Promise<void>): Promise<void> {
  await Promise.all(all.map(act));
}

function reaches(h: DockerHost, from: string, to: string): Promise<boolean> {
  return h.containerPings(from, to);
}

function create(h: DockerHost, name: string, ...options: string[]): Promise<string> {
  return h.docker('network', 'create', '--driver', 'cnm-bridge', ...options, name);
}

async function remove(h: DockerHost, containers: readonly string[], ...networks: string[]): Promise<void> {
  if (containers.length > 0) await h.docker('rm', '--force', ...containers);
  if (networks.length > 0) await h.docker('network', 'rm', ...networks);
}

/** The namespace of a container, as a place for tcpdump. */
async function inside(h: DockerHost, container: string): Promise<Parameters<typeof capture>[0]> {
  const sandbox = await h.sandbox(container);
  return (argv) => h.spawnNet(['nsenter', `--net=${sandbox}`, '--', ...argv]);
}

t.test('cnm-bridge on Docker 20.10', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets' });
  const r = await lab.peer({ name: 'r' });
  await lab.link({ host: h, link: 'eth1' }, { host: r, link: 'eth1', addresses: ['10.5.0.9/24'] });

  // First, while no network has switched anything on.
  await t.test('B18 forwarding is switched on as documented, and never written when it is right', (t) =>
    forwarding(t, h),
  );

  const before = await snapshot(h);
  await create(h, 'n1', '--subnet=10.1.0.0/24', '--ipv6', '--subnet=fd00:1::/64');
  await create(h, 'n2', '--subnet=10.2.0.0/24', '--ipv6', '--subnet=fd00:2::/64');
  await Promise.all([h.container('c1', 'n1'), h.container('c2', 'n1'), h.container('c3', 'n2')]);
  const c1 = await attached(h, 'c1', 'n1');
  const c2 = await attached(h, 'c2', 'n1');
  const c3 = await attached(h, 'c3', 'n2');

  t.test('B01 containers, gateway and host reach each other; the bridge is up', async (t) => {
    await each([c2.v4, c2.v6, '10.1.0.1', 'fd00:1::1'], async (address) => {
      t.ok(await reaches(h, 'c1', address), `c1 → ${address}`);
    });
    t.match(await h.exec('c1', 'ping', '-4', '-c1', '-W10', 'c2'), `from c2.n1 (${c2.v4})`, 'by name');
    t.ok(await h.pings(c1.v4), 'the host reaches c1');
    t.ok(await h.pings(c1.v6));
    const bridge = await bridgeOf(h, 'n1');
    t.equal(await linkField(h, bridge, 'operstate'), 'UP');
    const ports = await portsOf(h, bridge);
    t.equal(ports.length, 2, 'a port for each container');
    const macs = await Promise.all([bridge, ...ports].map((link) => linkField(h, link, 'address')));
    t.equal(new Set([...macs, c1.mac, c2.mac]).size, 5, `every MAC differs: ${macs.join(' ')}`);
  });

  t.test('B03 containers of two networks do not reach each other, over IPv4 and IPv6', async (t) => {
    const pairs = [c3.v4, c3.v6].map((to) => ['c1', to] as const);
    await each([...pairs, ['c3', c1.v4] as const, ['c3', c1.v6] as const], async ([from, to]) => {
      t.match(await ping(h, from, to), / 0 received/, `${from} → ${to}`);
    });
    t.ok(await h.pings(c3.v4), 'though the host reaches both');
    t.ok(await reaches(h, 'c3', WORLD), 'and c3 the world');
  });

  t.test('B04 an internal network has no way out', async (t) => {
    await create(h, 'quiet', '--internal', '--subnet=10.3.0.0/24');
    await Promise.all([h.container('in1', 'quiet'), h.container('in2', 'quiet')]);
    const in2 = await attached(h, 'in2', 'quiet');
    t.ok(await reaches(h, 'in1', '10.3.0.1'), 'its gateway address');
    t.ok(await reaches(h, 'in1', in2.v4), 'each other');
    for (const address of [h.address, ELSEWHERE]) {
      t.match(await ping(h, 'in1', address), 'Network is unreachable', address);
    }
    // Whoever gives himself a route comes no further; the firewall decides, not the missing route.
    await h.inContainer('in1', 'ip', 'route', 'add', 'default', 'via', '10.3.0.1');
    const seen = await capture(
      (argv) => r.spawnNet(argv),
      '-i eth0 icmp',
      async () => {
        t.match(await ping(h, 'in1', r.address), / 0 received/, 'with a route of its own');
      },
    );
    t.equal(seen.trim(), '', 'and nothing arrived there');
    t.match(await ping(h, 'c1', in2.v4), / 0 received/, 'nobody comes in');
    await remove(h, ['in1', 'in2'], 'quiet');
  });

  t.test('B06 outbound packets have the address of the host, all others their own', (t) =>
    sources(t, h, r, c1.v4, c1.v6),
  );

  t.test('B09 the MTU holds inside, on the bridge, and on the empty bridge', async (t) => {
    await create(h, 'small', '--subnet=10.4.0.0/24', '-o', `${MTU}=1234`);
    const bridge = await bridgeOf(h, 'small');
    t.equal(await linkField(h, bridge, 'mtu'), 1234, 'before the first container');
    await Promise.all([h.container('s1', 'small'), h.container('s2', 'small')]);
    t.match(await h.exec('s1', 'ip', 'link', 'show', 'eth0'), 'mtu 1234');
    t.equal(await linkField(h, bridge, 'mtu'), 1234);
    for (const port of await portsOf(h, bridge)) t.equal(await linkField(h, port, 'mtu'), 1234, port);
    // 28 bytes of headers; the whole packet fits, one byte more does not.
    const fits = async (size: number) =>
      h.tryInContainer(
        's1',
        {},
        'ping',
        '-c1',
        '-W10',
        '-Mdo',
        `-s${size}`,
        (await attached(h, 's2', 'small')).v4,
      );
    t.equal((await fits(1206)).code, 0);
    t.match((await fits(1207)).stderr, /mtu=1234/);
    await h.docker('rm', '--force', 's1', 's2');
    t.equal(await linkField(h, bridge, 'mtu'), 1234, 'after the last container');
    await h.docker('network', 'rm', 'small');
    for (const wrong of ['67', 'abc', '70000']) {
      const { code, stderr } = await h.tryDocker(
        ...['network', 'create', '--driver', 'cnm-bridge', '-o', `${MTU}=${wrong}`, 'wrong'],
      );
      t.equal(code, 1);
      t.match(stderr, new RegExp(`driver\\.mtu \\(mtu\\) cannot be "${wrong}": .* from 68 to 65535`));
    }
    t.notMatch(await h.docker('network', 'ls'), 'wrong');
  });

  t.test('B11 the bridge that the user names', (t) => namedBridge(t, h, r));

  t.test('B12 a container on two networks', async (t) => {
    await h.docker('network', 'connect', 'n2', 'c2');
    const eth = async (name: string) => h.inContainer('c2', 'ip', '-br', 'address', 'show', 'dev', name);
    t.match(await eth('eth0'), `${c2.v4}/24`);
    t.match(await eth('eth1'), '10.2.0.');
    t.match(await eth('eth1'), 'fd00:2::');
    for (const family of ['-4', '-6']) {
      const routes = await h.inContainer('c2', 'ip', family, 'route', 'show', 'default');
      t.equal(routes.trim().split('\n').length, 1, `one default route: ${routes}`);
    }
    t.ok(await reaches(h, 'c2', c1.v4), 'the peer on n1');
    t.ok(await reaches(h, 'c2', c3.v4), 'the peer on n2');
    t.ok(await reaches(h, 'c2', c3.v6));
    t.ok(await reaches(h, 'c2', WORLD));
    t.match(await ping(h, 'c1', c3.v4), / 0 received/, 'it does not join the two');
    await h.docker('network', 'disconnect', 'n2', 'c2');
    t.ok(await reaches(h, 'c2', c1.v4), 'and n1 is as before');
  });

  t.test("B17 the bridge's MAC is the same through ten attachments", async (t) => {
    const bridge = await bridgeOf(h, 'n1');
    const mac = await linkField(h, bridge, 'address');
    const monitor = h.spawnNet(['ip', '-o', 'monitor', 'link', 'dev', bridge]);
    for (let turn = 0; turn < 10; turn += 1) {
      await h.docker('network', 'connect', 'n1', 'c3');
      t.equal(await linkField(h, bridge, 'address'), mac, 'with it');
      await h.docker('network', 'disconnect', 'n1', 'c3');
      t.equal(await linkField(h, bridge, 'address'), mac, 'without it');
    }
    await monitor.kill();
    const announced = [...monitor.stdout.matchAll(/link\/ether (\S+)/g)].map((match) => match[1]);
    t.same(
      [...new Set(announced)].filter((other) => other !== mac),
      [],
      'nor in between',
    );
  });

  t.test('nothing is left', async (t) => {
    await remove(h, ['c1', 'c2', 'c3'], 'n1', 'n2');
    await assertRestored(t, h, before);
  });
});

async function forwarding(t: Test, h: DockerHost): Promise<void> {
  const values = async () =>
    (
      await h.sh(
        'sysctl -n net.ipv4.ip_forward net.ipv6.conf.default.forwarding net.ipv6.conf.all.forwarding',
      )
    )
      .trim()
      .split('\n')
      .join(' ');
  await h.sh('sysctl -qw net.ipv4.ip_forward=0');
  t.equal(await values(), '0 0 0');
  await create(h, 'f1', '--internal', '--ipv6', '--subnet=fd00:f1::/64');
  t.equal(await values(), '0 0 0', 'an internal network needs none');
  await create(h, 'f2', '--subnet=10.40.0.0/24');
  t.equal(await values(), '1 0 0', 'a network with IPv4 alone');
  await create(h, 'f3', '--subnet=10.41.0.0/24', '--ipv6', '--subnet=fd00:f3::/64');
  t.equal(await values(), '1 1 1', 'the first with IPv6');
  await h.docker('network', 'rm', 'f1', 'f2', 'f3');
  t.equal(await values(), '1 1 1', 'left on, as documented');
  await h.sh('mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys');
  t.match(await h.trySh('echo 1 > /proc/sys/net/ipv4/ip_forward'), { stderr: /Read-only/ });
  await create(h, 'f2', '--subnet=10.40.0.0/24');
  await h.docker('network', 'rm', 'f2');
  await h.sh('umount /proc/sys');
}

async function sources(t: Test, h: DockerHost, r: Host, v4: string, v6: string): Promise<void> {
  const out = await capture(
    (argv) => r.spawnNet(argv),
    '-i eth0 icmp or icmp6',
    async () => {
      t.ok(await reaches(h, 'c1', r.address));
      t.ok(await reaches(h, 'c1', r.address6));
    },
  );
  t.match(out, `IP ${h.address} > ${r.address}: ICMP echo request`);
  t.match(out, `IP6 ${h.address6} > ${r.address6}: ICMP6, echo request`);
  t.notMatch(out, v4);
  t.notMatch(out, v6);
  const c2 = await attached(h, 'c2', 'n1');
  const multicast = 'echo hello | socat -u - UDP4-DATAGRAM:239.1.2.3:5000,ip-multicast-ttl=8';
  const peer = await capture(await inside(h, 'c2'), '-i eth0 icmp or icmp6 or udp', async () => {
    t.ok(await reaches(h, 'c1', c2.v4));
    t.ok(await reaches(h, 'c1', c2.v6));
    await h.inContainer('c1', 'sh', '-c', multicast);
  });
  t.match(peer, `IP ${v4} > ${c2.v4}: ICMP echo request`, 'a peer of the subnet sees the real source');
  t.match(peer, `IP6 ${v6} > ${c2.v6}: ICMP6, echo request`);
  t.match(peer, new RegExp(`IP ${v4}\\.\\d+ > 239\\.1\\.2\\.3\\.5000: UDP`), 'multicast as well');
}

async function namedBridge(t: Test, h: DockerHost, r: Host): Promise<void> {
  const named = (name: string) => ['-o', `${BRIDGE_NAME}=${name}`];
  const link = async () => await h.net('ip', '-o', '-4', 'address', 'show', 'dev', 'x');
  await h.sh(
    'ip link add x type bridge; ip address add 10.5.0.1/24 dev x; ip address add 10.77.0.1/30 dev x',
  );
  await h.sh('ip link set x alias "of the user" up');
  const theirs = await link();
  await h.sh('ip link set eth1 master x');
  const state = await snapshot(h);
  await create(h, 'mine', '--subnet=10.5.0.0/24', ...named('x'));
  await h.container('m1', 'mine');
  t.equal((await portsOf(h, 'x')).length, 2, 'the container is a port of it');
  t.ok(await reaches(h, 'm1', '10.5.0.1'));
  t.ok(await reaches(h, 'm1', WORLD));
  const { v4 } = await attached(h, 'm1', 'mine');
  t.ok(await h.pings(v4));
  const seen = await capture(
    (argv) => r.spawnNet(argv),
    '-i eth1 icmp',
    async () => {
      t.ok(await reaches(h, 'm1', '10.5.0.9'), 'a machine of the LAN that the bridge is part of');
    },
  );
  t.match(seen, `IP ${v4} > 10.5.0.9: ICMP echo request`, 'B06 which sees the real source');
  await remove(h, ['m1'], 'mine');
  t.equal(await link(), theirs, 'kept with its addresses');
  await assertRestored(t, h, state);
  await h.sh('ip link del x; ip link add x type veth peer name y; ip link set x alias "of the user"');
  const nic = await snapshot(h);
  const refused = await h.tryDocker('network', 'create', '-d', 'cnm-bridge', ...named('x'), 'mine');
  t.equal(refused.code, 1);
  t.match(refused.stderr, /Interface x exists and is not a bridge \(it is veth\)/);
  await assertRestored(t, h, nic);
  await h.sh('ip link del x');
  await create(h, 'mine', '--subnet=10.5.0.0/24', ...named('x'));
  t.match(await h.net('ip', '-o', 'link', 'show', 'x', 'type', 'bridge'), ' x: ', 'one that we make');
  await h.docker('network', 'rm', 'mine');
  t.equal((await h.tryNet('ip', 'link', 'show', 'x')).code, 1, 'goes with its network');
}
