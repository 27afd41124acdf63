/*
 * An overlay network with Docker Engines of two versions and a host without Docker, by a static list of peers.
 *
 *   uplink ──┬── eth0 h1 ── dockerd 20.10 + cnm-overlay ── uber-net: c1, c2 · inner (--internal): i1
 *            ├── eth0 h2 ── dockerd 28.5  + cnm-overlay ── uber-net: c3     · inner: i2
 *            └── eth0 h3 ── cnmd ─────────────────────── uber-net: box
 */
import t from 'tap';
import type { Test } from 'tap';
import type { EndpointView } from '../../inspect/views.ts';
import { until } from '../lab/command.ts';
import type { CnmHost, DockerHost } from '../lab/docker-host.ts';
import { openLab, WORLD } from '../lab/lab.ts';
import { assertAllRestored, snapshots } from '../lab/snapshot.ts';
import { attached } from './observe.ts';
import { egress } from './overlay-egress.ts';

/** What Docker has forgotten must be 15 s old, and missing twice, 6 s apart. */
const RECLAIM_LIMIT = 90_000;
const DRIVERS = { drivers: ['bridge', 'overlay'] };

interface World {
  readonly h1: DockerHost;
  readonly h2: DockerHost;
  readonly h3: CnmHost;
  readonly peers: string;
}

function options(o: Readonly<Record<string, string>>): readonly string[] {
  return Object.entries(o).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
}

/** What a person types, with the range of the host. */
function create(
  h: DockerHost,
  name: string,
  range: string,
  o: Readonly<Record<string, string>>,
  ...more: string[]
) {
  const own = options({ ...o, 'ip-range': range });
  const subnet = range.replace(/\d+\/\d+$/, '0/24');
  const pool = ['--subnet', subnet, '--ip-range', range];
  return h.docker('network', 'create', '-d', 'cnm-overlay', ...pool, ...own, ...more, name);
}

t.test('an overlay network between Engines', async (t) => {
  const lab = await openLab(t);
  const [h1, h2, h3] = await Promise.all([
    lab.dockerHost({ ...DRIVERS, plugin: 'sockets' }),
    lab.dockerHost({ ...DRIVERS, plugin: 'sockets', engine: '28.5' }),
    lab.bareHost(DRIVERS),
  ]);
  const world: World = { h1, h2, h3, peers: [h1, h2, h3].map(({ address }) => address).join(',') };
  // What Docker makes once and keeps: docker_gwbridge, and its rules.
  for (const h of [h1, h2]) {
    await h.docker('network', 'create', '-d', 'bridge', 'warm');
    await h.docker('network', 'rm', 'warm');
  }

  t.test('7 uber-net on every Engine, O01 every pair by address', (t) => uberNet(t, world));
  t.test('with tunnels in user space, and the kernel’s on the third host', (t) => inUserSpace(t, world));
  t.test('O01 --internal: no way out, and no default route', (t) => internal(t, world));
  t.test('O02 egress=gateway: a way out and ports without docker_gwbridge', (t) =>
    egress(t, { ...world, lab }),
  );
  t.test('a network that cannot be is refused by docker with our own sentence', (t) => refused(t, world));
});

async function uberNet(t: Test, { h1, h2, h3, peers }: World): Promise<void> {
  const o = { vni: '4097', peers };
  await create(h1, 'uber-net', '10.1.0.0/26', o);
  await create(h2, 'uber-net', '10.1.0.64/26', o);
  t.equal(await h2.sh('ls /run/cnm 2>/dev/null | grep netns || true'), '', 'h2 holds nothing of it yet');
  const range = '10.1.0.128/26';
  await h3.cnm(
    ...['network', 'create', '-d', 'cnm-overlay', '--subnet', '10.1.0.0/24', '--ip-range', range],
    ...[...options({ ...o, 'ip-range': range }), 'uber-net'],
  );
  await h3.cnm('sandbox', 'create', 'box');
  const box = JSON.parse(
    await h3.cnm('sandbox', 'join', 'box', '--network', 'uber-net', '--json'),
  ) as EndpointView;
  await Promise.all([
    h1.container('c1', 'uber-net').then(() => h1.container('c2', 'uber-net')),
    h2.container('c3', 'uber-net', '-p', '8080:80'),
  ]);
  const at = {
    c1: await attached(h1, 'c1', 'uber-net'),
    c2: await attached(h1, 'c2', 'uber-net'),
    c3: await attached(h2, 'c3', 'uber-net'),
    box: { v4: (box.addresses[0] ?? '').replace(/\/.*/, '') },
  };
  t.match(at.c3.v4, /^10\.1\.0\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])$/, 'of the range of h2');
  for (const { v4 } of Object.values(at)) {
    t.ok(await h1.containerPings('c1', v4, 3), `c1 → ${v4}`);
    t.ok(await h2.containerPings('c3', v4, 3), `c3 → ${v4}`);
    t.equal(
      (await h3.tryCnm('sandbox', 'exec', 'box', '--', 'ping', '-c1', '-W3', v4)).code,
      0,
      `box → ${v4}`,
    );
  }
  t.ok(await h1.containerPings('c1', WORLD, 3), 'the world, by docker_gwbridge');
  t.match(await h1.inContainer('c1', 'ip', 'route'), /default via \S+ dev eth1/);
  t.match(await h1.inContainer('c1', 'ip', 'link', 'show', 'eth0'), 'mtu 1450');
  t.match(await h2.docker('port', 'c3'), '80/tcp -> 0.0.0.0:8080', 'docker_gwbridge publishes');
  t.match(await h1.exec('c1', 'ping', '-c1', '-W3', 'c2'), `(${at.c2.v4})`, 'by name on one host');
  const inspected = await h1.docker('network', 'inspect', 'uber-net');
  for (const word of ['10.1.0.0/24', '10.1.0.0/26', `${at.c1.v4}/24`, `${at.c2.v4}/24`])
    t.match(inspected, word);
  const drawing = await until('the container by name', 5000, async () => {
    const text = await h1.cnm('network', 'inspect', 'uber-net');
    return text.includes('container c1,') ? text : undefined;
  });
  t.match(drawing, /namespace \S+\n {2}`-- bridge br0 [^]*vxlan vx0 [^]*veth [^]*eth0 .*\n.*container c1,/);

  t.test('dockerd and plugin killed: containers come back, and reach each other', async (t) => {
    await h1.docker('update', '--restart', 'always', 'c1');
    await Promise.all([h1.killDocker(), h1.killPlugin()]);
    await h1.startPlugin();
    await h1.startDocker();
    await until('c1 to reach c3 again', 30_000, async () => {
      const { stdout } = await h1.tryDocker('inspect', '-f', '{{.State.Running}}', 'c1');
      if (stdout.trim() !== 'true') return undefined;
      return (await h1.containerPings('c1', at.c3.v4, 1)) || undefined;
    });
    await until('no trouble', RECLAIM_LIMIT, async () => (await h1.tryCnm('doctor')).code === 0 || undefined);
    t.ok(await h2.containerPings('c3', (await attached(h1, 'c1', 'uber-net')).v4, 3));
  });

  await t.test('and all of it away', async (t) => {
    await h1.docker('rm', '--force', 'c1', 'c2');
    await h2.docker('rm', '--force', 'c3');
    await h3.cnm('sandbox', 'leave', 'box', '--network', 'uber-net');
    await h3.cnm('sandbox', 'rm', 'box');
    for (const h of [h1, h2]) {
      t.equal(await h.sh('ls /run/cnm/netns'), '', 'without containers nothing of it');
      await h.docker('network', 'rm', 'uber-net');
    }
    await h3.cnm('network', 'rm', 'uber-net');
    for (const h of [h1, h2, h3])
      t.same(await h.net('sh', '-c', 'ip -o link | grep -c "vxlan\\|veth" || true'), '0\n');
  });
}

async function inUserSpace(t: Test, { h1, h2, h3, peers }: World): Promise<void> {
  // A veth pair is a wire that needs no checksums: the kernel's tunnel would leave those of what is inside to it, and a program reads them.
  for (const h of [h1, h2, h3]) await h.net('ethtool', '-K', 'eth0', 'tx', 'off');
  const o = { vni: '4099', peers };
  const inUser = { ...o, vtep: 'userspace' };
  await Promise.all([
    create(h1, 'soft', '10.5.0.0/26', inUser).then(() => h1.container('soft1', 'soft')),
    create(h2, 'soft', '10.5.0.64/26', inUser).then(() => h2.container('soft2', 'soft')),
  ]);
  const range = '10.5.0.128/26';
  await h3.cnm(
    ...['network', 'create', '-d', 'cnm-overlay', '--subnet', '10.5.0.0/24', '--ip-range', range],
    ...[...options({ ...o, 'ip-range': range }), 'soft'],
  );
  await h3.cnm('sandbox', 'create', 'soft3');
  const joined = await h3.cnm('sandbox', 'join', 'soft3', '--network', 'soft', '--json');
  const v3 = ((JSON.parse(joined) as EndpointView).addresses[0] ?? '').replace(/\/.*/, '');
  const [v1, v2] = [await attached(h1, 'soft1', 'soft'), await attached(h2, 'soft2', 'soft')];
  for (const to of [v2.v4, v3]) t.ok(await h1.containerPings('soft1', to, 3), `h1 → ${to}`);
  for (const to of [v1.v4, v3]) t.ok(await h2.containerPings('soft2', to, 3), `h2 → ${to}`);
  await Promise.all([
    h1.docker('rm', '--force', 'soft1').then(() => h1.docker('network', 'rm', 'soft')),
    h2.docker('rm', '--force', 'soft2').then(() => h2.docker('network', 'rm', 'soft')),
    h3.cnm('sandbox', 'rm', 'soft3').then(() => h3.cnm('network', 'rm', 'soft')),
  ]);
}

async function internal(t: Test, { h1, h2, peers }: World): Promise<void> {
  const o = { vni: '4098', peers };
  const before = await snapshots([h1, h2]);
  await create(h1, 'inner', '10.2.0.0/26', o, '--internal');
  await create(h2, 'inner', '10.2.0.64/26', o, '--internal');
  await Promise.all([h1.container('i1', 'inner'), h2.container('i2', 'inner')]);
  const { v4 } = await attached(h2, 'i2', 'inner');
  t.ok(await h1.containerPings('i1', v4, 3));
  for (const [h, name] of [
    [h1, 'i1'],
    [h2, 'i2'],
  ] as const) {
    t.notMatch(await h.inContainer(name, 'ip', 'route'), 'default');
    t.notOk(await h.containerPings(name, WORLD, 1));
    t.notMatch(await h.inContainer(name, 'ip', '-o', 'link'), 'eth1', 'no docker_gwbridge');
    await h.docker('rm', '--force', name);
    await h.docker('network', 'rm', 'inner');
  }
  await assertAllRestored(t, [h1, h2], before);
}

async function refused(t: Test, { h1, peers }: World): Promise<void> {
  const attempt = (...o: string[]) =>
    h1.tryDocker(
      ...['network', 'create', '-d', 'cnm-overlay', '--subnet', '10.3.0.0/24'],
      ...[...o.flatMap((one) => ['-o', one]), 'no'],
    );
  const needed = ['vni=9', `peers=${peers}`];
  t.match(await attempt('vni=9'), { code: 1, stderr: /needs peers/ });
  t.match(await attempt(...needed), { code: 1, stderr: /needs ip-range/ });
  t.match(await attempt(...needed, 'ip-range=any', 'encrypted='), {
    code: 1,
    stderr: /encrypted needs a secret/,
  });
  // What --ip-range says to Docker's IPAM and ip-range to us must be the same: an address of another host's is not taken.
  await h1.docker(
    ...['network', 'create', '-d', 'cnm-overlay', '--subnet', '10.3.0.0/24'],
    ...[...[...needed, 'ip-range=10.3.0.64/26'].flatMap((one) => ['-o', one]), 'apart'],
  );
  const { code, stderr } = await h1.tryDocker('run', '--rm', '--network', 'apart', 'cnm-lab', 'true');
  t.equal(code, 125);
  t.match(stderr, /Address 10\.3\.0\.2\/24 is not one of this host's .*--ip-range/);
  await h1.docker('network', 'rm', 'apart');
}
