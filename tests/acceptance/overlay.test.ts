/*
 * An overlay network over three hosts in two IP networks, with a static list of peers and no Docker: cnmd alone, its sandboxes for
 * containers. Scenarios 7, 8 and 9.
 *
 *   world ── uplink 198.51.100.0/24, 2001:db8:1::/64 ──┬── h1 (cnmd)
 *                                                       ├── h2 (cnmd)
 *                                                       └── r ── lan 192.0.2.0/24 ── h3 (cnmd)
 */
import { join as path } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import type { DoctorView, EndpointView } from '../../inspect/views.ts';
import { run, until } from '../lab/command.ts';
import type { CnmHost } from '../lab/docker-host.ts';
import type { Host } from '../lab/host.ts';
import { openLab } from '../lab/lab.ts';
import type { Lab } from '../lab/lab.ts';
import { assertAllRestored, snapshots } from '../lab/snapshot.ts';
import { stopCapture } from './observe.ts';
import { openRoutedHosts, type RoutedHosts } from './overlay-hosts.ts';

interface World extends RoutedHosts {
  readonly hosts: readonly CnmHost[];
  /** The same list on every host. */
  readonly peers: string;
}

async function open(lab: Lab): Promise<World> {
  const { h1, h2, h3, router } = await openRoutedHosts(lab);
  const hosts = [h1, h2, h3];
  return { h1, h2, h3, router, hosts, peers: hosts.map(({ address }) => address).join(',') };
}

/** `cnm network create -d cnm-overlay`; `o`: its options. */
async function create(
  h: CnmHost,
  name: string,
  subnets: readonly string[],
  o: Readonly<Record<string, string | number>>,
  ...more: string[]
): Promise<void> {
  const options = Object.entries(o).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
  const pools = subnets.flatMap((subnet) => ['--subnet', subnet]);
  await h.cnm('network', 'create', '-d', 'cnm-overlay', ...pools, ...options, ...more, name);
}

/** A sandbox of the network's name, joined; with the address it has. */
async function join(h: CnmHost, network: string, ...more: string[]): Promise<EndpointView> {
  await h.cnm('sandbox', 'create', network);
  const said = await h.cnm('sandbox', 'join', network, '--network', network, '--json', ...more);
  return JSON.parse(said) as EndpointView;
}

async function leave(h: CnmHost, network: string): Promise<void> {
  await h.cnm('sandbox', 'leave', network, '--network', network);
  await h.cnm('sandbox', 'rm', network);
}

/** The sandbox, and the network with it. */
async function away(h: CnmHost, network: string): Promise<void> {
  await leave(h, network);
  await h.cnm('network', 'rm', network);
}

function addressOf(endpoint: EndpointView, index = 0): string {
  return (endpoint.addresses[index] ?? '').replace(/\/.*/, '');
}

/** Who expects no answer gives `-W1`, which comes last and counts. */
function ping(h: CnmHost, sandbox: string, ...more: string[]): Promise<{ code: number; stdout: string }> {
  return h.trySh(`nsenter --net=$(readlink -f ${netnsOf(h, sandbox)}) ping -n -c1 -W10 ${more.join(' ')}`);
}

/** The file of a sandbox's namespace is known by its id alone: a link with its name leads to it. */
function netnsOf(h: CnmHost, sandbox: string): string {
  return path(h.dir, `netns-${sandbox}`);
}

async function linkNetns(h: CnmHost, sandbox: string): Promise<void> {
  const [view] = JSON.parse(await h.cnm('sandbox', 'inspect', sandbox, '--json')) as { path: string }[];
  await h.sh(`ln -sfn ${view?.path ?? ''} ${netnsOf(h, sandbox)}`);
}

/** On every host: the network with a range of its own, and a sandbox on it. */
async function everywhere(
  { hosts, peers }: World,
  name: string,
  vni: number,
): Promise<readonly EndpointView[]> {
  return Promise.all(
    hosts.map(async (h, number) => {
      const range = `10.1.0.${number * 64}/26`;
      await create(h, name, ['10.1.0.0/24'], { vni, peers, 'ip-range': range }, '--ip-range', range);
      const endpoint = await join(h, name);
      await linkNetns(h, name);
      return endpoint;
    }),
  );
}

/** In the network's own namespace on that host. */
async function inNetwork(h: CnmHost, line: string): Promise<string> {
  return h.sh(`for n in /run/cnm/netns/ov-*; do nsenter --net=$n ${line}; done`);
}

/** What tshark reads in what came by while `act` ran, one line a packet with `fields` between spaces. */
async function decoded(
  h: Host,
  link: string,
  filter: string,
  fields: readonly string[],
  act: () => Promise<unknown>,
): Promise<readonly string[]> {
  const file = path(h.dir, 'capture.pcap');
  const tcpdump = h.spawnNet([
    'tcpdump',
    '--immediate-mode',
    '-U',
    '-i',
    link,
    '-w',
    file,
    ...filter.split(' '),
  ]);
  await until('tcpdump to listen', 10_000, () => tcpdump.stderr.includes('listening on') || undefined);
  await act();
  await stopCapture(tcpdump);
  const asked = fields.flatMap((field) => ['-e', field]);
  const text = await run(['tshark', '-r', file, '-T', 'fields', '-E', 'separator=/s', ...asked]);
  return text.trim() === '' ? [] : text.trim().split('\n');
}

t.test('an overlay network over three hosts', async (t) => {
  const lab = await openLab(t);
  const world = await open(lab);
  const { h1, h2, h3, hosts, router, peers } = world;
  // The first sandbox makes the folder for all.
  for (const h of hosts) await h.sh('mkdir -p /run/cnm/netns');
  await Promise.all(hosts.map((h) => h.makeSandboxFolder()));
  const before = await snapshots(hosts);

  await t.test('7 uber-net: a host where nothing runs holds nothing of it', async (t) => {
    await create(h2, 'uber', ['10.1.0.0/24'], { vni: 4097, peers, 'ip-range': 'any' });
    t.equal(await h2.sh('ls /run/cnm/netns'), '');
    t.notMatch(await h2.net('ss', '-Hlun'), ':4789', 'nor does it listen');
    await join(h2, 'uber', '--ip', '10.1.0.9');
    t.match(await h2.sh('ls /run/cnm/netns'), /^ov-/m);
    t.match(await h2.net('ss', '-Hlun'), ':4789');
    await leave(h2, 'uber');
    t.equal(await h2.sh('ls /run/cnm/netns'), '', 'with the last endpoint all of it goes');
    t.notMatch(await h2.net('ss', '-Hlun'), ':4789');
    await h2.cnm('network', 'rm', 'uber');
  });

  const uber = await everywhere(world, 'uber', 4097);
  const [on1 = '', on2 = '', on3 = ''] = uber.map((endpoint) => addressOf(endpoint));

  t.test('7, O01 every pair by address, one hop apart', async (t) => {
    for (const h of hosts) {
      for (const address of [on1, on2, on3]) {
        t.equal((await ping(h, 'uber', '-t', '1', address)).code, 0, `${h.name} → ${address}`);
      }
    }
    t.notMatch(
      await h1.net('ip', 'link', 'show', 'type', 'vxlan'),
      'vx',
      'no tunnel in the host’s own namespace',
    );
    t.notOk(await h1.pings(on2, 1), 'O02 the host itself is not on the network');
    const drawing = await h1.cnm('network', 'inspect', 'uber');
    t.match(drawing, /namespace \/run\/cnm\/netns\/ov-[0-9a-f]{12}\n {2}`-- bridge br0 /);
    t.match(drawing, `vni 4097, udp 4789, from ${h1.address} to ${h2.address}, ${h3.address}`);
    t.match(drawing, `eth0  up  mtu 1450  mac 02:42:0a:01:00:`);
  });

  t.test(
    '8 a packet’s way: VXLAN with the right VNI on the network below, from and to the right hosts',
    async (t) => {
      const fields = [
        'ip.src',
        'ip.dst',
        'udp.dstport',
        'vxlan.vni',
        'vxlan.flags',
        'icmp.type',
        'frame.protocols',
      ];
      const seen = await decoded(router, 'lan', 'udp port 4789 and greater 120', fields, () =>
        ping(h1, 'uber', on3),
      );
      const stack = 'eth:ethertype:ip:udp:vxlan:eth:ethertype:ip:icmp:data';
      t.same(seen, [
        `${h1.address},${on1} ${h3.address},${on3} 4789 4097 0x0800 8 ${stack}`,
        `${h3.address},${on3} ${h1.address},${on1} 4789 4097 0x0800 0 ${stack}`,
      ]);
    },
  );

  t.test('the MTU is that of the network below less 50, and a full packet passes whole', async (t) => {
    t.equal((await ping(h1, 'uber', '-M', 'do', '-s', '1422', on3)).code, 0, '1450 bytes');
    t.not((await ping(h1, 'uber', '-W1', '-M', 'do', '-s', '1423', on3)).code, 0, 'one more');
    const fragments = await decoded(router, 'lan', 'ip[6:2] & 0x3fff != 0', ['ip.id'], () =>
      ping(h1, 'uber', '-M', 'do', '-s', '1422', on3),
    );
    t.same(fragments, [], 'none of it in fragments');
  });

  t.test('O02 two networks with one subnet, and one address on both', async (t) => {
    const o = { vni: 5000, peers, 'ip-range': 'any' };
    await create(h1, 'twin', ['10.1.0.0/24'], o, '--ip-range', '10.1.0.192/27');
    await create(h2, 'twin', ['10.1.0.0/24'], o, '--ip-range', '10.1.0.192/27');
    // The address that uber has on h2.
    const same = await join(h1, 'twin', '--ip', on2);
    await join(h2, 'twin', '--ip', '10.1.0.193');
    await linkNetns(h1, 'twin');
    await linkNetns(h2, 'twin');
    t.equal(addressOf(same), on2);
    t.equal((await ping(h2, 'twin', on2)).code, 0, 'the twin on h1 answers');
    t.not((await ping(h2, 'twin', '-W1', on1)).code, 0, 'nobody of uber does');
    t.equal((await ping(h1, 'uber', on2)).code, 0, 'and on uber its own one');
    await leave(h1, 'twin');
    t.not((await ping(h2, 'twin', '-W1', on2)).code, 0, 'gone from the one, it is not taken from the other');
    t.equal((await ping(h1, 'uber', on2)).code, 0);
    await leave(h2, 'twin');
    for (const h of [h1, h2]) await h.cnm('network', 'rm', 'twin');
  });

  t.test('9 prod-net: two subnets, two bridges, and a way between them', (t) => prodNet(t, world));

  t.test('O15 another UDP port', async (t) => {
    const o = { vni: 4097, peers, 'ip-range': 'any', port: 7777 };
    await Promise.all([h1, h3].map((h) => create(h, 'seven', ['10.7.0.0/24'], o)));
    await join(h1, 'seven', '--ip', '10.7.0.11');
    await join(h3, 'seven', '--ip', '10.7.0.13');
    await linkNetns(h1, 'seven');
    const seen = await decoded(router, 'lan', 'udp', ['udp.dstport'], async () => {
      t.equal((await ping(h1, 'seven', '10.7.0.13')).code, 0);
    });
    t.ok(seen.length >= 2);
    t.same([...new Set(seen)], ['7777'], 'on that port alone, with a VNI that another has on 4789');
    await Promise.all([h1, h3].map((h) => away(h, 'seven')));
  });

  t.test('O18 IPv6 below and inside: 70 bytes less', (t) => ipv6(t, world));

  t.test('O18 a link below that is gone for a while', async (t) => {
    const port = (state: string) => lab.world.net('ip', 'link', 'set', 'h1-eth0', state);
    await port('down');
    t.not((await ping(h1, 'uber', '-W1', on2)).code, 0);
    await port('up');
    await until(
      'h1 to reach h2 again',
      5000,
      async () => (await ping(h1, 'uber', '-W2', on2)).code === 0 || undefined,
    );
  });

  t.test('a container that moves to another host is reached there with the first packet', async (t) => {
    const o = { vni: 6000, peers, 'ip-range': 'any' };
    await Promise.all(hosts.map((h) => create(h, 'move', ['10.6.0.0/24', 'fd00:6::/64'], o, '--ipv6')));
    await join(h3, 'move', '--ip', '10.6.0.3', '--ip6', 'fd00:6::3');
    await linkNetns(h3, 'move');
    let [here, there] = [h1, h2];
    // A neighbour on each host keeps the network there, with what it has learned.
    for (const h of [h1, h2]) {
      await h.cnm('sandbox', 'create', 'still');
      await h.cnm('sandbox', 'join', 'still', '--network', 'move', '--ip', `10.6.0.${h === h1 ? 1 : 2}1`);
    }
    await join(here, 'move', '--ip', '10.6.0.100', '--ip6', 'fd00:6::100');
    for (let time = 0; time < 2; time += 1) {
      for (const address of ['10.6.0.100', 'fd00:6::100'])
        t.equal((await ping(h3, 'move', address)).code, 0, `${address} on ${here.name}`);
      await leave(here, 'move');
      await join(there, 'move', '--ip', '10.6.0.100', '--ip6', 'fd00:6::100');
      [here, there] = [there, here];
      for (const address of ['10.6.0.100', 'fd00:6::100'])
        t.equal((await ping(h3, 'move', address)).code, 0, `${address} on ${here.name}, moved`);
    }
    for (const h of [h1, h2]) {
      await h.cnm('sandbox', 'leave', 'still', '--network', 'move');
      await h.cnm('sandbox', 'rm', 'still');
    }
    await leave(here, 'move');
    await leave(h3, 'move');
    await Promise.all(hosts.map((h) => h.cnm('network', 'rm', 'move')));
  });

  t.test('O04 what cannot be is said, and changes nothing', (t) => refusals(t, world));

  t.test('O14 the daemon killed and started again under a ping', async (t) => {
    const flow = h1.spawn([
      'bash',
      '-c',
      `exec nsenter --net=$(readlink -f ${netnsOf(h1, 'uber')}) ping -n -i 0.1 -c 60 ${on3}`,
    ]);
    await h1.killPlugin();
    await h1.startPlugin();
    await h1.killPlugin('SIGTERM');
    await h1.startPlugin();
    const said = await until('the ping to end', 60_000, () => (flow.alive ? undefined : flow.stdout));
    const [, received = '0'] = /60 packets transmitted, (\d+) received/.exec(said) ?? [];
    t.ok(Number(received) >= 59, `${received} of 60`);
    t.equal((await h1.tryCnm('doctor')).code, 0, 'and all is as stored');
  });

  t.test('what somebody takes away is found and put back', async (t) => {
    await inNetwork(h1, 'ip link del vx0');
    t.not((await ping(h1, 'uber', '-W1', on2)).code, 0);
    const { stdout } = await h1.tryCnm('doctor', '--json');
    t.match((JSON.parse(stdout) as DoctorView).differences, [{ object: 'network', repairable: true }]);
    await h1.tryCnm('doctor', '--fix');
    t.equal((await h1.tryCnm('doctor')).code, 0);
    t.equal((await ping(h1, 'uber', on2)).code, 0);
    await inNetwork(h1, `bridge fdb del 00:00:00:00:00:00 dev vx0 dst ${h2.address}`);
    t.match(await h1.tryCnm('doctor'), { code: 3, stdout: /bridge fdb append 00:00:00:00:00:00 dev vx0/ });
    await h1.tryCnm('doctor', '--fix');
    t.match(await inNetwork(h1, 'bridge fdb'), `00:00:00:00:00:00 dev vx0 dst ${h2.address}`);
    // The daemon listens in there, for tests and names: so it goes on, and would be in the way of a second one.
    const namespace = () => h1.sh('stat -c %n:%i /run/cnm/netns/ov-*');
    const first = await namespace();
    await h1.sh('umount /run/cnm/netns/ov-*; rm /run/cnm/netns/ov-*');
    t.equal((await h1.tryCnm('doctor')).code, 3);
    t.equal((await h1.tryCnm('doctor', '--fix')).code, 0);
    t.equal(await namespace(), first, 'the same one again');
    t.equal((await ping(h1, 'uber', on2)).code, 0);
  });

  t.test('all of it away again, and nothing is left', async (t) => {
    for (const h of hosts) {
      await leave(h, 'uber');
      await h.cnm('network', 'rm', 'uber');
      await h.sh(`rm -f ${h.dir}/netns-* ${h.dir}/capture.pcap`);
    }
    await assertAllRestored(t, hosts, before);
  });
});

async function prodNet(t: Test, { h1, h2, peers }: World): Promise<void> {
  const subnets = ['11.1.1.0/24', '10.1.1.0/24', 'fd00:b::/64', 'fd00:a::/64'];
  const o = { vni: '7001,7002', peers };
  const ranges = (n: number) => [
    `10.1.1.${n * 64}/26`,
    `11.1.1.${n * 64}/26`,
    `fd00:a::${n}:0/112`,
    `fd00:b::${n}:0/112`,
  ];
  for (const [number, h] of [h1, h2].entries()) {
    const own = ranges(number);
    // The order in which subnets come means nothing: h2 has them the other way round.
    const given = number === 0 ? subnets : subnets.toReversed();
    const each = own.flatMap((range) => ['--ip-range', range]);
    await create(h, 'prod', given, { ...o, 'ip-range': own.join(',') }, '--ipv6', ...each);
  }
  const one = await join(h1, 'prod', '--ip', '10.1.1.5', '--ip6', 'fd00:a::5');
  const two = await join(h2, 'prod', '--ip', '11.1.1.70', '--ip6', 'fd00:b::1:6');
  for (const h of [h1, h2]) await linkNetns(h, 'prod');
  t.match(one.addresses, ['10.1.1.5/24', 'fd00:a::5/64']);
  t.match(two.addresses, ['11.1.1.70/24', 'fd00:b::1:6/64']);
  for (const [h, address] of [
    [h1, '11.1.1.70'],
    [h2, '10.1.1.5'],
    [h1, 'fd00:b::1:6'],
    [h2, 'fd00:a::5'],
  ] as const) {
    t.equal((await ping(h, 'prod', address)).code, 0, `${h.name} → ${address}`);
  }
  const links = await inNetwork(h1, 'ip -d -o link');
  for (const bridge of ['br0', 'br1']) t.match(links, `: ${bridge}: `);
  t.match(links, /vxlan id 7001 /);
  t.match(links, /vxlan id 7002 /);
  t.match(
    await inNetwork(h1, 'ip -o addr show dev br0'),
    'inet 10.1.1.',
    'the lower subnet has the first VNI',
  );
  await Promise.all([h1, h2].map((h) => away(h, 'prod')));
}

async function ipv6(t: Test, { h1, h2 }: World): Promise<void> {
  const o = { vni: 600, peers: `${h1.address6},${h2.address6}`, 'ip-range': 'any' };
  const pools = ['10.66.0.0/24', 'fd00:66::/64'];
  const [one] = await Promise.all(
    [h1, h2].map(async (h, number) => {
      await create(h, 'six', pools, o, '--ipv6', '--internal');
      return join(h, 'six', '--ip', `10.66.0.1${number}`, '--ip6', `fd00:66::1${number}`);
    }),
  );
  await linkNetns(h1, 'six');
  t.equal(one?.inside?.mtu, 1430);
  const fields = ['ipv6.src', 'ipv6.dst', 'vxlan.vni'];
  const seen = await decoded(h2, 'eth0', 'ip6 and udp port 4789', fields, async () => {
    t.equal((await ping(h1, 'six', '-M', 'do', '-s', '1382', 'fd00:66::11')).code, 0, '1430 bytes');
    t.equal((await ping(h1, 'six', '-M', 'do', '-s', '1402', '10.66.0.11')).code, 0, 'of IPv4, too');
  });
  t.ok(seen.includes(`${h1.address6},fd00:66::10 ${h2.address6},fd00:66::11 600`), seen.join('\n'));
  await Promise.all([h1, h2].map((h) => away(h, 'six')));
}

async function refusals(t: Test, { h1, peers }: World): Promise<void> {
  const wanted = (...more: string[]) => {
    const o = ['vni=70', `peers=${peers}`, 'ip-range=any', ...more].flatMap((one) => ['-o', one]);
    return h1.tryCnm('network', 'create', '-d', 'cnm-overlay', '--subnet', '10.70.0.0/24', ...o, 'no');
  };
  t.match(await wanted('vni=1,2,'), { code: 1, stderr: /vni cannot be "1,2,"/ });
  t.match(await wanted('vni=abc'), { code: 1, stderr: /vni cannot be "abc"/ });
  t.match(await wanted('vni=16777216'), { code: 1, stderr: /vni cannot be "16777216"/ });
  t.match(await wanted('vni=4097'), { code: 1, stderr: /VNI 4097 on UDP port 4789 belongs to network uber/ });
  t.match(await wanted('peers=203.0.113.77,192.0.2.300'), {
    code: 1,
    stderr: /"203\.0\.113\.77,192\.0\.2\.300"/,
  });
  t.match(await wanted('encrypted=true'), { code: 1, stderr: /encrypted needs a secret/ });
  await h1.net(
    'ip',
    'link',
    'add',
    'theirs',
    'type',
    'vxlan',
    'id',
    '70',
    'dstport',
    '4789',
    'local',
    h1.address,
  );
  t.match(await wanted(), { code: 1, stderr: /VNI 70 on UDP port 4789 is taken by the link theirs/ });
  // Where facts do not show it, in somebody's namespace, the kernel says it when the first endpoint comes.
  await h1.sh('ip netns add other && ip link set theirs netns other');
  t.match(await wanted(), { code: 0 });
  await h1.cnm('sandbox', 'create', 'no');
  const joining = () => h1.tryCnm('sandbox', 'join', 'no', '--network', 'no');
  t.match(await joining(), { code: 1, stderr: /VNI 70 on UDP port 4789 is taken on this host/ });
  await h1.sh('ip netns exec other ip link del theirs; ip netns del other');
  await h1.cnm('network', 'rm', 'no');
  // A port that a program has.
  t.match(await wanted('port=4790'), { code: 0 });
  const program = h1.spawnNet(['socat', '-u', 'UDP-RECV:4790', 'STDOUT']);
  await until(
    'the port to be taken',
    10_000,
    async () => (await h1.net('ss', '-Hlun')).includes(':4790') || undefined,
  );
  t.match(await joining(), { code: 1, stderr: /UDP port 4790 is held by another program/ });
  await program.kill('SIGTERM');
  t.match(await joining(), { code: 0 });
  await leave(h1, 'no');
  await h1.cnm('network', 'rm', 'no');
  t.equal((await h1.tryCnm('doctor')).code, 0);
}
