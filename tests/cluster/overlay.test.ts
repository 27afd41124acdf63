/*
 * An overlay network of three hosts that share an etcd: no list of peers, no ranges, no VNI. Scenarios 7 and 8. Under all of it the hosts'
 * clocks are apart.
 *
 *   uplink ──┬── etcd 198.51.100.10
 *            ├── h1 (dockerd 20.10, cnmd): c1, c2
 *            ├── h2 (dockerd 28.5, cnmd with its clock an hour ahead): c3
 *            └── h3 (cnmd with its clock two hours behind, tunnel in user space): box
 *
 * While etcd and daemons are killed and hosts cut off, a ping and a TCP stream run from c3 and from the box to c1.
 */
import t from 'tap';
import type { Test } from 'tap';
import type { ClusterSummary, SandboxView } from '../../inspect/views.ts';
import { dig } from '../acceptance/dig.ts';
import { attached } from '../acceptance/observe.ts';
import { until } from '../lab/command.ts';
import type { CnmHost, DockerHost } from '../lab/docker-host.ts';
import { openLab } from '../lab/lab.ts';
import { assertAllRestored, snapshots } from '../lab/snapshot.ts';
import {
  agree,
  boxAddress,
  boxNetns,
  boxPings,
  cutFrom,
  heldBy,
  joinBox,
  LEASE,
  newBox,
  openWorld,
  type Passed,
  rejoin,
  traffic,
  type World,
} from './overlay-world.ts';
import { packetsWay } from './packets-way.ts';

const SUBNET = '10.1.0.0/24';
/** What a person types beside the name: where addresses come from, and that is all. */
const SHARED = ['--subnet', SUBNET, '--ipam-opt', 'space=cnm-global'];
const DOCKERS = ['--ipam-driver', 'cnm-ipam', ...SHARED];

t.test('an overlay network by way of etcd', async (t) => {
  const lab = await openLab(t);
  const world = await openWorld(lab);
  const { etcd, h1, h2, h3, hosts } = world;
  const before = await snapshots(hosts);

  await t.test('7 uber-net: made on every host, held where it is used', (t) => uberNet(t, world));
  await t.test('what differs from what the other hosts have is refused', (t) => refusals(t, world));
  await t.test('O01 every pair, by address and by name', (t) => pairs(t, world));
  await t.test('8 a packet’s way, on each hop', (t) => packetsWay(t, 'uber-net', [h1, 'c1'], [h2, 'c3']));
  await t.test('S01 a name of containers on three hosts', (t) => nameOfMany(t, world));
  await t.test('with the other kinds of tunnels', (t) => otherKinds(t, world));
  await t.test('a container that moves with its address', (t) => move(t, world));
  await t.test('O16 what is late does not come back', (t) => late(t, world));
  await t.test('etcd killed under a ping and a stream, and started again', (t) => etcdKilled(t, world));
  await t.test('O14 daemons killed under a ping and a stream', (t) => daemonsKilled(t, world));
  await t.test('O09, S07 a host that is cut off, and comes back', (t) => cutOff(t, world));
  await t.test('O12 a host that comes late', (t) => comesLate(t, world));

  await t.test('all of it away', async (t) => {
    await h1.docker('rm', '--force', 'c1', 'c2');
    await h2.docker('rm', '--force', 'c3');
    await h3.cnm('sandbox', 'rm', 'box');
    for (const h of [h1, h2]) await h.docker('network', 'rm', 'uber-net');
    await h3.cnm('network', 'rm', 'uber-net');
    await until('etcd to forget it', 60_000, async () => {
      const left = (await etcd.keys('/cnm/overlay/')).filter((key) => !key.includes('/host/'));
      return left.length === 0 || undefined;
    });
    await assertAllRestored(t, hosts, before, 10_000);
    for (const h of hosts) await h.killPlugin('SIGTERM');
    t.same(await etcd.keys('/cnm/overlay/'), [], 'a daemon that has nothing there leaves nothing');
  });
});

async function uberNet(t: Test, { h1, h2, h3, etcd }: World): Promise<void> {
  for (const h of [h1, h2]) await h.docker('network', 'create', '-d', 'cnm-overlay', ...DOCKERS, 'uber-net');
  const other = ['-o', 'vtep=userspace', '-o', 'port=7777', 'uber-net'];
  t.match(
    (await h3.tryCnm('network', 'create', '-d', 'cnm-overlay', ...SHARED, ...other)).stderr,
    /Network 10\.1\.0\.0\/24 has port 4789 on h1, h2, and was to have port 7777 here/,
  );
  await h3.cnm('network', 'create', '-d', 'cnm-overlay', ...SHARED, '-o', 'vtep=userspace', 'uber-net');
  await h1.docker('run', '-d', '--name', 'c1', '--network', 'uber-net', '--dns', '10.1.0.1', 'cnm-lab');
  t.equal(await h2.sh('ls /run/cnm/netns 2>/dev/null || true'), '', 'h2 holds nothing of it yet');
  t.notMatch(await h2.net('ss', '-Hlun'), /:4789\b/);
  let told: readonly string[] = [];
  await until('h1 to have told of itself', 30_000, async () => {
    told = await etcd.keys('/cnm/overlay/on/');
    return told.length >= 2 || undefined;
  });
  t.equal(told.length, 2, 'h1 and its container are all that anybody tells of');
  await h1.docker('run', '-d', '--name', 'c2', '--network', 'uber-net', '--dns', '10.1.0.1', 'cnm-lab');
  await h2.docker('run', '-d', '--name', 'c3', '--network', 'uber-net', '--dns', '10.1.0.1', 'cnm-lab');
  await newBox(h3, 'box', 'uber-net');
  t.match(await h1.inContainer('c1', 'ip', 'link', 'show', 'eth0'), 'mtu 1450');
  t.match(await h1.docker('network', 'inspect', 'uber-net'), SUBNET);
  t.equal((await etcd.keys('/cnm/overlay/vni/')).length, 1, 'one VNI was chosen for all');
  const { createdAt } = await h3.admin<SandboxView>('GET', '/v1/sandboxes/box');
  t.ok(Date.now() - Date.parse(createdAt) > 3_600_000, 'its clock is behind');
}

async function refusals(t: Test, { h2, h3 }: World): Promise<void> {
  const before = await h3.sh('cat /proc/net/dev | wc -l');
  const docker = await h2.tryDocker(
    ...['network', 'create', '-d', 'cnm-overlay', '--subnet', '10.9.0.0/24', 'no'],
  );
  t.match(docker.stderr, /come from an IPAM that does not know the other hosts.*space=cnm-global/);
  await h2.docker(
    'network',
    'create',
    '-d',
    'cnm-overlay',
    '--subnet',
    '10.9.0.0/24',
    '-o',
    'ip-range=10.9.0.0/26',
    '--ip-range',
    '10.9.0.0/26',
    '-o',
    'name=nine',
    '-o',
    'vni=4242',
    'nine',
  );
  const named = (...more: string[]) =>
    h3.tryCnm('network', 'create', '-d', 'cnm-overlay', ...more, '-o', 'ip-range=any', 'nine');
  t.match(
    (await named('--subnet', '10.8.0.0/24', '-o', 'name=nine')).stderr,
    /Network nine has subnets 10\.9\.0\.0\/24 on h2, and was to have subnets 10\.8\.0\.0\/24 here/,
  );
  t.match(
    (await named('--subnet', '10.9.0.0/24', '-o', 'name=nine', '-o', 'vni=7')).stderr,
    /Network nine has vni 4242 on h2, and was to have vni 7 here/,
  );
  t.match(
    (await named('--subnet', '10.9.0.0/24', '-o', 'name=nine', '--internal')).stderr,
    /has internal no on h2, and was to have internal yes here/,
  );
  t.match(
    (await named('--subnet', '10.8.0.0/24', '-o', 'name=eight', '-o', 'vni=4242')).stderr,
    /VNI 4242 belongs to network nine of the cluster \(on h2\)/,
  );
  t.equal(await h3.sh('cat /proc/net/dev | wc -l'), before, 'and nothing has changed');
  await h2.docker('network', 'rm', 'nine');
}

async function pairs(t: Test, world: World): Promise<void> {
  const { h1, h2, h3 } = world;
  const all: readonly (readonly [string, string])[] = [
    ['c1', (await attached(h1, 'c1', 'uber-net')).v4],
    ['c2', (await attached(h1, 'c2', 'uber-net')).v4],
    ['c3', (await attached(h2, 'c3', 'uber-net')).v4],
    ['box', await boxAddress(h3)],
  ];
  t.equal(new Set(all.map(([, address]) => address)).size, 4, 'every address once');
  const names = async (h: CnmHost) => h.cnm('dns', 'ls', 'uber-net');
  for (const h of [h1, h2, h3])
    await until(`all names on ${h.name}`, 30_000, async () => {
      const known = await names(h);
      return all.every(([name]) => new RegExp(`\\b${name}\\b`).test(known)) || undefined;
    });
  // Names are known before there are ways.
  await agree(t, world, 'all there');
  for (const [, address] of all) {
    const answered = await Promise.all([
      h1.containerPings('c1', address, 10),
      h2.containerPings('c3', address, 10),
      boxPings(h3, 'box', address, 10),
    ]);
    t.same(answered, [true, true, true], `c1, c3 and the box → ${address}`);
  }
  const [, [, c2] = ['', ''], [, c3] = ['', ''], [, box] = ['', '']] = all;
  t.match(await h1.exec('c1', 'ping', '-c1', '-W10', 'box'), `(${box})`, 'c1 → box');
  t.match(await h2.exec('c3', 'ping', '-c1', '-W10', 'c2'), `(${c2})`, 'c3 → c2');
  const byName = await h3.tryCnm('sandbox', 'exec', 'box', '--', 'ping', '-c1', '-W10', 'c3');
  t.match(byName, { code: 0, stdout: `(${c3})` }, 'box → c3');
  const hops = (await h1.exec('c1', 'traceroute', '-n', '-m', '4', '-q', '1', c3))
    .trim()
    .split('\n')
    .slice(1);
  t.equal(hops.length, 1, `traceroute shows one hop: ${hops.join('; ')}`);
  t.match(hops[0], new RegExp(`^ *1 +${c3.replaceAll('.', '\\.')} `));
  const reverse = `${c3.split('.').toReversed().join('.')}.in-addr.arpa`;
  t.match(await h3.cnm('dns', 'query', '--from', 'box', '--type', 'PTR', reverse), 'c3.uber-net', 'and back');
  const drawing = await h3.cnm('network', 'inspect', 'uber-net');
  for (const line of [
    new RegExp(`host h1 +${h1.address} {2}vtep kernel {2}mtu 1450\\n +c1 +`),
    new RegExp(`c3 +${c3}/24`),
  ])
    t.match(drawing, line, 'inspect shows the other hosts, and what they have');
}

/**
 * Two names, on each of three hosts; in each round all that bear them are killed, and started again with other addresses, for those that they
 * had rest. A container bears both; on the third host each name is a sandbox's.
 */
async function nameOfMany(t: Test, { h1, h2, h3 }: World): Promise<void> {
  const names = ['foo', 'bar'] as const;
  const engines = [h1, h2] as const;
  const aliases = names.flatMap((name) => ['--network-alias', name]);
  for (const h of engines)
    await h.docker('create', '--name', 'many', '--network', 'uber-net', ...aliases, 'cnm-lab');
  const boxes = names.map((name) => `many-${name}`);
  for (const name of boxes) await h3.admin('POST', '/v1/sandboxes', { name });
  const observers = [await h1.sandbox('c1'), await h2.sandbox('c3'), await boxNetns(h3, 'box')];
  const seen = async (netns: string, name: string) => {
    const { status, answers } = await dig(netns, '@10.1.0.1', name);
    return [status, ...answers.toSorted()].join(' ');
  };
  const agreed = async (name: string, addresses: readonly string[], when: string) => {
    const one = addresses.length === 0 ? 'NXDOMAIN' : ['NOERROR', ...addresses.toSorted()].join(' ');
    const wanted = observers.map(() => one);
    let now: readonly string[] = [];
    await until(`${name} on three hosts`, 60_000, async () => {
      now = await Promise.all(observers.map((netns) => seen(netns, name)));
      return String(now) === String(wanted) || undefined;
    }).catch(() => undefined);
    t.same(now, wanted, when);
  };
  for (let round = 1; round <= 5; round += 1) {
    const start = async (h: DockerHost) => {
      await h.docker('start', 'many');
      return (await attached(h, 'many', 'uber-net')).v4;
    };
    const [foo, bar, ...on] = await Promise.all([
      joinBox(h3, 'many-foo', 'uber-net', ['foo']),
      joinBox(h3, 'many-bar', 'uber-net', ['bar']),
      ...engines.map(start),
    ]);
    await Promise.all([
      agreed('foo', [foo, ...on], `foo, round ${round}: all of them`),
      agreed('bar', [bar, ...on], `bar, round ${round}: all of them`),
    ]);
    await Promise.all([
      ...engines.map((h) => h.docker('kill', 'many')),
      ...boxes.map((box) => h3.admin('POST', `/v1/sandboxes/${box}/leave`, { network: 'uber-net' })),
    ]);
    await Promise.all(names.map((name) => agreed(name, [], `${name}, round ${round}: none`)));
  }
  for (const h of engines) await h.docker('rm', 'many');
  for (const box of boxes) await h3.admin('DELETE', `/v1/sandboxes/${box}`);
}

/** Both Engines with their tunnels in user space, and the kernel's on the third host. */
async function otherKinds(t: Test, { h1, h2, h3 }: World): Promise<void> {
  // On one UDP port there are tunnels of one kind.
  const from = ['--subnet', '10.6.0.0/24', '--ipam-opt', 'space=cnm-global', '-o', 'port=4790'];
  const inUser = ['--ipam-driver', 'cnm-ipam', ...from, '-o', 'vtep=userspace'];
  const start = async (h: DockerHost) => {
    await h.docker('network', 'create', '-d', 'cnm-overlay', ...inUser, 'soft');
    await h.container('soft1', 'soft');
    return (await attached(h, 'soft1', 'soft')).v4;
  };
  const [s1, s2] = await Promise.all([start(h1), start(h2)]);
  await h3.cnm('network', 'create', '-d', 'cnm-overlay', ...from, 'soft');
  const s3 = await newBox(h3, 'soft1', 'soft');
  for (const [h, other] of [
    [h1, s2],
    [h2, s1],
  ] as const)
    for (const to of [other, s3])
      await until(
        `${h.name} → ${to}`,
        30_000,
        async () => (await h.containerPings('soft1', to, 1)) || undefined,
      );
  for (const to of [s1, s2])
    await until(`h3 → ${to}`, 30_000, async () => (await boxPings(h3, 'soft1', to)) || undefined);
  t.pass('all of them reach each other');
  await Promise.all([
    ...[h1, h2].map((h) => h.docker('rm', '-f', 'soft1').then(() => h.docker('network', 'rm', 'soft'))),
    h3.admin('DELETE', '/v1/sandboxes/soft1').then(() => h3.cnm('network', 'rm', 'soft')),
  ]);
}

async function move(t: Test, world: World): Promise<void> {
  const { h1, h2, h3 } = world;
  let [here, there]: DockerHost[] = [h1, h2];
  if (here === undefined || there === undefined) return;
  const run = (h: DockerHost) =>
    h.docker('run', '-d', '--name', 'nomad', '--network', 'uber-net', '--ip', '10.1.0.200', 'cnm-lab');
  await run(here);
  const times: number[] = [];
  for (let time = 0; time < 2; time += 1) {
    await until(
      'box to reach it',
      30_000,
      async () => (await boxPings(h3, 'box', '10.1.0.200')) || undefined,
    );
    await here.docker('rm', '-f', 'nomad');
    await run(there);
    const began = performance.now();
    await until(
      'box to reach it there',
      30_000,
      async () => (await boxPings(h3, 'box', '10.1.0.200')) || undefined,
    );
    times.push(Math.round(performance.now() - began));
    const [from, neighbour] = [here, here === h1 ? 'c1' : 'c3'];
    await until(
      'those where it was to reach it',
      30_000,
      async () => (await from.containerPings(neighbour, '10.1.0.200', 1)) || undefined,
    );
    [here, there] = [there, here];
  }
  t.comment(
    `reached on its new host ${times.join(' and ')} ms after docker run returned, most of which the asking takes`,
  );
  await here.docker('rm', '-f', 'nomad');
  await agree(t, world, 'moved and gone');
}

/** h3 hears of nothing while a container comes and goes; and then of all at once. */
async function late(t: Test, world: World): Promise<void> {
  const { h1, h2, h3, store } = world;
  await cutFrom(h3, store);
  for (const h of [h1, h2]) {
    await h.docker('run', '-d', '--name', 'brief', '--network', 'uber-net', '--ip', '10.1.0.201', 'cnm-lab');
    await h.docker('rm', '-f', 'brief');
  }
  await h2.docker('run', '-d', '--name', 'brief', '--network', 'uber-net', '--ip', '10.1.0.201', 'cnm-lab');
  t.ok(await boxPings(h3, 'box', (await attached(h1, 'c1', 'uber-net')).v4, 10), 'cut off, it keeps serving');
  await rejoin(h3);
  await until('box to reach it', 30_000, async () => (await boxPings(h3, 'box', '10.1.0.201')) || undefined);
  await h2.docker('rm', '-f', 'brief');
  await agree(t, world, 'heard late');
}

async function etcdKilled(t: Test, world: World): Promise<void> {
  const { h1, h2, etcd } = world;
  const stop = await traffic(world);
  await etcd.kill();
  // Addresses ahead of need: a container starts all the same.
  await h1.docker('run', '-d', '--name', 'meanwhile', '--network', 'uber-net', 'cnm-lab');
  const meanwhile = (await attached(h1, 'meanwhile', 'uber-net')).v4;
  t.ok(await h1.containerPings('c1', meanwhile, 10), 'on its own host at once');
  await etcd.start();
  await until(
    'h2 to reach it',
    30_000,
    async () => (await h2.containerPings('c3', meanwhile, 1)) || undefined,
  );
  const passed = await stop();
  for (const from of ['c3', 'box'] as const) noneLost(t, from, passed[from]);
  await h1.docker('rm', '-f', 'meanwhile');
  await agree(t, world, 'etcd is back');
}

function noneLost(t: Test, from: string, { sent, lost, lines }: Passed): void {
  t.ok(sent > 10 && lines > 10);
  t.equal(lost, 0, `${from} → c1: lost of ${sent}, ${lines} lines came back`);
}

async function daemonsKilled(t: Test, world: World): Promise<void> {
  const { h1, h2, h3 } = world;
  const stop = await traffic(world);
  await Promise.all([h1, h2].map((h) => h.killPlugin()));
  await Promise.all([h1, h2].map((h) => h.startPlugin()));
  // Until it is in the cluster again it gives what it held, once the cluster says that it holds it.
  await until('h1 to be in the cluster', 60_000, async () => {
    const { reachable, trouble } = await h1.admin<ClusterSummary>('GET', '/v1/ipam/hosts');
    return (reachable && trouble === undefined) || undefined;
  });
  await h1.docker('run', '-d', '--name', 'new', '--network', 'uber-net', 'cnm-lab');
  const { v4: fresh } = await attached(h1, 'new', 'uber-net');
  await until(
    'c3 to reach the new one',
    30_000,
    async () => (await h2.containerPings('c3', fresh, 1)) || undefined,
  );
  const first = await stop();
  for (const from of ['c3', 'box'] as const) noneLost(t, from, first[from]);
  // A tunnel in user space stands still without its daemon: what is on its way then is lost, and no connection.
  const again = await traffic(world);
  await h3.killPlugin();
  await h3.startPlugin();
  await until(
    'box to reach the new one',
    30_000,
    async () => (await boxPings(h3, 'box', fresh)) || undefined,
  );
  const second = await again();
  noneLost(t, 'c3', second.c3);
  t.comment(`box → c1: ${second.box.lost} of ${second.box.sent} lost with the daemon of its tunnel`);
  t.ok(second.box.lines > 10, `all of ${second.box.lines} lines came back`);
  await h1.docker('rm', '-f', 'new');
  await agree(t, world, 'daemons are back');
}

/** h2 from everything, and h3 from etcd alone: who does not answer is gone with its lease, who answers is not. */
async function cutOff(t: Test, world: World): Promise<void> {
  const { lab, h1, h2, h3, etcd, store } = world;
  const port = (state: string) => lab.world.net('ip', 'link', 'set', 'h2-eth0', state);
  const { v4: c3 } = await attached(h2, 'c3', 'uber-net');
  const { v4: c1 } = await attached(h1, 'c1', 'uber-net');
  const box = await boxAddress(h3);
  const kept = await heldBy(h2);
  const stop = await traffic(world);
  await cutFrom(h3, store);
  await port('down');
  const began = performance.now();
  await until('its entries to go', LEASE * 1000 + 30_000, async () =>
    (await heldBy(h1)).some((entry) => entry.includes(h2.address)) ? undefined : true,
  );
  const seconds = Math.round((performance.now() - began) / 100) / 10;
  t.comment(`gone from h1 ${seconds} s after the cut; a lease has ${LEASE}`);
  t.notMatch(await h1.cnm('dns', 'ls', 'uber-net'), /\bc3\b/, 'and its names');
  t.same(await heldBy(h2), kept, 'what it holds itself it keeps');
  await until(
    'h3 to be out of the cluster, too',
    LEASE * 1000 + 30_000,
    async () => (await etcd.keys('/cnm/overlay/host/')).length === 1 || undefined,
  );
  t.ok(await h1.containerPings('c1', box, 10), 'h3 keeps serving');
  t.ok(await boxPings(h3, 'box', c1, 10), 'both ways');
  t.match(await h1.cnm('dns', 'ls', 'uber-net'), /\bbox\b/);
  const doubted = (await heldBy(h1)).filter((entry) => entry.includes(h3.address));
  await h1.killPlugin();
  await h1.startPlugin();
  await port('up');
  await until(
    'h1 to reach it again',
    30_000,
    async () => (await h1.containerPings('c1', c3, 1)) || undefined,
  );
  t.ok(await h1.containerPings('c1', box, 3), 'a daemon that began meanwhile believes h3 still');
  t.match(await h1.cnm('dns', 'ls', 'uber-net'), /\bbox\b/);
  t.same(
    (await heldBy(h1)).filter((entry) => entry.includes(h3.address)),
    doubted,
  );
  await rejoin(h3);
  t.ok(await h2.containerPings('c3', c1, 10));
  // What it sends anew to etcd it sends after pauses that have doubled while it was cut off (RFC 6298, 5.5).
  await until(
    'its name',
    150_000,
    async () => /\bc3\b/.test(await h3.cnm('dns', 'ls', 'uber-net')) || undefined,
  );
  await until(
    'all to be in the cluster',
    150_000,
    async () => (await etcd.keys('/cnm/overlay/host/')).length === 3 || undefined,
  );
  const passed = await stop();
  noneLost(t, 'box', passed.box);
  t.comment(`c3 → c1: ${passed.c3.lost} of ${passed.c3.sent} lost while h2 was cut off`);
  t.ok(passed.c3.lines > 10, `all of ${passed.c3.lines} lines came back`);
  await agree(t, world, 'all are back');
}

/** It has none of the network, then a container, and with it all that 50 others are at once. */
async function comesLate(t: Test, world: World): Promise<void> {
  const { h2, h3 } = world;
  await h2.docker('rm', '-f', 'c3');
  t.equal(await h2.sh('ls /run/cnm/netns'), '', 'with its last container h2 holds nothing of it');
  const addresses: string[] = [];
  const ten = async <T>(one: (n: number) => Promise<T>): Promise<readonly T[]> =>
    Promise.all(Array.from({ length: 10 }, (_, n) => one(n)));
  for (let tens = 0; tens < 50; tens += 10)
    addresses.push(...(await ten((n) => newBox(h3, `many${tens + n}`, 'uber-net'))));
  await h2.docker('run', '-d', '--name', 'c3', '--network', 'uber-net', '--dns', '10.1.0.1', 'cnm-lab');
  const ask = `for one in ${addresses.join(' ')}; do ping -n -c1 -W3 $one > /dev/null || echo $one; done`;
  t.equal(await h2.inContainer('c3', 'sh', '-c', ask), '', 'all of them answer the first packet');
  for (let tens = 0; tens < 50; tens += 10)
    await ten((n) => h3.admin('DELETE', `/v1/sandboxes/many${tens + n}`));
  await agree(t, world, 'many came and went');
}
