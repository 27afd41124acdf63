/*
 * Every option of the bridge driver, seen by who asks and who answers, on Docker 20.10 and 28.5. One host for all of it:
 *
 *   r 198.51.100.12 ── uplink ── eth0 h ── eth1 192.0.2.0/24 ── q
 *     routes to 10.N/24, fd00:N/64     ├── eth2 ── q 10.11.0.9, fd00:11::9
 *     by way of h                      │
 *                                      ├── nat      10.1  a1 (80 published as 8081, 81 not), a2
 *                                      ├── source   10.2  b1            host_ipv4, host_ipv6
 *                                      ├── noicc    10.3  c1 (8083), c2 enable_icc=false
 *                                      ├── plain    10.4  d1            enable_ip_masquerade=false
 *                                      ├── routed   10.5  e1 (8085)     gateway_mode routed
 *                                      ├── open     10.6  f1 (8086)     gateway_mode nat-unprotected
 *                                      ├── mixed    10.7  g1 (8087)     IPv4 nat, IPv6 routed
 *                                      ├── isolated 10.8  i1, i2        gateway_mode isolated, --internal
 *                                      ├── bound    10.9  j1 (8089)     host_binding_ipv4=192.0.2.1
 *                                      ├── trusting 10.10 k1 (8090)     trusted_host_interfaces=eth1
 *                                      └── theirs   10.11 l1            bridge.name=lan with eth2, inhibit_ipv4, DefaultGateway
 *
 * 10.N.0.0/24 and fd00:N::/64. Every container listens on 80 and 81, the servers say who they are and whom they see.
 */
import t from 'tap';
import type { Test } from 'tap';
import { until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import type { Engine } from '../lab/engine.ts';
import { openLab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { ask, check, type Expected, onHost } from './asking.ts';
import { attached, bridgeOf, linkField } from './observe.ts';
import {
  both,
  BRIDGE,
  create,
  echo,
  NETWORKS,
  onPort,
  type Pair,
  populate,
  saw,
  SOURCE4,
  SOURCE6,
  strangers,
  wire,
  type World,
} from './options-world.ts';

for (const engine of ['20.10', '28.5'] as const) {
  t.test(`the options of cnm-bridge on Docker ${engine}`, (t) => options(t, engine));
}

async function options(t: Test, engine: Engine): Promise<void> {
  const lab = await openLab(t);
  const [h, r, q] = await Promise.all([
    lab.dockerHost({ engine, plugin: 'sockets', name: 'h' }),
    lab.peer({ name: 'r' }),
    lab.peer({ name: 'q', uplink: false }),
  ]);
  await wire(lab, h, r, q);
  const before = await snapshot(h);
  const sysctls = await strangers(h);
  for (const name of Object.keys(NETWORKS)) await create(h, name);
  const world = await populate(h, r, q);

  await t.test('B08 br_netfilter and other bridges are as they were', async (t) => {
    t.equal(await strangers(h), sysctls);
  });
  await t.test('closed: unpublished ports, direct routes, other networks', (t) => closed(t, world));
  await t.test('published ports: on every address, on host_binding_ipv4, past trusted interfaces', (t) =>
    published(t, world),
  );
  await t.test('B07 B22 the source that the world sees', (t) => sources(t, world));
  await t.test('B22 gateway modes', (t) => modes(t, world));
  await t.test('B08 enable_icc=false', (t) => icc(t, world));
  await t.test('gateway mode isolated: containers alone with each other', (t) => isolated(t, world));
  await t.test(
    'P24 bridge.name, inhibit_ipv4, DefaultGateway, container_iface_prefix: a LAN of the user’s',
    (t) => theirs(t, world),
  );
  await t.test('B10 without an MTU option it is 1500, whatever the uplink has', (t) => mtu(t, world));
  if (engine === '28.5') await t.test('P19 a /31 without a gateway', (t) => pair(t, h));
  await t.test('what is refused, by name and value', (t) => refused(t, h));
  await t.test('nothing is left', async (t) => {
    await Promise.all(world.servers.map((server) => server.kill()));
    const names = Object.values(NETWORKS).flatMap(({ containers }) => containers.map(([name = '']) => name));
    await Promise.all(names.map((name) => h.docker('rm', '--force', name)));
    await Promise.all(Object.keys(NETWORKS).map((name) => h.docker('network', 'rm', name)));
    await assertRestored(t, h, before);
  });
}

async function closed(t: Test, { h, r, q, place, at, address }: World): Promise<void> {
  const lan = onHost(r);
  const translated = ['a1', 'b1', 'c1', 'd1', 'j1', 'k1'];
  await check(t, [
    ...translated.flatMap((name) => both(lan, at(name, 80), 'silence')),
    ...both(lan, at('a1', 81), 'silence'),
    ...both(lan, echo(address('a1')), 'silence'),
    ...both(onHost(q), at('a1', 80), 'silence'),
    ...both(lan, onPort(h, 80), 'refused'),
    ...both(lan, onPort(h, 81), 'refused'),
    ...['b1', 'c1', 'd1', 'j1', 'k1'].flatMap((name) => both(place('a1'), at(name, 80), 'silence')),
    ...both(place('f1'), at('a1', 80), 'silence'),
    ...both(place('e1'), at('a1', 80), 'silence'),
  ]);
  // The host has no address, and so no route, in an isolated network: its next router may answer in its place.
  for (const server of at('i1', 80)) t.match(await ask(lan, server, 1), /^(silence|unreachable)$/);
  await check(t, [
    ...both(place('a1'), at('a2', 81), saw('a2', address('a1'))),
    ...both(place('a1'), echo(address('b1')), 'silence'),
    ...both(onHost(h), at('a1', 81), ['a1 10.1.0.1', 'a1 fd00:1::1']),
  ]);
}

async function published(t: Test, { h, r, q, at }: World): Promise<void> {
  const [lan, other] = [onHost(r), onHost(q)];
  const client: Pair = ['192.0.2.2', '2001:db8:2::2'];
  await check(t, [
    ...both(lan, onPort(h, 8081), saw('a1', r)),
    ...both(lan, onPort(h, 8090), saw('k1', r)),
    [lan, 'tcp:192.0.2.1:8081', `a1 ${r.address}`],
    [lan, 'tcp:[2001:db8:2::1]:8081', `a1 ${r.address6}`],
    // host_binding_ipv4: this address and no other, of either family.
    [lan, 'tcp:192.0.2.1:8089', `j1 ${r.address}`],
    ...both(lan, onPort(h, 8089), 'refused'),
    [lan, 'tcp:[2001:db8:2::1]:8089', 'refused'],
    // trusted_host_interfaces: the container's own published port from there, nothing else from there.
    ...both(other, at('k1', 80), [`k1 ${client[0]}`, `k1 ${client[1]}`]),
    ...both(other, at('k1', 81), 'silence'),
  ]);
}

async function sources(t: Test, { h, r, place, address }: World): Promise<void> {
  const server = onPort(r, 80);
  await check(t, [
    ...['a1', 'c1', 'f1'].flatMap((name) => both(place(name), server, saw('r', h))),
    ...both(place('b1'), server, [`r ${SOURCE4}`, `r ${SOURCE6}`]),
    ...both(place('b1'), ['tcp:192.0.2.2:80', 'tcp:[2001:db8:2::2]:80'], [`q ${SOURCE4}`, `q ${SOURCE6}`]),
    ...['d1', 'e1'].flatMap((name) => both(place(name), server, saw('r', address(name)))),
    ...both(place('g1'), server, [`r ${h.address}`, `r ${address('g1').v6}`]),
    ...both(place('i1'), server, 'unreachable'),
  ]);
}

async function modes(t: Test, { h, r, place, at, address }: World): Promise<void> {
  const lan = onHost(r);
  await check(t, [
    ...both(lan, at('e1', 80), saw('e1', r)),
    ...both(place('a1'), at('e1', 80), saw('e1', address('a1'))),
    ...both(lan, at('e1', 81), 'silence'),
    ...both(lan, echo(address('e1')), 'echo'),
    ...both(lan, onPort(h, 8085), 'refused'),
    ...both(lan, at('f1', 80), saw('f1', r)),
    ...both(lan, at('f1', 81), saw('f1', r)),
    ...both(place('a1'), at('f1', 81), saw('f1', address('a1'))),
    ...both(lan, echo(address('f1')), 'echo'),
    ...both(lan, onPort(h, 8086), saw('f1', r)),
    ...both(lan, at('g1', 80), ['silence', `g1 ${r.address6}`]),
    ...both(lan, at('g1', 81), 'silence'),
    ...both(lan, echo(address('g1')), ['silence', 'echo']),
    ...both(lan, onPort(h, 8087), [`g1 ${r.address}`, 'refused']),
  ]);
}

async function icc(t: Test, { h, r, place, at, address }: World): Promise<void> {
  const [c2, lan] = [place('c2'), onHost(r)];
  for (const calls of [1, 0]) {
    await h.sh(
      `sysctl -qw net.bridge.bridge-nf-call-iptables=${calls} net.bridge.bridge-nf-call-ip6tables=${calls}`,
    );
    const expected: Expected = [
      ...both(c2, at('c1', 80), 'silence'),
      ...both(c2, echo(address('c1')), 'silence'),
      ...both(c2, onPort(r, 80), saw('r', h)),
      ...both(lan, onPort(h, 8083), saw('c1', r)),
    ];
    await check(t, expected, `, bridge-nf-call-iptables=${calls}`);
  }
  await check(t, both(c2, onPort(h, 8083), ['c1 10.3.0.1', 'c1 fd00:3::1']), ' as published');
}

async function isolated(t: Test, { h, r, place, at, address }: World): Promise<void> {
  await check(t, [...both(place('i1'), at('i2', 80), saw('i2', address('i1')))]);
  // Engine 20.10 sets a gateway address aside, which nobody has; 28 gives it to a container (GwAllocCheck).
  const all = ['i1', 'i2'].map(address);
  const given = [all.map(({ v4 }) => v4).includes('10.8.0.1'), all.map(({ v6 }) => v6).includes('fd00:8::1')];
  const answers: Pair = [given[0] ? 'echo' : 'silence', given[1] ? 'echo' : 'silence'];
  await check(t, both(place('i1'), ['ping:10.8.0.1', 'ping:fd00:8::1'], answers));
  // Nobody comes in, not even where somebody gave the host a way to it.
  const bridge = await bridgeOf(h, 'isolated');
  await h.sh(`ip route add 10.8.0.0/24 dev ${bridge}; ip route add fd00:8::/64 dev ${bridge}`);
  await check(t, [
    ...both(place('a1'), at('i1', 80), 'silence'),
    ...both(onHost(r), at('i1', 80), 'silence'),
  ]);
  await h.sh(`ip route del 10.8.0.0/24 dev ${bridge}; ip route del fd00:8::/64 dev ${bridge}`);
  const own = await Promise.all(['i1', 'i2'].map((name) => linkLocal(h, name)));
  const whoIsThere = async () => {
    const ping = ['ping', '-n', '-c2', '-i0.3', '-W1', 'ff02::1%eth0'];
    const { stdout } = await h.tryInContainer('i1', {}, ...ping);
    const found = [...stdout.matchAll(/from (fe80:[^%]+)%/g)].map(([, address]) => address);
    return own.every((address) => found.includes(address)) ? new Set(found) : undefined;
  };
  t.same(
    [...(await until('both to answer', 10_000, whoIsThere))].sort(),
    [...own].sort(),
    'of all nodes on the link',
  );
}

async function linkLocal(h: DockerHost, container: string): Promise<string> {
  const show = () =>
    h.inContainer(container, 'ip', '-6', '-o', 'address', 'show', 'dev', 'eth0', 'scope', 'link');
  return until('a link-local address', 10_000, async () => /inet6 (fe80:\S+)\//.exec(await show())?.[1]);
}

async function theirs(t: Test, { h, place, address }: World): Promise<void> {
  const { v4, v6 } = address('l1');
  t.match(await h.inContainer('l1', 'ip', '-o', '-4', 'address'), `port0    inet ${v4}/24`);
  // q is their router, and sees them as they are: the host is not on the way.
  await check(t, both(place('l1'), ['tcp:192.0.2.2:80', 'tcp:[2001:db8:2::2]:80'], [`q ${v4}`, `q ${v6}`]));
  await check(t, [
    [place('l1'), 'ping:10.11.0.77', 'echo'],
    [place('l1'), 'ping:10.11.0.1', 'silence'],
    [place('l1'), 'ping:fd00:11::1', 'echo'],
  ]);
  t.match(
    await h.net('ip', '-o', '-4', 'address', 'show', 'dev', 'lan'),
    /^[^\n]* 10\.11\.0\.77\/24 [^\n]*\n$/,
  );
}

async function mtu(t: Test, { h, r }: World): Promise<void> {
  t.equal(await linkField(h, await bridgeOf(h, 'nat'), 'mtu'), 1500);
  t.match(await h.inContainer('a1', 'ip', 'link', 'show', 'eth0'), 'mtu 1500');
  // A narrower uplink is found out as on every path (RFC 1191): by the router's own word, and the router is this host.
  await h.sh('ip link set eth0 mtu 1400');
  const ping = (size: number) =>
    h.tryInContainer('a1', {}, 'ping', '-n', '-c1', '-W10', '-Mdo', `-s${size}`, r.address);
  t.match((await ping(1373)).stdout, /Frag needed and DF set \(mtu = 1400\)/, '1401 bytes');
  t.equal((await ping(1372)).code, 0, '1400 bytes');
  await h.sh('ip link set eth0 mtu 9000');
}

/** Engine 28 asks whether the network needs a gateway address (GwAllocCheck). */
async function pair(t: Test, h: DockerHost): Promise<void> {
  const isolated = ['--internal', '--opt', `${BRIDGE}.gateway_mode_ipv4=isolated`];
  await h.docker('network', 'create', '-d', 'cnm-bridge', ...isolated, '--subnet=10.31.0.0/31', 'pair');
  await Promise.all([h.container('p1', 'pair'), h.container('p2', 'pair')]);
  const [p1, p2] = [await attached(h, 'p1', 'pair'), await attached(h, 'p2', 'pair')];
  t.same([p1.v4, p2.v4].sort(), ['10.31.0.0', '10.31.0.1'], 'both addresses are containers’');
  t.ok(await h.containerPings('p1', p2.v4, 3));
  await h.docker('rm', '--force', 'p1', 'p2');
  await h.docker('network', 'rm', 'pair');
}

async function refused(t: Test, h: DockerHost): Promise<void> {
  const wrong: readonly (readonly [option: string, sentence: RegExp])[] = [
    [`${BRIDGE}.default_bridge=true`, /default_bridge cannot be "true".*Docker's own/],
    [`${BRIDGE}.gateway_mode_ipv4=isolated`, /"isolated" is for internal networks: add --internal/],
    [
      `${BRIDGE}.gateway_mode_ipv6=magic`,
      /gateway_mode_ipv6 cannot be "magic".*nat, nat-unprotected, routed, isolated/,
    ],
    [`com.docker.network.host_ipv4=${SOURCE6}`, /host_ipv4 cannot be .*an IPv4 address/],
    [`${BRIDGE}.host_binding_ipv4=here`, /host_binding_ipv4 cannot be "here"/],
    [`${BRIDGE}.trusted_host_interfaces=eth0:-j`, /trusted_host_interfaces cannot be "-j"/],
    [`${BRIDGE}.enable_icc=no`, /enable_icc cannot be "no".*true or false/],
  ];
  const answers = await Promise.all(
    wrong.map(([option]) => h.tryDocker('network', 'create', '-d', 'cnm-bridge', '--opt', option, 'wrong')),
  );
  for (const [index, [option, sentence]] of wrong.entries()) {
    t.equal(answers[index]?.code, 1, option);
    t.match(answers[index]?.stderr, sentence);
  }
}
