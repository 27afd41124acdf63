/*
 * An overlay network of three hosts that share an etcd: no list of peers, no ranges, no VNI. Scenarios 7 and 8.
 *
 *   uplink ──┬── etcd 198.51.100.10
 *            ├── h1 .11 (dockerd 20.10, cnmd): c1, c2
 *            ├── h2 .12 (dockerd 28.5, cnmd): c3
 *            └── h3 .13 (cnmd, tunnel in user space): box
 */
import t from 'tap';
import type { Test } from 'tap';
import type { DoctorView, EndpointView, NetworkView } from '../../inspect/views.ts';
import { attached } from '../acceptance/observe.ts';
import { until } from '../lab/command.ts';
import type { CnmHost, DockerHost } from '../lab/docker-host.ts';
import type { Host } from '../lab/host.ts';
import { openLab } from '../lab/lab.ts';
import type { Lab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { unixHttp } from '../lab/unix-http.ts';
import { EtcdHost } from './etcd-host.ts';
import { packetsWay } from './packets-way.ts';

const SUBNET = '10.1.0.0/24';
/** What a person types beside the name: where addresses come from, and that is all. */
const SHARED = ['--subnet', SUBNET, '--ipam-opt', 'space=cnm-global'];
const DOCKERS = ['--ipam-driver', 'cnm-ipam', ...SHARED];
/** As in cnm/cluster/index.ts. */
const LEASE_MS = 15_000;

interface World {
  readonly lab: Lab;
  readonly etcd: EtcdHost;
  readonly store: Host;
  readonly h1: DockerHost;
  readonly h2: DockerHost;
  readonly h3: CnmHost;
  readonly hosts: readonly CnmHost[];
}

async function open(lab: Lab): Promise<World> {
  const store = await lab.peer({ name: 'store' });
  const etcd = new EtcdHost(store);
  await etcd.start();
  const settings = {
    drivers: ['bridge', 'overlay'],
    arguments: ['--cluster', `etcd://${store.address}:2379`],
  };
  const h1 = await lab.dockerHost({ ...settings, name: 'h1', plugin: 'sockets' });
  const h2 = await lab.dockerHost({ ...settings, name: 'h2', plugin: 'sockets', engine: '28.5' });
  const h3 = await lab.bareHost({ ...settings, name: 'h3' });
  const hosts = [h1, h2, h3];
  // A veth pair is a wire that needs no checksums: the kernel's tunnel would leave those of what is inside to it, and a program reads them.
  for (const h of hosts) await h.net('ethtool', '-K', 'eth0', 'tx', 'off');
  for (const h of [h1, h2]) {
    // What Docker makes once and keeps: docker_gwbridge, and its rules.
    const named = ['-o', 'com.docker.network.bridge.name=docker_gwbridge'];
    await h.docker('network', 'create', '-d', 'bridge', ...named, 'docker_gwbridge');
    await h.docker('run', '--rm', '--network', 'docker_gwbridge', '-p', '9999:9', 'cnm-lab', 'true');
  }
  for (const h of hosts)
    await h.cnm('sandbox', 'create', 'first').then(() => h.cnm('sandbox', 'rm', 'first'));
  return { lab, etcd, store, h1, h2, h3, hosts };
}

function addressOf({ addresses }: EndpointView): string {
  return (addresses[0] ?? '').replace(/\/.*/, '');
}

async function joinBox(h: CnmHost, box: string, network: string, ...more: string[]): Promise<string> {
  await h.cnm('sandbox', 'create', box);
  const said = await h.cnm('sandbox', 'join', box, '--network', network, '--json', ...more);
  return addressOf(JSON.parse(said) as EndpointView);
}

async function boxPings(h: CnmHost, box: string, to: string): Promise<boolean> {
  return (await h.tryCnm('sandbox', 'exec', box, '--', 'ping', '-c1', '-W2', to)).code === 0;
}

/** What of another host's records must be in the tables of a host, and nothing else: made from the records in etcd alone. */
async function wantedOf(etcd: EtcdHost, me: CnmHost): Promise<readonly string[]> {
  const wanted: string[] = [];
  for (const { key, value } of await etcd.entries('/cnm/overlay/on/')) {
    const record = value as { at: string; mac?: string; addresses?: string[]; name?: string };
    if (record.at === me.address) continue;
    if (key.split('/').length === 6) wanted.push(`to 00:00:00:00:00:00 ${record.at}`);
    else {
      wanted.push(`to ${record.mac ?? ''} ${record.at}`, `port ${record.mac ?? ''}`);
      for (const address of record.addresses ?? [])
        wanted.push(`neighbour ${address.replace(/\/.*/, '')} ${record.mac ?? ''}`);
    }
  }
  return wanted.sort();
}

/** What is in the tables, as ip(8) and bridge(8) say; of a tunnel in user space, as the daemon says that its thread has it. */
async function heldBy(h: CnmHost): Promise<readonly string[]> {
  const all = async (line: string) =>
    JSON.parse(
      await h.sh(`n=$(ls -d /run/cnm/netns/ov-* 2>/dev/null) && nsenter --net=$n ${line} || echo '[]'`),
    ) as { mac?: string; ifname?: string; dst?: string; state?: string; master?: string; lladdr?: string }[];
  const fdb = (await all('bridge -j fdb show')).filter(({ ifname }) => ifname === 'vx0');
  const neighbours = await all('ip -j neigh show nud permanent');
  return [
    ...fdb.flatMap(({ mac = '', dst }) => (dst === undefined ? [] : [`to ${mac} ${dst}`])),
    ...fdb.flatMap(({ mac = '', state, master }) =>
      state === 'static' && master !== undefined ? [`port ${mac}`] : [],
    ),
    ...neighbours.map(({ dst = '', lladdr = '' }) => `neighbour ${dst} ${lladdr}`),
  ].sort();
}

/** On every host of these what the records say, and the daemon thinks so too. */
async function agree(t: Test, { etcd }: World, hosts: readonly CnmHost[], when: string): Promise<void> {
  for (const h of hosts) {
    const inUser = h.name === 'h3';
    const visible = (entries: readonly string[]) =>
      inUser ? entries.filter((entry) => !entry.startsWith('to ')) : entries;
    let [held, wanted]: [readonly string[], readonly string[]] = [[], []];
    await until(`${h.name} to agree with the records`, 30_000, async () => {
      [held, wanted] = await Promise.all([heldBy(h), wantedOf(etcd, h)]);
      return JSON.stringify(visible(held)) === JSON.stringify(visible(wanted)) || undefined;
    }).catch(() => undefined);
    t.same(visible(held), visible(wanted), `${when}: the entries of ${h.name} are those of the records`);
    await until('no trouble', 15_000, async () => {
      const { stdout } = await h.tryCnm('doctor', '--json');
      const { differences, orphans } = JSON.parse(stdout) as DoctorView;
      return (differences.length === 0 && orphans.length === 0) || undefined;
    });
  }
}

/** A ping ten times a second out of the box, until it is stopped: then how many were sent, and answered. */
async function steadyPing(h: CnmHost, box: string, to: string) {
  const [view] = JSON.parse(await h.cnm('sandbox', 'inspect', box, '--json')) as { path: string }[];
  const running = h.spawn(['nsenter', `--net=${view?.path ?? ''}`, 'ping', '-n', '-i', '0.1', to]);
  await until('the first answer', 15_000, () => running.stdout.includes('icmp_seq') || undefined);
  return async () => {
    await running.kill('SIGINT');
    const [, sent = '0', back = '0'] = /(\d+) packets transmitted, (\d+) received/.exec(running.stdout) ?? [];
    return { sent: Number(sent), lost: Number(sent) - Number(back) };
  };
}

t.test('an overlay network by way of etcd', async (t) => {
  const lab = await openLab(t);
  const world = await open(lab);
  const { etcd, h1, h2, h3, hosts } = world;
  const before = await Promise.all(hosts.map((h) => snapshot(h)));

  await t.test('7 uber-net: made on every host, held where it is used', (t) => uberNet(t, world));
  await t.test('what differs from what the other hosts have is refused', (t) => refusals(t, world));
  await t.test('O01 every pair, by address and by name', (t) => pairs(t, world));
  await t.test('8 a packet’s way, on each hop', (t) => packetsWay(t, 'uber-net', [h1, 'c1'], [h2, 'c3']));
  await t.test('a container that moves with its address', (t) => move(t, world));
  await t.test('O16 what is late does not come back', (t) => late(t, world));
  await t.test('etcd killed under a ping, and started again', (t) => etcdKilled(t, world));
  await t.test('O14 daemons killed under a ping', (t) => daemonsKilled(t, world));
  await t.test('O09, S07 a host that is cut off, and comes back', (t) => cutOff(t, world));
  await t.test('O12 a host that comes late', (t) => comesLate(t, world));

  await t.test('all of it away', async (t) => {
    await h1.docker('rm', '--force', 'c1', 'c2');
    await h2.docker('rm', '--force', 'c3');
    await h3.cnm('sandbox', 'rm', 'box');
    for (const h of [h1, h2]) await h.docker('network', 'rm', 'uber-net');
    await h3.cnm('network', 'rm', 'uber-net');
    await until('etcd to forget it', 20_000, async () => {
      const left = (await etcd.keys('/cnm/overlay/')).filter((key) => !key.includes('/host/'));
      return left.length === 0 || undefined;
    });
    for (const [number, h] of hosts.entries()) {
      const was = before[number];
      if (was !== undefined) await assertRestored(t, h, was, 10_000);
    }
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
  t.notMatch(await h2.net('ss', '-Hlun'), ':4789');
  t.equal(
    (await etcd.keys('/cnm/overlay/on/')).length,
    2,
    'h1 and its container are all that anybody tells of',
  );
  await h1.docker('run', '-d', '--name', 'c2', '--network', 'uber-net', '--dns', '10.1.0.1', 'cnm-lab');
  await h2.docker('run', '-d', '--name', 'c3', '--network', 'uber-net', '--dns', '10.1.0.1', 'cnm-lab');
  await joinBox(h3, 'box', 'uber-net');
  t.match(await h1.inContainer('c1', 'ip', 'link', 'show', 'eth0'), 'mtu 1450');
  t.match(await h1.docker('network', 'inspect', 'uber-net'), SUBNET);
  t.equal((await etcd.keys('/cnm/overlay/vni/')).length, 1, 'one VNI was chosen for all');
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

async function pairs(t: Test, { h1, h2, h3, etcd, ...world }: World): Promise<void> {
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
  for (const [, address] of all) {
    t.ok(await h1.containerPings('c1', address, 3), `c1 → ${address}`);
    t.ok(await h2.containerPings('c3', address, 3), `c3 → ${address}`);
    t.ok(await boxPings(h3, 'box', address), `box → ${address}`);
  }
  const [, [, c2] = ['', ''], [, c3] = ['', ''], [, box] = ['', '']] = all;
  t.match(await h1.exec('c1', 'ping', '-c1', '-W3', 'box'), `(${box})`, 'c1 → box');
  t.match(await h2.exec('c3', 'ping', '-c1', '-W3', 'c2'), `(${c2})`, 'c3 → c2');
  t.ok(await boxPings(h3, 'box', 'c3'), 'box → c3');
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
    /host h1 +198\.51\.100\.11 {2}vtep kernel {2}mtu 1450\n +c1 +/,
    new RegExp(`c3 +${c3}/24`),
  ])
    t.match(drawing, line, 'inspect shows the other hosts, and what they have');
  await agree(t, { h1, h2, h3, etcd, ...world }, [h1, h2, h3], 'all there');
}

async function boxAddress(h: CnmHost): Promise<string> {
  const [view] = JSON.parse(await h.cnm('network', 'inspect', 'uber-net', '--json')) as NetworkView[];
  return (view?.members[0]?.addresses[0] ?? '').replace(/\/.*/, '');
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
      15_000,
      async () => (await boxPings(h3, 'box', '10.1.0.200')) || undefined,
    );
    await here.docker('rm', '-f', 'nomad');
    await run(there);
    const began = performance.now();
    await until(
      'box to reach it there',
      15_000,
      async () => (await boxPings(h3, 'box', '10.1.0.200')) || undefined,
    );
    times.push(Math.round(performance.now() - began));
    t.ok(await here.containerPings(here === h1 ? 'c1' : 'c3', '10.1.0.200', 3), 'also from where it was');
    [here, there] = [there, here];
  }
  t.comment(
    `reached on its new host ${times.join(' and ')} ms after docker run returned, most of which the asking takes`,
  );
  await here.docker('rm', '-f', 'nomad');
  await agree(t, world, [h1, h2, h3], 'moved and gone');
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
  t.ok(await boxPings(h3, 'box', (await attached(h1, 'c1', 'uber-net')).v4), 'cut off, it keeps serving');
  await h3.net('nft', 'delete table ip cut');
  await until('box to reach it', 30_000, async () => (await boxPings(h3, 'box', '10.1.0.201')) || undefined);
  await h2.docker('rm', '-f', 'brief');
  await agree(t, world, [h1, h2, h3], 'heard late');
}

async function etcdKilled(t: Test, world: World): Promise<void> {
  const { h1, h2, h3, etcd } = world;
  const { v4 } = await attached(h1, 'c1', 'uber-net');
  const stop = await steadyPing(h3, 'box', v4);
  await etcd.kill();
  // Addresses ahead of need: a container starts all the same.
  await h1.docker('run', '-d', '--name', 'meanwhile', '--network', 'uber-net', 'cnm-lab');
  const meanwhile = (await attached(h1, 'meanwhile', 'uber-net')).v4;
  t.ok(await h1.containerPings('c1', meanwhile, 3), 'on its own host at once');
  await etcd.start();
  await until('h2 to reach it', 30_000, async () => (await h2.containerPings('c3', meanwhile)) || undefined);
  const { sent, lost } = await stop();
  t.ok(sent > 10);
  t.equal(lost, 0, `lost of ${sent}`);
  await h1.docker('rm', '-f', 'meanwhile');
  await agree(t, world, [h1, h2, h3], 'etcd is back');
}

async function daemonsKilled(t: Test, world: World): Promise<void> {
  const { h1, h2, h3 } = world;
  const { v4 } = await attached(h1, 'c1', 'uber-net');
  const { v4: c3 } = await attached(h2, 'c3', 'uber-net');
  const [view] = JSON.parse(await h3.cnm('sandbox', 'inspect', 'box', '--json')) as { path: string }[];
  t.ok(view);
  const sandbox = await h2.sandbox('c3');
  const flow = h2.spawnNet(['nsenter', `--net=${sandbox}`, 'ping', '-n', '-i', '0.1', v4]);
  await until('the first answer', 15_000, () => flow.stdout.includes('icmp_seq') || undefined);
  for (const h of [h1, h2]) {
    await h.killPlugin();
    await h.startPlugin();
  }
  // A container that goes while the daemon does not run, and one that comes right after its start.
  await h1.killPlugin();
  await h1.startPlugin();
  await h1.docker('run', '-d', '--name', 'new', '--network', 'uber-net', 'cnm-lab');
  const { v4: fresh } = await attached(h1, 'new', 'uber-net');
  await until(
    'c3 to reach the new one',
    30_000,
    async () => (await h2.containerPings('c3', fresh)) || undefined,
  );
  await flow.kill('SIGINT');
  const [, sent = '0', back = '0'] = /(\d+) packets transmitted, (\d+) received/.exec(flow.stdout) ?? [];
  t.equal(Number(sent) - Number(back), 0, `lost of ${sent}`);
  await h3.killPlugin();
  await h3.startPlugin();
  await until('box to reach c3', 30_000, async () => (await boxPings(h3, 'box', c3)) || undefined);
  await h1.docker('rm', '-f', 'new');
  await agree(t, world, [h1, h2, h3], 'daemons are back');
}

/** h2 from everything, and h3 from etcd alone: who does not answer is gone with its lease, who answers is not. */
async function cutOff(t: Test, world: World): Promise<void> {
  const { lab, h1, h2, h3, etcd, store } = world;
  const port = (state: string) => lab.world.net('ip', 'link', 'set', 'h2-eth0', state);
  const { v4: c3 } = await attached(h2, 'c3', 'uber-net');
  const { v4: c1 } = await attached(h1, 'c1', 'uber-net');
  const box = await boxAddress(h3);
  const kept = await heldBy(h2);
  await cutFrom(h3, store);
  await port('down');
  const began = performance.now();
  await until('its entries to go', LEASE_MS + 30_000, async () =>
    (await heldBy(h1)).some((entry) => entry.includes(h2.address)) ? undefined : true,
  );
  const seconds = Math.round((performance.now() - began) / 100) / 10;
  t.comment(`gone from h1 ${seconds} s after the cut; a lease has ${LEASE_MS / 1000}`);
  t.notMatch(await h1.cnm('dns', 'ls', 'uber-net'), /\bc3\b/, 'and its names');
  t.same(await heldBy(h2), kept, 'what it holds itself it keeps');
  await until(
    'h3 to be out of the cluster, too',
    LEASE_MS + 30_000,
    async () => (await etcd.keys('/cnm/overlay/host/')).length === 1 || undefined,
  );
  t.ok(await h1.containerPings('c1', box, 3), 'h3 keeps serving');
  t.ok(await boxPings(h3, 'box', c1), 'both ways');
  t.match(await h1.cnm('dns', 'ls', 'uber-net'), /\bbox\b/);
  await h3.net('nft', 'delete table ip cut');
  await port('up');
  await until('h1 to reach it again', 30_000, async () => (await h1.containerPings('c1', c3)) || undefined);
  t.ok(await h2.containerPings('c3', c1, 3));
  await until(
    'its name',
    15_000,
    async () => /\bc3\b/.test(await h3.cnm('dns', 'ls', 'uber-net')) || undefined,
  );
  await until(
    'all to be in the cluster',
    30_000,
    async () => (await etcd.keys('/cnm/overlay/host/')).length === 3 || undefined,
  );
  await agree(t, world, [h1, h2, h3], 'all are back');
}

/** Its packets to the store are dropped, and only these. */
async function cutFrom(h: Host, store: Host): Promise<void> {
  const rule = `ip daddr ${store.address} tcp dport 2379 drop`;
  await h.net('nft', `table ip cut { chain out { type filter hook output priority 0; ${rule}; }; }`);
}

/** It has none of the network, then a container, and with it all that 50 others are at once. */
async function comesLate(t: Test, world: World): Promise<void> {
  const { h1, h2, h3 } = world;
  await h2.docker('rm', '-f', 'c3');
  t.equal(await h2.sh('ls /run/cnm/netns'), '', 'with its last container h2 holds nothing of it');
  const call = async (method: string, on: string, body?: unknown) => {
    const { status, text } = await unixHttp(
      h3.outside(h3.cnmd.adminSocket),
      method,
      `/v1/sandboxes${on}`,
      body,
    );
    if (status >= 300) throw new Error(text);
    return text;
  };
  const addresses: string[] = [];
  for (let n = 0; n < 50; n += 1) {
    await call('POST', '', { name: `many${n}` });
    addresses.push(
      addressOf(JSON.parse(await call('POST', `/many${n}/join`, { network: 'uber-net' })) as EndpointView),
    );
  }
  await h2.docker('run', '-d', '--name', 'c3', '--network', 'uber-net', '--dns', '10.1.0.1', 'cnm-lab');
  const silent: string[] = [];
  for (const address of addresses) if (!(await h2.containerPings('c3', address, 3))) silent.push(address);
  t.same(silent, [], 'all of them answer the first packet');
  for (let n = 0; n < 50; n += 1) await call('DELETE', `/many${n}`);
  await agree(t, world, [h1, h2, h3], 'many came and went');
}
