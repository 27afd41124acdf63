/*
 * Networks that are published: made on one host, and so on all. Scenario 7 word for word, on hosts in two IP networks.
 *
 *   uplink ──┬── etcd 198.51.100.10
 *            ├── router ── lan 192.0.2.0/24 ── h2 .2 (dockerd 28.5, cnmd)
 *            ├── h1 (dockerd 20.10, cnmd)
 *            └── h3 (cnmd, no Docker): comes last
 */
import t from 'tap';
import type { Test } from 'tap';
import type { HostOutcomeView, NetworkView, PublishedView } from '../../inspect/views.ts';
import { attached } from '../acceptance/observe.ts';
import { until } from '../lab/command.ts';
import type { CnmHost, DockerHost } from '../lab/docker-host.ts';
import type { Host } from '../lab/host.ts';
import { openLab } from '../lab/lab.ts';
import type { Lab } from '../lab/lab.ts';
import { assertAllRestored, snapshots } from '../lab/snapshot.ts';
import { EtcdHost } from './etcd-host.ts';

interface World {
  readonly lab: Lab;
  readonly etcd: EtcdHost;
  readonly settings: { readonly drivers: readonly string[]; readonly arguments: readonly string[] };
  readonly h1: DockerHost;
  readonly h2: DockerHost;
}

async function open(lab: Lab): Promise<World> {
  const store = await lab.peer({ name: 'store' });
  const etcd = new EtcdHost(store);
  await etcd.start();
  const settings = {
    drivers: ['bridge', 'overlay'],
    arguments: ['--cluster', `etcd://${store.address}:2379`, '--default-space', 'cnm-global'],
  };
  const router = await lab.peer({ name: 'router' });
  const h1 = await lab.dockerHost({ ...settings, name: 'h1', plugin: 'sockets' });
  const h2 = await lab.dockerHost({
    ...settings,
    name: 'h2',
    plugin: 'sockets',
    engine: '28.5',
    uplink: false,
  });
  await behind(lab, router, h2);
  for (const h of [store, h1]) await h.net('ip', 'route', 'add', '192.0.2.0/24', 'via', router.address);
  for (const h of [h1, h2]) {
    // A veth pair is a wire that needs no checksums: the kernel's tunnel would leave those of what is inside to it, and a program reads them.
    await h.net('ethtool', '-K', 'eth0', 'tx', 'off');
    // What Docker makes once and keeps: docker_gwbridge, and its rules.
    const named = ['-o', 'com.docker.network.bridge.name=docker_gwbridge'];
    await h.docker('network', 'create', '-d', 'bridge', ...named, 'docker_gwbridge');
    await h.docker('run', '--rm', '--network', 'docker_gwbridge', '-p', '9999:9', 'cnm-lab', 'true');
    await h.makeSandboxFolder();
  }
  // An Engine that starts again puts its rules in another order.
  await h2.killDocker();
  await h2.startDocker();
  await etcd.hasHosts(2);
  return { lab, etcd, settings, h1, h2 };
}

async function behind(lab: Lab, router: Host, host: Host): Promise<void> {
  host.address = '192.0.2.2';
  await lab.segment(
    { host: router, link: 'lan', addresses: ['192.0.2.1/24'] },
    { host, link: 'eth0', addresses: ['192.0.2.2/24'] },
  );
  await router.net('sysctl', '-qw', 'net.ipv4.ip_forward=1');
  await host.net('ip', 'route', 'add', 'default', 'via', '192.0.2.1');
}

/** The hosts of a loaded machine may take longer than a person would wait. */
const WAIT = ['--wait', '120'];

/** Exit status, and what each host is said to have done. */
async function say(
  h: CnmHost,
  ...words: string[]
): Promise<{ code: number | null; of: (host: string) => Partial<HostOutcomeView> }> {
  const { code, stdout, stderr } = await h.tryCnm(
    'network',
    ...words,
    ...(words.includes('--wait') ? [] : WAIT),
    '--json',
  );
  const hosts = stdout === '' ? [] : (JSON.parse(stdout) as PublishedView).hosts;
  return { code, of: (name) => hosts.find(({ host }) => host === name) ?? { message: stderr } };
}

/** What `cnm` says, as soon as it is this: names of Docker's are a courtesy, and an Engine may take its time. */
async function shows(
  t: Test,
  h: CnmHost,
  words: readonly string[],
  ...wanted: readonly RegExp[]
): Promise<void> {
  let said = '';
  await until(`cnm ${words.join(' ')}`, 30_000, async () => {
    said = (await h.tryCnm(...words)).stdout;
    return wanted.every((one) => one.test(said)) || undefined;
  }).catch(() => undefined);
  for (const one of wanted) t.match(said, one);
}

async function dockerHas(h: DockerHost, name: string): Promise<boolean> {
  return (await h.tryDocker('network', 'inspect', name)).code === 0;
}

t.test('networks on every host of a cluster', async (t) => {
  const lab = await openLab(t);
  const world = await open(lab);
  const { h1, h2, etcd } = world;
  const before = await snapshots([h1, h2]);

  await t.test('7 uber-net: two hosts in two IP networks', (t) => uberNet(t, world));
  await t.test('all of a network is the same on the other hosts', (t) => everything(t, world));
  await t.test('what is there already is left as it is', (t) => another(t, world));
  await t.test('an Engine that is away, a daemon that is killed, an etcd that is restarted', (t) =>
    faults(t, world),
  );
  const h3 = await lab.bareHost({ ...world.settings, name: 'h3' });
  await h3.net('ethtool', '-K', 'eth0', 'tx', 'off');
  await t.test("a host that comes later, without Docker, and Docker's networks", (t) =>
    withoutDocker(t, world, h3),
  );
  await t.test('networks that are no Docker’s', (t) => standalone(t, world, h3));
  await t.test('unpublished', (t) => unpublished(t, world, h3));

  await t.test('nothing is left', async (t) => {
    await assertAllRestored(t, [h1, h2], before, 10_000);
    for (const h of [h1, h2, h3]) await h.killPlugin('SIGTERM');
    const left = (await etcd.entries('/cnm/overlay/')).map(({ key, value }) => [
      key,
      (value as { state?: string }).state,
    ]);
    t.same(
      left.filter(([key, state]) => !key?.includes('/published/') || state !== 'withdrawn'),
      [],
      'but the word that networks are withdrawn',
    );
  });
});

async function uberNet(t: Test, { h1, h2, etcd }: World): Promise<void> {
  await h1.docker('network', 'create', '-d', 'cnm-overlay', '--ipam-driver', 'cnm-ipam', 'uber-net');
  t.notOk(await dockerHas(h2, 'uber-net'));
  t.equal(await h1.cnm('network', 'publish', ...WAIT, 'uber-net'), 'h1   exists\nh2   ok\n');
  t.ok(await dockerHas(h2, 'uber-net'));
  t.equal(await h2.sh('ls /run/cnm/netns 2>/dev/null || true'), '', 'h2 holds nothing of it yet');
  t.notMatch(await h2.net('ss', '-Hlun'), /:4789\b/);
  t.same(await etcd.keys('/cnm/overlay/on/'), []);
  const format = '{{(index .IPAM.Config 0).Subnet}}';
  const subnet = await h1.docker('network', 'inspect', '--format', format, 'uber-net');
  t.equal(await h2.docker('network', 'inspect', '--format', format, 'uber-net'), subnet, 'one subnet');
  t.match(subnet, /^10\./, "of the cluster's");
  const dns = ['--network', 'uber-net', '--dns', subnet.replace('0/24', '1')];
  await h1.docker('run', '-d', '--name', 'c1', ...dns, 'cnm-lab');
  await h2.docker('run', '-d', '--name', 'c2', ...dns, 'cnm-lab');
  const [c1, c2] = [(await attached(h1, 'c1', 'uber-net')).v4, (await attached(h2, 'c2', 'uber-net')).v4];
  t.not(c1, c2);
  await until('c1 to reach c2', 30_000, async () => (await h1.containerPings('c1', c2, 1)) || undefined);
  for (const [h, from, to, name] of [
    [h1, 'c1', c2, 'c2'],
    [h2, 'c2', c1, 'c1'],
  ] as const) {
    t.ok(await h.containerPings(from, to, 10), `${from} → ${to}`);
    await until(
      `${from} to know ${name}`,
      30_000,
      // At the beginning of a line: in a network's id there may be these letters.
      async () =>
        new RegExp(`^${name} `, 'm').test((await h.tryCnm('dns', 'ls', 'uber-net')).stdout) || undefined,
    );
    t.match(await h.exec(from, 'ping', '-c1', '-W10', name), `(${to})`, `${from} → ${name}`);
  }
  const route = await h1.exec('c1', 'traceroute', '-n', '-m', '5', '-w', '2', c2);
  t.match(route, new RegExp(`^ *1 +${c2.replaceAll('.', '\\.')} `, 'm'), 'one hop');
  t.notMatch(route, /^ *2 /m);
  const inspected = await h2.docker('network', 'inspect', 'uber-net');
  t.match(inspected, subnet);
  t.match(inspected, '"Name": "c2"');
  await shows(
    t,
    h1,
    ['network', 'inspect', 'uber-net'],
    new RegExp(`subnet     ${subnet}`),
    /container c1, endpoint/,
    /host h2 +192\.0\.2\.2 .*\n +c2 +/,
    /published by h1\n +h1 +exists\n +h2 +ok\n/,
  );
  await shows(t, h2, ['network', 'ls'], /uber-net .* ready, published/);
}

async function everything(t: Test, { h1, h2 }: World): Promise<void> {
  const ipam = ['--ipam-driver', 'cnm-ipam', '--ipam-opt', 'rest=90', '--ipam-opt', 'reserved=10.77.0.0/28'];
  const subnets = ['--subnet', '10.77.0.0/24', '--ip-range', '10.77.0.64/26', '--gateway', '10.77.0.9'];
  const more = ['--ipv6', '--subnet', 'fd00:77::/64', '--aux-address', 'router=10.77.0.200'];
  const flags = ['--internal', '--attachable', '--label', 'tier=one', '-o', 'vni=7777', '-o', 'name=full'];
  await h1.docker(
    'network',
    'create',
    '-d',
    'cnm-overlay',
    ...ipam,
    ...subnets,
    ...more,
    ...flags,
    'full-net',
  );
  const { code, of } = await say(h1, 'publish', 'full-net');
  t.equal(of('h2').outcome, 'ok', of('h2').message ?? '');
  t.equal(code, 0);
  const read = async (h: DockerHost) =>
    (JSON.parse(await h.docker('network', 'inspect', 'full-net')) as Record<string, unknown>[])[0] ?? {};
  const [there, here] = [await read(h1), await read(h2)];
  for (const field of ['Driver', 'Scope', 'Internal', 'Attachable', 'EnableIPv6', 'Options'])
    t.same(here[field], there[field], field);
  t.same(here['Labels'], { tier: 'one', 'cnm.published': 'true' });
  const [ipamHere, ipamThere] = [here['IPAM'], there['IPAM']] as {
    Driver: string;
    Options: object;
    Config: object[];
  }[];
  t.same(ipamHere?.Options, { ...ipamThere?.Options, space: 'cnm-global' });
  const configured = [{ Subnet: '10.77.0.0/24', IPRange: '10.77.0.64/26', Gateway: '10.77.0.9' }];
  t.match(ipamThere?.Config, configured);
  t.match(ipamHere?.Config, [...configured, { Subnet: 'fd00:77::/64' }]);
  t.equal((await say(h1, 'unpublish', 'full-net')).code, 0);
  t.notOk(await dockerHas(h2, 'full-net'));
  t.ok(await dockerHas(h1, 'full-net'), 'what was there before stays');
  await h1.docker('network', 'rm', 'full-net');
}

async function another(t: Test, { h1, h2, etcd }: World): Promise<void> {
  const again = await say(h2, 'publish', 'uber-net');
  t.same(
    [again.of('h1').outcome, again.of('h2').outcome, again.code],
    ['exists', 'ok', 0],
    'again is the same',
  );
  await h2.docker('network', 'create', '-d', 'bridge', 'other');
  const id = await h2.docker('network', 'inspect', '--format', '{{.Id}}', 'other');
  await h1.docker('network', 'create', '-d', 'cnm-overlay', '--ipam-driver', 'cnm-ipam', 'other');
  const refused = await say(h1, 'publish', 'other');
  t.equal(refused.code, 3);
  t.match(refused.of('h2'), {
    outcome: 'refused',
    message: /other is published with driver cnm-overlay.*and has driver bridge.*not touched/,
  });
  t.equal(await h2.docker('network', 'inspect', '--format', '{{.Id}}', 'other'), id);
  await h2.docker('network', 'rm', 'other');
  t.equal((await say(h1, 'publish', 'other')).code, 0, 'when it is out of the way');
  // The subnet is another network's on h2: the Engine says so.
  await h2.docker('network', 'create', '-d', 'bridge', 'mine');
  const revision = JSON.stringify(await etcd.entries('/cnm/overlay/published/mine'));
  t.match((await h2.tryCnm('network', 'publish', 'mine')).stderr, /No network has the id or name "mine"/);
  await h2.cnm('network', 'create', 'plain');
  t.match(
    (await h2.tryCnm('network', 'publish', 'plain')).stderr,
    /Network plain is of cnm-bridge, whose networks are one host's/,
  );
  t.equal(JSON.stringify(await etcd.entries('/cnm/overlay/published/mine')), revision);
  t.match(
    (await h2.tryCnm('network', 'unpublish', 'mine')).stderr,
    /No network of the name "mine" is published/,
  );
  await h2.cnm('network', 'rm', 'plain');
  await h2.docker('network', 'rm', 'mine');
  t.equal((await say(h2, 'unpublish', 'other')).code, 0);
  // By hand, with a subnet that nobody names.
  const byHand = ['-d', 'cnm-overlay', '--ipam-driver', 'cnm-ipam', '--ipam-opt', 'name=hand', 'hand'];
  const format = '{{(index .IPAM.Config 0).Subnet}}';
  const subnets: string[] = [];
  for (const h of [h1, h2]) {
    await h.docker('network', 'create', ...byHand);
    subnets.push(await h.docker('network', 'inspect', '--format', format, 'hand'));
  }
  t.equal(subnets[0], subnets[1], 'chosen once');
  const both = await say(h2, 'publish', 'hand');
  t.match([both.of('h1').outcome, both.of('h2').outcome], ['exists', 'exists']);
  t.equal((await say(h2, 'unpublish', 'hand')).code, 0);
  for (const h of [h1, h2]) await h.docker('network', 'rm', 'hand');
  await h1.docker('network', 'rm', 'other');
}

async function faults(t: Test, { h1, h2, etcd }: World): Promise<void> {
  const create = (name: string) =>
    h1.docker('network', 'create', '-d', 'cnm-overlay', '--ipam-driver', 'cnm-ipam', name);
  const arrives = (name: string) =>
    until(`${name} on h2`, 60_000, async () => (await dockerHas(h2, name)) || undefined);

  await create('late-net');
  await h2.docker('rm', '-f', 'c2');
  // The socket goes with it: what is known of Docker then are its networks.
  await h2.stopDocker();
  const away = await say(h1, 'publish', 'late-net');
  t.match([away.code, away.of('h2').outcome], [3, 'waiting'], 'no Engine on h2');
  await h2.startDocker();
  await arrives('late-net');
  t.equal((await say(h1, 'publish', 'late-net')).code, 0, 'made when there is one');

  await create('dead-net');
  await h2.killPlugin();
  const silent = await say(h1, 'publish', '--wait', '1', 'dead-net');
  t.match([silent.code, silent.of('h2').outcome], [3, 'unheard']);
  await h2.startPlugin();
  await arrives('dead-net');

  await create('cut-net');
  await etcd.kill();
  const failed = await h1.tryCnm('network', 'publish', 'cut-net');
  t.equal(failed.code, 1);
  t.match(failed.stderr, /What the other hosts have is not known: etcd:\/\/198\.51\.100\.10:2379/);
  await etcd.start();
  t.same(await etcd.keys('/cnm/overlay/published/cut-net'), [], 'nothing was changed');
  t.notOk(await dockerHas(h2, 'cut-net'));
  await until('all to answer', 60_000, async () => {
    const { code } = await say(h1, 'publish', 'cut-net');
    return code === 0 || undefined;
  });
  t.ok(await dockerHas(h2, 'cut-net'));
  await h2.docker('network', 'rm', 'dead-net');
  t.equal((await say(h1, 'publish', 'dead-net')).code, 0);
  t.ok(await dockerHas(h2, 'dead-net'), 'removed by hand, it is made again');
  for (const name of ['late-net', 'dead-net', 'cut-net']) {
    t.equal((await say(h1, 'unpublish', name)).code, 0);
    t.notOk(await dockerHas(h2, name));
    await h1.docker('network', 'rm', name);
  }
  const dns = await h2.docker(
    'network',
    'inspect',
    '--format',
    '{{(index .IPAM.Config 0).Subnet}}',
    'uber-net',
  );
  await h2.docker(
    'run',
    '-d',
    '--name',
    'c2',
    '--network',
    'uber-net',
    '--dns',
    dns.replace('0/24', '1'),
    'cnm-lab',
  );
}

async function standalone(t: Test, { h1, h2 }: World, h3: CnmHost): Promise<void> {
  await h3.cnm(
    'network',
    'create',
    '-d',
    'cnm-overlay',
    '--aux-address',
    'router=10.78.0.9',
    '--subnet',
    '10.78.0.0/24',
    'bare-net',
  );
  const { code, of } = await say(h3, 'publish', 'bare-net');
  t.match([of('h1'), of('h2'), of('h3')], [{ outcome: 'ok' }, { outcome: 'ok' }, { outcome: 'exists' }]);
  t.equal(code, 0);
  const boxes = [h3, h1] as const;
  for (const h of boxes) {
    await h.cnm('sandbox', 'create', `box-${h.name}`);
    await h.cnm('sandbox', 'join', `box-${h.name}`, '--network', 'bare-net');
  }
  const [view] = JSON.parse(await h1.cnm('network', 'inspect', 'bare-net', '--json')) as NetworkView[];
  t.match(view, { origin: 'cnm', driver: 'cnm-overlay', published: { by: 'h3' } });
  const to = (view?.members[0]?.addresses[0] ?? '').replace(/\/.*/, '');
  await until('one to reach the other', 30_000, async () => {
    return (
      (await h3.tryCnm('sandbox', 'exec', 'box-h3', '--', 'ping', '-c1', '-W2', to)).code === 0 || undefined
    );
  });
  const kept = await say(h3, 'unpublish', 'bare-net');
  t.equal(kept.code, 3);
  t.match(kept.of('h1'), { outcome: 'kept', message: /stays while box-h1 are on it/ });
  t.match([kept.of('h2').outcome, kept.of('h3').outcome], ['removed', 'own']);
  for (const h of boxes) await h.cnm('sandbox', 'rm', `box-${h.name}`);
  t.equal((await say(h3, 'unpublish', 'bare-net')).code, 0);
  t.notMatch(await h1.cnm('network', 'ls'), 'bare-net');
  await h3.cnm('network', 'rm', 'bare-net');
  t.notMatch(await h2.cnm('network', 'ls'), 'bare-net');
}

/** A network of Docker's is made by the daemon of a host that has none, and is the same. */
async function withoutDocker(t: Test, { h1 }: World, h3: CnmHost): Promise<void> {
  await shows(t, h3, ['network', 'ls'], /uber-net .* ready, published/);
  for (const h of [h1, h3]) {
    const { code, of } = await say(h, 'publish', 'uber-net');
    t.match([code, of('h1').outcome, of('h2').outcome, of('h3').outcome], [0, 'exists', 'ok', 'ok']);
  }
  t.match(JSON.parse(await h3.cnm('network', 'inspect', 'uber-net', '--json')), [
    { origin: 'cnm', driver: 'cnm-overlay', published: { by: 'h1' } },
  ]);
  await h3.cnm('sandbox', 'create', 'box');
  await h3.cnm('sandbox', 'join', 'box', '--network', 'uber-net');
  const [view] = JSON.parse(await h3.cnm('network', 'inspect', 'uber-net', '--json')) as NetworkView[];
  const box = (view?.members[0]?.addresses[0] ?? '').replace(/\/.*/, '');
  const { v4: c1 } = await attached(h1, 'c1', 'uber-net');
  t.not(box, c1);
  await until(
    'c1 to reach the sandbox',
    30_000,
    async () => (await h1.containerPings('c1', box, 1)) || undefined,
  );
  for (const to of [c1, 'c1'])
    await until(`the sandbox to reach ${to}`, 30_000, async () => {
      const { code } = await h3.tryCnm('sandbox', 'exec', 'box', '--', 'ping', '-c1', '-W2', to);
      return code === 0 || undefined;
    });
  t.match(await h3.cnm('sandbox', 'exec', 'box', '--', 'ping', '-c1', '-W10', 'c1'), `(${c1})`);
  // The network below is another: its links follow, and the other hosts hear of it.
  for (const mtu of [1400, 1500]) {
    await h3.net('ip', 'link', 'set', 'eth0', 'mtu', `${mtu}`);
    const line = new RegExp(`host h3 .*vtep kernel  mtu ${mtu - 50}\\n`);
    await shows(t, h1, ['network', 'inspect', 'uber-net'], line);
  }
  const kept = await say(h1, 'unpublish', 'uber-net');
  t.match([kept.code, kept.of('h3')], [3, { outcome: 'kept', message: 'stays while box are on it' }]);
  t.equal((await say(h1, 'publish', 'uber-net')).code, 0);
  await h3.cnm('sandbox', 'rm', 'box');

  // Its addresses are given by each Engine for itself.
  const local = ['-d', 'cnm-overlay', '--subnet', '10.79.0.0/24', '-o', 'ip-range=any', 'local-net'];
  await h1.docker('network', 'create', ...local);
  const told = await h1.cnm('network', 'publish', ...WAIT, 'local-net');
  t.equal(
    told,
    'h1   exists\nh2   ok\nh3   no Docker: without Docker a host can have its networks only with addresses of cnm-global\n',
  );
  t.equal((await say(h1, 'unpublish', 'local-net')).code, 0);
  await h1.docker('network', 'rm', 'local-net');
}

async function unpublished(t: Test, { h1, h2 }: World, h3: CnmHost): Promise<void> {
  await h2.docker('stop', '-t', '0', 'c2');
  const kept = await say(h1, 'unpublish', 'uber-net');
  t.match(
    kept.of('h2'),
    { outcome: 'kept', message: 'stays while c2 are on it' },
    'also of one that is stopped',
  );
  t.equal(kept.code, 3);
  await h2.docker('start', 'c2');
  await h2.docker('rm', '-f', 'c2');
  const gone = await say(h1, 'unpublish', 'uber-net');
  const outcomes = [gone.of('h1').outcome, gone.of('h2').outcome, gone.of('h3').outcome];
  t.match([...outcomes, gone.code], ['own', 'removed', 'removed', 0]);
  t.notMatch(await h3.cnm('network', 'ls'), 'uber-net');
  t.notOk(await dockerHas(h2, 'uber-net'));
  t.notMatch(await h1.cnm('network', 'ls'), 'published');
  await h1.docker('rm', '-f', 'c1');
  await h1.docker('network', 'rm', 'uber-net');
}
