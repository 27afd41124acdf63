// lab: timeout 900
/*
 * The macvlan driver on Docker Engine 20.10 and 28.5: acceptance cases M01 to M15 that need no VLAN.
 *
 *   lan ──┬── eth1 h: dockerd + cnm-macvlan ── on eth1: n1 (c1, c2), n2, …        host 10.20.0.2, fd00:20::2
 *         └── eth1 r: a machine of the LAN 10.20.0.9, fd00:20::9; 10.21.0.9, fd00:21::9; 10.22.0.9
 *   h: eth2 ═ eth2 r (passthru), eth3 ═ eth3 r (down)
 */
import t from 'tap';
import type { Test } from 'tap';
import { until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import type { Engine } from '../lab/engine.ts';
import type { Host } from '../lab/host.ts';
import { IMAGE } from '../lab/image.ts';
import { openLab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { attached, capture, linkField } from './observe.ts';

const MTU = 'com.docker.network.driver.mtu';
const LAN = ['--subnet=10.20.0.0/24', '--ip-range=10.20.0.128/25', '--gateway=10.20.0.9'];
const LAN6 = ['--ipv6', '--subnet=fd00:20::/64', '--gateway=fd00:20::9'];

function create(h: DockerHost, name: string, ...options: string[]): Promise<string> {
  return h.docker('network', 'create', '--driver', 'cnm-macvlan', ...options, name);
}

function tryCreate(h: DockerHost, ...options: string[]): Promise<{ code: number | null; stderr: string }> {
  return h.tryDocker('network', 'create', '--driver', 'cnm-macvlan', ...options, 'refused');
}

async function remove(h: DockerHost, containers: readonly string[], ...networks: string[]): Promise<void> {
  await h.docker('rm', '--force', ...containers);
  await h.docker('network', 'rm', ...networks);
}

/** On a loaded machine the first packet may wait for a second question, a second later. */
function reaches(h: DockerHost, from: string, to: string): Promise<boolean> {
  return h.containerPings(from, to, 3);
}

/** What ping says of two requests that nobody answers. */
async function silence(h: DockerHost, from: string, to: string): Promise<string> {
  const ping = ['ping', '-n', '-c2', '-i0.2', '-W1', to];
  return (await h.tryInContainer(from, {}, ...ping)).stdout;
}

for (const engine of ['20.10', '28.5'] as const) {
  t.test(`cnm-macvlan on Docker ${engine}`, (t) => onEngine(t, engine));
}

async function onEngine(t: Test, engine: Engine): Promise<void> {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ engine, plugin: 'sockets', drivers: ['macvlan'] });
  const r = await lab.peer({ name: 'r' });
  await lab.segment(
    { host: h, link: 'eth1', addresses: ['10.20.0.2/24', 'fd00:20::2/64'] },
    {
      host: r,
      link: 'eth1',
      addresses: ['10.20.0.9/24', 'fd00:20::9/64', '10.21.0.9/24', 'fd00:21::9/64', '10.22.0.9/24'],
    },
  );
  await lab.link({ host: h, link: 'eth2' }, { host: r, link: 'eth2', addresses: ['10.25.0.9/24'] });
  await lab.link({ host: h, link: 'eth3' }, { host: r, link: 'eth3' });
  await h.net('ip', 'link', 'set', 'eth3', 'down');
  const before = await snapshot(h);

  const all: Readonly<Record<string, (t: Test) => Promise<void>>> = {
    'M01 containers reach each other and the LAN, with their own MACs on the wire': (t) => wire(t, h, r),
    'M09 several subnets of each family': (t) => subnets(t, h),
    'M10 no gateway but the one that the user gave': (t) => gateways(t, h, engine),
    'the host and its containers, with host_access=true': (t) => hostAccess(t, h, r),
    'killed while containers run': (t) => killed(t, h),
  };
  const older: typeof all = {
    'M02 without a parent': (t) => noParent(t, h, r),
    'M03 the four modes': (t) => modes(t, h),
    'M05 two networks on one parent': (t) => shared(t, h),
    'M07 a parent that is down': (t) => down(t, h),
    'M08 what cannot be is refused by name, and changes nothing': (t) => refused(t, h),
    'M11 one address is never on one wire twice': (t) => overlap(t, h),
    'M12 the MTU, up to the parent’s': (t) => mtu(t, h),
    'M13, M14 names of interfaces': (t) => names(t, h),
    'scenario 5: promiscuous=true, while a network needs it': (t) => promiscuous(t, h),
    'M15 a MAC of the user’s, and no IPv6 without --ipv6': (t) => macs(t, h),
    'V11 the subnet-router anycast address is nobody’s': (t) => anycast(t, h),
  };
  // What the Engine has a part in on both; the rest is ours and the kernel's.
  for (const [name, run] of Object.entries({ ...all, ...(engine === '20.10' && older) }))
    await t.test(name, run);
  await assertRestored(t, h, before);
}

async function wire(t: Test, h: DockerHost, r: Host): Promise<void> {
  await create(h, 'n1', ...LAN, ...LAN6, '-o', 'parent=eth1');
  const told = await capture(
    (argv) => r.spawnNet(argv),
    '-e -i eth1 arp or icmp6',
    () => Promise.all(['c1', 'c2'].map((name) => h.container(name, 'n1'))),
  );
  const [c1, c2] = await Promise.all(['c1', 'c2'].map((name) => attached(h, name, 'n1')));
  for (const one of [c1, c2]) {
    t.match(
      told,
      new RegExp(`${one?.mac ?? ''} > ff:ff:ff:ff:ff:ff.* ${one?.v4 ?? ''}`),
      'announced on the LAN',
    );
    t.match(told, new RegExp(`${one?.mac ?? ''} > 33:33:00:00:00:01.* tgt is ${one?.v6 ?? ''}`));
  }
  for (const to of [c2?.v4, c2?.v6, '10.20.0.9', 'fd00:20::9'])
    t.ok(await reaches(h, 'c1', to ?? ''), `c1 reaches ${to ?? ''}`);
  t.ok(await r.pings(c1?.v4 ?? '', 3), 'the LAN reaches c1');
  t.match(await silence(h, 'c1', '10.20.0.2'), ' 0 received', 'but not its own host');
  t.match(await h.exec('c1', 'ping', '-4', '-c1', '-W3', 'c2'), '1 received', 'by name');
  const seen = await capture(
    (argv) => r.spawnNet(argv),
    '-e -i eth1 icmp',
    () => reaches(h, 'c1', '10.20.0.9'),
  );
  t.match(
    seen,
    new RegExp(`${c1?.mac ?? ''} > .* ${c1?.v4 ?? ''} > 10.20.0.9: ICMP echo request`),
    'its own MAC',
  );
  t.notMatch(
    seen,
    String(await linkField(h, 'eth1', 'address')),
    'the parent’s MAC is in none of its frames',
  );
  t.match(await h.inContainer('c1', 'ip', 'route'), 'default via 10.20.0.9 dev eth0');
  const drawn = await h.cnm('network', 'inspect', 'n1');
  t.match(drawn, /parent +eth1\n/);
  t.match(drawn, /mode +bridge\n/);
  t.match(drawn, /container c1/);
  t.equal((await h.tryCnm('doctor')).code, 0, 'store and kernel agree while containers run');
  await h.docker('restart', '--time', '0', 'c1');
  t.ok(await reaches(h, 'c1', '10.20.0.9'), 'after a restart of the container');
  await remove(h, ['c1', 'c2'], 'n1');
}

async function modes(t: Test, h: DockerHost): Promise<void> {
  for (const [mode, parent, siblings] of [
    ['bridge', 'eth1', true],
    ['private', 'eth1', false],
    ['vepa', 'eth1', false],
    ['passthru', 'eth2', undefined],
  ] as const) {
    const subnet = parent === 'eth1' ? '10.20.0' : '10.25.0';
    await create(
      h,
      'modal',
      `--subnet=${subnet}.0/24`,
      `--ip-range=${subnet}.128/25`,
      '-o',
      `parent=${parent}`,
      '-o',
      `macvlan_mode=${mode}`,
    );
    await h.container('m1', 'modal');
    t.match(await h.inContainer('m1', 'ip', '-d', 'link', 'show', 'eth0'), ` macvlan mode ${mode} `);
    t.ok(await reaches(h, 'm1', `${subnet}.9`), `${mode}: the LAN`);
    const second = await h.tryDocker('run', '-d', '--name', 'm2', '--network', 'modal', IMAGE);
    if (siblings === undefined) {
      t.match(second, { code: 125, stderr: /with passthru there is one link on a parent/ });
    } else {
      const { v4 } = await attached(h, 'm2', 'modal');
      if (siblings) t.ok(await reaches(h, 'm1', v4), `${mode}: its sibling`);
      else t.match(await silence(h, 'm1', v4), ' 0 received', `${mode}: not its sibling`);
    }
    await remove(h, ['m1', 'm2'], 'modal');
  }
}

async function shared(t: Test, h: DockerHost): Promise<void> {
  await create(h, 'n1', ...LAN, '-o', 'parent=eth1');
  await create(h, 'n2', '--subnet=10.22.0.0/24', '-o', 'parent=eth1', '-o', 'macvlan_mode=private');
  t.match(await tryCreate(h, '--subnet=10.23.0.0/24', '-o', 'parent=eth1', '-o', 'macvlan_mode=passthru'), {
    code: 1,
    stderr: /Parent eth1 is used by network .* with mode passthru this network must have it alone/,
  });
  await Promise.all([h.container('c1', 'n1'), h.container('c2', 'n2', '--ip=10.22.0.130')]);
  await remove(h, ['c1'], 'n1');
  t.ok(await reaches(h, 'c2', '10.22.0.9'), 'the other works on');
  await remove(h, ['c2'], 'n2');
}

async function down(t: Test, h: DockerHost): Promise<void> {
  await create(h, 'n3', '--subnet=10.26.0.0/24', '-o', 'parent=eth3');
  await h.container('c1', 'n3');
  t.match(
    await h.inContainer('c1', 'ip', '-br', 'address', 'show', 'eth0'),
    /eth0@if\d+ +LOWERLAYERDOWN +10\.26\.0\./,
  );
  await remove(h, ['c1'], 'n3');
}

async function refused(t: Test, h: DockerHost): Promise<void> {
  const before = await snapshot(h);
  for (const [options, words] of [
    [['parent=eth9'], 'there is no interface eth9 on this host (it has eth0, docker0, eth1, eth2, eth3)'],
    [['parent=lo'], 'lo leads nowhere'],
    [
      ['parent=eth1', 'macvlan_mode=foo'],
      'cannot be "foo": it must be one of bridge, vepa, private, passthru',
    ],
    [['parent=eth1.0'], '"0" is not a VLAN id: a number from 1 to 4094'],
    [['parent=eth1.4095'], '"4095" is not a VLAN id'],
    [['parent=eth1.abc'], '"abc" is not a VLAN id'],
    [['parent=eth1', 'vlan=4095'], 'vlan cannot be "4095"'],
    [['parent=sixteen-bytes-ab'], '1 to 15 bytes'],
    [['parent=eth1', 'opt1=drv1'], 'cnm-macvlan does not know the option "opt1"'],
  ] as const) {
    const { code, stderr } = await tryCreate(
      h,
      '--subnet=10.29.0.0/24',
      ...options.flatMap((one) => ['-o', one]),
    );
    t.equal(code, 1);
    t.match(stderr, words);
  }
  t.notMatch(await h.docker('network', 'ls'), 'refused');
  await assertRestored(t, h, before);
}

async function subnets(t: Test, h: DockerHost): Promise<void> {
  const four = [
    '--subnet=10.20.0.0/24',
    '--gateway=10.20.0.9',
    '--subnet=10.21.0.0/24',
    '--gateway=10.21.0.9',
  ];
  const six = [
    '--ipv6',
    '--subnet=fd00:20::/64',
    '--gateway=fd00:20::9',
    '--subnet=fd00:21::/64',
    '--gateway=fd00:21::9',
  ];
  await create(h, 'n4', ...four, ...six, '-o', 'parent=eth1');
  await h.container('c1', 'n4', '--ip=10.20.0.130', '--ip6=fd00:20::82');
  await h.container('c2', 'n4', '--ip=10.21.0.130', '--ip6=fd00:21::82');
  t.match(await h.inContainer('c1', 'ip', 'route'), 'default via 10.20.0.9');
  t.match(await h.inContainer('c2', 'ip', 'route'), 'default via 10.21.0.9');
  t.match(await h.inContainer('c2', 'ip', '-6', 'route'), 'default via fd00:21::9');
  for (const [from, to] of [
    ['c1', '10.20.0.9'],
    ['c1', 'fd00:20::9'],
    ['c2', '10.21.0.9'],
    ['c2', 'fd00:21::9'],
  ] as const)
    t.ok(await reaches(h, from, to), `${from} reaches ${to}`);
  await remove(h, ['c1', 'c2'], 'n4');
}

async function gateways(t: Test, h: DockerHost, engine: Engine): Promise<void> {
  await create(
    h,
    'n5',
    '--subnet=10.22.0.0/24',
    '--ipv6',
    '--subnet=fd00:20::/64',
    '--gateway=fd00:20::9',
    '-o',
    'parent=eth1',
  );
  await h.container('c1', 'n5', '--ip=10.22.0.130');
  t.ok(await reaches(h, 'c1', '10.22.0.9'));
  // An older Engine always allocates a gateway, and says nothing of whether the user wanted it.
  const wanted = engine === '20.10' ? /default via 10\.22\.0\.1 / : /^10\.22\.0\.0\/24 dev eth0 [^\n]*\n$/;
  t.match(await h.inContainer('c1', 'ip', 'route'), wanted);
  t.match(await h.inContainer('c1', 'ip', '-6', 'route'), 'default via fd00:20::9');
  await remove(h, ['c1'], 'n5');
}

async function overlap(t: Test, h: DockerHost): Promise<void> {
  const half = (range: string) => [
    '--subnet=10.20.0.0/24',
    `--ip-range=${range}`,
    '--ipam-driver=cnm-ipam',
    '-o',
    'parent=eth1',
  ];
  await create(h, 'n6', ...half('10.20.0.192/27'));
  await create(h, 'n7', ...half('10.20.0.224/27'));
  t.match(await tryCreate(h, ...half('10.20.0.224/27')), {
    code: 1,
    stderr: /10\.20\.0\.224\/27|10\.20\.0\.0\/24/,
  });
  t.match(await tryCreate(h, '--subnet=10.20.0.0/25', '-o', 'parent=eth1'), {
    code: 1,
    stderr: /Subnet 10\.20\.0\.0\/25 overlaps a subnet of network .*, which is on eth1 too/,
  });
  await Promise.all([h.container('c1', 'n6'), h.container('c2', 'n7')]);
  t.match((await attached(h, 'c1', 'n6')).v4, /^10\.20\.0\.(19[2-9]|20\d|21\d|22[0-3])$/);
  const { v4 } = await attached(h, 'c2', 'n7');
  t.match(v4, /^10\.20\.0\.(22[4-9]|23\d|24\d|25[0-4])$/);
  t.ok(await reaches(h, 'c1', v4), 'one LAN');
  t.match(await h.tryDocker('run', '--rm', '--network=n6', `--ip=${v4}`, IMAGE, 'true'), {
    code: 125,
    stderr: new RegExp(v4),
  });
  await remove(h, ['c1', 'c2'], 'n6', 'n7');
}

async function mtu(t: Test, h: DockerHost): Promise<void> {
  await create(h, 'n8', ...LAN, '-o', 'parent=eth1', '-o', `${MTU}=1400`);
  await h.container('c1', 'n8');
  t.match(await h.inContainer('c1', 'ip', 'link', 'show', 'eth0'), ' mtu 1400 ');
  t.match(await tryCreate(h, '--subnet=10.29.0.0/24', '-o', 'parent=eth1', '-o', `${MTU}=1501`), {
    code: 1,
    stderr: /\(mtu\) cannot be "1501": it must be at most 1500, which its parent eth1 has/,
  });
  await remove(h, ['c1'], 'n8');
}

async function names(t: Test, h: DockerHost): Promise<void> {
  await h.net('ip', 'link', 'add', 'lan0', 'type', 'veth', 'peer', 'name', 'lan1');
  await create(
    h,
    'n9',
    '--subnet=10.27.0.0/24',
    '-o',
    'parent=lan0',
    '-o',
    'com.docker.network.container_iface_prefix=lan',
  );
  await h.container('c1', 'n9');
  t.match(
    await h.inContainer('c1', 'ip', '-br', 'link'),
    'lan0@',
    'M13 the name that its parent has on the host',
  );
  await create(h, 'n10', ...LAN, '-o', 'parent=eth1');
  await h.docker('network', 'connect', 'n10', 'c1');
  t.match(await h.inContainer('c1', 'ip', '-br', 'link'), 'eth0@');
  await h.inContainer('c1', 'ip', 'link', 'add', 'lan1', 'type', 'veth', 'peer', 'name', 'lan2');
  await create(
    h,
    'n11',
    '--subnet=10.28.0.0/24',
    '-o',
    'parent=lan0',
    '-o',
    'com.docker.network.container_iface_prefix=lan',
  );
  // M14: Docker counts past the names that it knows itself; one that is taken by somebody else's link it cannot take.
  const { code } = await h.tryDocker('network', 'connect', 'n11', 'c1');
  t.ok(code === 0 || code === 1);
  t.notMatch(await h.net('ip', '-br', 'link'), 'cnmm', 'nothing of it is left on the host');
  await remove(h, ['c1'], 'n9', 'n10', 'n11');
  await h.net('ip', 'link', 'del', 'lan0');
}

async function macs(t: Test, h: DockerHost): Promise<void> {
  await create(h, 'n12', ...LAN, '-o', 'parent=eth1');
  const own = '02:42:ac:11:00:42';
  const config = { Image: IMAGE, HostConfig: { NetworkMode: 'n12' }, MacAddress: own };
  await h.api('POST', '/v1.41/containers/create?name=c1', config);
  await h.docker('start', 'c1');
  const shown = () => h.inContainer('c1', 'ip', 'address', 'show', 'eth0');
  t.match(await shown(), own);
  t.notMatch(await shown(), 'inet6', 'no IPv6 at all');
  await h.docker('restart', '--time', '0', 'c1');
  t.match(await shown(), own, 'after a restart');
  await remove(h, ['c1'], 'n12');
}

async function noParent(t: Test, h: DockerHost, r: Host): Promise<void> {
  await create(h, 'alone', '--subnet=10.22.0.0/24');
  await Promise.all(['c1', 'c2'].map((name) => h.container(name, 'alone')));
  const { v4 } = await attached(h, 'c2', 'alone');
  t.ok(await reaches(h, 'c1', v4));
  t.notMatch(await h.inContainer('c1', 'ip', 'route'), 'default');
  t.match(await h.cnm('network', 'inspect', 'alone'), /parent +none: it leads nowhere\n/);
  const seen = await capture(
    (argv) => r.spawnNet(argv),
    '-e -i eth1',
    () => silence(h, 'c1', '10.22.0.9'),
  );
  t.notMatch(seen, '10.22.0.', 'nothing of it is on the LAN');
  await remove(h, ['c1', 'c2'], 'alone');
}

async function anycast(t: Test, h: DockerHost): Promise<void> {
  const pool = ['--ipv6', '--subnet=fd00:29::/126', '--subnet=10.29.0.0/24', '--ipam-driver=cnm-ipam'];
  await create(h, 'n13', ...pool, '-o', 'parent=eth1');
  t.match(await h.tryDocker('run', '--rm', '--network=n13', '--ip6=fd00:29::', IMAGE, 'true'), {
    code: 125,
    stderr: /fd00:29::/,
  });
  await h.container('c1', 'n13');
  t.not((await attached(h, 'c1', 'n13')).v6, 'fd00:29::');
  await remove(h, ['c1'], 'n13');
}

/** The data path is the kernel's; the record finds the link again in the container that has it. */
async function killed(t: Test, h: DockerHost): Promise<void> {
  await create(h, 'n14', ...LAN, '-o', 'parent=eth1');
  await h.container('c1', 'n14');
  await h.killPlugin();
  t.ok(await reaches(h, 'c1', '10.20.0.9'), 'while it is dead');
  await h.startPlugin();
  t.ok(await reaches(h, 'c1', '10.20.0.9'), 'when it is back');
  t.equal((await h.tryCnm('doctor')).code, 0);
  await h.container('c2', 'n14');
  t.ok(await reaches(h, 'c2', (await attached(h, 'c1', 'n14')).v4));
  await remove(h, ['c1', 'c2'], 'n14');
}

async function hostAccess(t: Test, h: DockerHost, r: Host): Promise<void> {
  await create(h, 'n15', ...LAN, ...LAN6, '-o', 'parent=eth1', '-o', 'host_access=true');
  await h.container('c1', 'n15');
  const [, shim4 = '', shim6 = '', shim = ''] =
    /host +(\S+), (\S+) by (\S+)\n/.exec(await h.cnm('network', 'inspect', 'n15')) ?? [];
  const { v4, v6, mac } = await attached(h, 'c1', 'n15');
  const both = async (when: string) => {
    for (const to of [v4, v6]) t.ok(await h.pings(to, 3), `the host reaches ${to} ${when}`);
    for (const to of ['10.20.0.2', 'fd00:20::2', shim4, shim6])
      t.ok(await reaches(h, 'c1', to), `c1 reaches the host as ${to} ${when}`);
  };
  // What is between the two is for nobody else on the wire, but for questions that go to all.
  const seen = await capture(
    (argv) => r.spawnNet(argv),
    '-e -i eth1 icmp or icmp6',
    () => both('at once'),
  );
  t.notMatch(seen, 'echo', 'none of it on the wire');
  await r.net('ip', 'neigh', 'flush', 'dev', 'eth1');
  const asked = await capture(
    (argv) => r.spawnNet(argv),
    '-e -i eth1 arp',
    () => r.pings('10.20.0.2', 3),
  );
  // Who asks twice is answered twice.
  const answers = [...asked.matchAll(/Reply 10\.20\.0\.2 is-at (\S+?),? /g)].map(([, mac]) => mac);
  const parent = String(await linkField(h, 'eth1', 'address'));
  t.same([...new Set(answers)], [parent], 'asked by the LAN, one link answers for the host: the parent');
  t.ok(await reaches(h, 'c1', '10.20.0.9'), 'the LAN as ever');
  t.match(await h.net('ip', 'route', 'get', v4), new RegExp(`dev ${shim} src ${shim4}`));
  t.not(await linkField(h, shim, 'address'), mac);
  await h.docker('restart', '--time', '0', 'c1');
  await both('after a restart');
  await h.net('ip', 'link', 'del', shim);
  await until('the shim to be put back', 20_000, async () => (await h.pings(v4, 1)) || undefined);
  await remove(h, ['c1'], 'n15');
  t.notMatch(await h.net('ip', '-br', 'link'), 'cnmh', 'gone with its network');
}

async function promiscuous(t: Test, h: DockerHost): Promise<void> {
  const asked = async () => /[<,]PROMISC[,>]/.test(await h.net('ip', 'link', 'show', 'eth1'));
  const shown = async (name: string) =>
    /promiscuous +(\w+)\n/.exec(await h.cnm('network', 'inspect', name))?.[1];
  await create(h, 'n16', '--subnet=10.31.0.0/24', '-o', 'parent=eth1');
  t.equal(await shown('n16'), 'no');
  for (const name of ['n17', 'n18'])
    await create(
      h,
      name,
      `--subnet=10.3${name === 'n17' ? 2 : 3}.0.0/24`,
      '-o',
      'parent=eth1',
      '-o',
      'promiscuous=true',
    );
  t.ok(await asked());
  t.equal(await shown('n16'), 'yes', 'it is one NIC');
  await h.docker('network', 'rm', 'n17');
  t.ok(await asked(), 'another network needs it');
  await h.docker('network', 'rm', 'n18', 'n16');
  t.notOk(await asked(), 'undone with the last');
  await h.net('ip', 'link', 'set', 'eth1', 'promisc', 'on');
  await create(h, 'n17', '--subnet=10.32.0.0/24', '-o', 'parent=eth1', '-o', 'promiscuous=true');
  await h.docker('network', 'rm', 'n17');
  t.ok(await asked(), 'what the user had set stays');
  await h.net('ip', 'link', 'set', 'eth1', 'promisc', 'off');
}
