// lab: vm 8021q
// lab: timeout 1200
/*
 * VLANs of the macvlan driver, with packets: scenario 4 as a book has it, trunking, tags within tags, a VLAN-aware bridge (M16), and
 * sub-interfaces that come and go with their networks.
 *
 *   h: dockerd 20.10 + cnm-macvlan                       trunk
 *     eth1.100 ── mactainer1 ─┐                   ┌─ eth0.100  10.0.0.1, 10.0.0.200
 *     eth1.200 ── mactainer2 ─┼─ eth1 ══ eth0 p ──┼─ eth0.200  192.168.3.1, 10.0.0.201
 *     eth1.10.100 ── c3 ──────┘                   └─ eth0.10 (802.1ad) ── eth0.10.100  10.30.0.1
 */
import t from 'tap';
import type { Test } from 'tap';
import type { DockerHost } from '../lab/docker-host.ts';
import type { Host } from '../lab/host.ts';
import { IMAGE } from '../lab/image.ts';
import { openLab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { trunkPeer } from '../lab/vlan.ts';
import { attached, capture, installCommand } from './observe.ts';
import { readme } from './readme-macvlan.ts';

function create(h: DockerHost, name: string, ...options: string[]): Promise<string> {
  return h.docker('network', 'create', '--driver', 'cnm-macvlan', ...options, name);
}

/** The VLAN interfaces of the host, by name. */
async function vlans(h: DockerHost): Promise<string> {
  const lines = (await h.net('ip', '-br', 'link', 'show', 'type', 'vlan')).trim().split('\n');
  return lines.map((line) => line.split('@')[0] ?? '').join(' ');
}

t.test('VLANs of cnm-macvlan', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets', drivers: ['macvlan'] });
  await lab.link({ host: h, link: 'eth2' }, { host: lab.world, link: 'unused' });
  const p = await trunkPeer(
    lab,
    { host: h, link: 'eth1' },
    { tags: [100], addresses: ['10.0.0.1/24', '10.0.0.200/24'] },
    { tags: [200], addresses: ['192.168.3.1/24', '10.0.0.201/24'] },
    { tags: [10, 100], protocol: '802.1ad', addresses: ['10.30.0.1/24'] },
  );
  const before = await snapshot(h);
  await t.test('scenario 4: macvlan100, and a second VLAN at the same time', (t) => trunking(t, h, p));
  await t.test('M16 two VLANs of one parent do not see each other', (t) => apart(t, h));
  await t.test('tags within tags', (t) => nested(t, h, p));
  await t.test('what is made goes with its last network; what was there stays', (t) => lives(t, h));
  await t.test('a parent that is down takes its VLANs up when it comes up', (t) => down(t, h));
  await assertRestored(t, h, before);
});

/** The README's own lines, up to where they take all away again. */
async function trunking(t: Test, h: DockerHost, p: Host): Promise<void> {
  await installCommand(h);
  const lines = (await readme()).vlans;
  const end = lines.findIndex((line) => line.startsWith('docker rm'));
  t.ok(end > 0);
  const type = async (line: string) => {
    const { code, stderr, stdout } = await h.trySh(line.replace(' alpine ', ` ${IMAGE} `));
    t.equal(code, 0, `# ${line}\n${stderr}`);
    return stdout;
  };
  const said = [];
  for (const line of lines.slice(0, end)) said.push(await type(line));
  t.match(said.at(-1), /vlan protocol 802\.1Q id 100 [^]*alias cnm shared/);
  const one = await attached(h, 'mactainer1', 'macvlan100');
  t.match(one.v4, /^10\.0\.0\.(\d|[1-9]\d|1[01]\d|12[0-7])$/, 'an address of the range');
  for (const [container, vlan, to] of [
    ['mactainer1', 100, '10.0.0.1'],
    ['mactainer2', 200, '192.168.3.1'],
  ] as const) {
    const { mac } = await attached(h, container, `macvlan${vlan}`);
    const seen = await capture(
      (argv) => p.spawnNet(argv),
      '-e -i eth0 icmp',
      async () => {
        t.ok(await h.containerPings(container, to, 5), `${container} reaches ${to}`);
      },
    );
    t.match(
      seen,
      new RegExp(`${mac} > .* vlan ${vlan}, .*> ${to.replaceAll('.', '\\.')}: ICMP echo request`),
    );
  }
  const drawn = await h.cnm('network', 'inspect', 'macvlan100');
  t.match(drawn, /parent +eth1\.100\n +vlan +100 \(802\.1q\) on eth1\n +mode +bridge\n/);
  for (const line of lines.slice(end)) await type(line);
  t.equal(await vlans(h), '', 'they went with their networks');
}

/** 10.0.0.201 is a machine of VLAN 200, which has the same subnet in it. */
async function apart(t: Test, h: DockerHost): Promise<void> {
  await create(
    h,
    'one',
    '--subnet=10.0.0.0/24',
    '--ip-range=10.0.0.64/27',
    '-o',
    'parent=eth1',
    '-o',
    'vlan=100',
  );
  await create(h, 'two', '--subnet=10.0.0.0/24', '--ip-range=10.0.0.96/27', '-o', 'parent=eth1.200');
  await h.container('c1', 'one');
  await h.container('c2', 'two');
  const there = (await attached(h, 'c2', 'two')).v4;
  for (const [from, to, wanted] of [
    ['c1', '10.0.0.200', true],
    ['c2', '10.0.0.201', true],
    ['c1', '10.0.0.201', false],
    ['c2', '10.0.0.200', false],
    ['c1', there, false],
  ] as const)
    t.equal(
      await h.containerPings(from, to, wanted ? 5 : 1),
      wanted,
      `${from} ${wanted ? 'reaches' : 'does not see'} ${to}`,
    );
  await h.docker('rm', '--force', 'c1', 'c2');
  await h.docker('network', 'rm', 'one', 'two');
}

async function nested(t: Test, h: DockerHost, p: Host): Promise<void> {
  await create(
    h,
    'deep',
    '--subnet=10.30.0.0/24',
    '--gateway=10.30.0.1',
    '-o',
    'parent=eth1.10.100',
    '-o',
    'vlan_protocol=802.1ad,802.1q',
  );
  t.equal(await vlans(h), 'eth1.10 eth1.10.100');
  await h.container('c3', 'deep');
  const seen = await capture(
    (argv) => p.spawnNet(argv),
    '-e -i eth0',
    async () => {
      t.ok(await h.containerPings('c3', '10.30.0.1', 5));
    },
  );
  t.match(seen, /vlan 10, .*vlan 100, .* > 10\.30\.0\.1: ICMP echo request/);
  await h.docker('rm', '--force', 'c3');
  await h.docker('network', 'rm', 'deep');
  t.equal(await vlans(h), '');
}

async function lives(t: Test, h: DockerHost): Promise<void> {
  await h.net('ip', 'link', 'add', 'link', 'eth1', 'name', 'eth1.5', 'type', 'vlan', 'id', '5');
  const networks: readonly (readonly [string, string, string])[] = [
    ['a', 'eth1.100', '10.41.0.0/24'],
    ['b', 'eth1.100', '10.42.0.0/24'],
    ['c', 'eth1.5', '10.43.0.0/24'],
    ['d', 'eth1.100.7', '10.44.0.0/24'],
  ];
  for (const [name, parent, subnet] of networks)
    await create(h, name, `--subnet=${subnet}`, '-o', `parent=${parent}`);
  t.equal(await vlans(h), 'eth1.5 eth1.100 eth1.100.7');
  const { code, stderr } = await h.tryDocker(
    'network',
    'create',
    '-d',
    'cnm-macvlan',
    '-o',
    'parent=eth1.100',
    '-o',
    'vlan_protocol=802.1ad',
    'e',
  );
  t.equal(code, 1);
  t.match(stderr, 'is there already with 802.1q; this network wants 802.1ad');
  await h.docker('network', 'rm', 'a', 'c');
  t.equal(await vlans(h), 'eth1.5 eth1.100 eth1.100.7', 'others are on it; the user’s stays');
  await h.killPlugin();
  await h.net('ip', 'link', 'del', 'eth1.100');
  await h.startPlugin();
  t.equal(await vlans(h), 'eth1.5 eth1.100 eth1.100.7', 'put back at the start of the daemon');
  await h.docker('network', 'rm', 'b');
  t.equal(await vlans(h), 'eth1.5 eth1.100 eth1.100.7', 'd is on a VLAN within it');
  await h.docker('network', 'rm', 'd');
  t.equal(await vlans(h), 'eth1.5');
  await h.net('ip', 'link', 'del', 'eth1.5');
}

async function down(t: Test, h: DockerHost): Promise<void> {
  await h.net('ip', 'link', 'set', 'eth2', 'down');
  await create(h, 'dark', '--subnet=10.45.0.0/24', '-o', 'parent=eth2.9');
  await h.container('c4', 'dark');
  t.equal((await h.tryCnm('doctor')).code, 0, 'nothing to put right');
  await h.net('ip', 'link', 'set', 'eth2', 'up');
  t.match(await h.net('ip', 'link', 'show', 'eth2.9'), ',UP,');
  t.match(await h.inContainer('c4', 'ip', 'link', 'show', 'eth0'), 'LOWER_UP');
  await h.docker('rm', '--force', 'c4');
  await h.docker('network', 'rm', 'dark');
}
