// lab: vm 8021q bonding team
// lab: timeout 1200
/*
 * VLANs of the macvlan driver with real packets, seen on the wire with their tags: scenario 4 word for word, as the README of cnm-macvlan
 * has it, with Docker 20.10; then, in sandboxes of ours (a container takes long to start here), two VLANs of one bridge (M16), tags within
 * tags, and VLAN interfaces that come and go with their networks.
 *
 *   h: dockerd 20.10 + cnm-macvlan                         trunk
 *     eth1.100 ──── mactainer1 ─┐                   ┌─ eth0.100  10.0.0.1, 10.7.1.100; 192.168.3.100, 10.7.2.100
 *     eth1.200 ──── mactainer2 ─┼─ eth1 ══ eth0 p ──┼─ eth0.200  192.168.3.1, 10.7.2.200; 10.0.0.200, 10.7.1.200
 *     eth1.10.100 ──── deep ────┘                   └─ eth0.10 (802.1ad) ── eth0.10.100  10.30.0.100
 *     M16: br0, with eth1 as its port, in the place of eth1
 *
 * Each VLAN of p has an address in each of the two subnets; eth0.200 is in a namespace of its own, for a host answers for all its addresses
 * wherever it is asked.
 */
import t from 'tap';
import type { Test } from 'tap';
import { admin } from '../faults/crash-host.ts';
import { until } from '../lab/command.ts';
import type { CnmHost, DockerHost } from '../lab/docker-host.ts';
import type { Host } from '../lab/host.ts';
import { IMAGE } from '../lab/image.ts';
import { openLab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import type { Reply } from '../lab/unix-http.ts';
import { trunkPeer } from '../lab/vlan.ts';
import { attached, capture } from './observe.ts';
import { readme } from './readme-macvlan.ts';

t.test('VLANs of cnm-macvlan', async (t) => {
  const lab = await openLab(t);
  // Docker's own bridge has no part in this, and takes dozens of starts of iptables.
  const dockerd = ['--bridge=none', '--iptables=false'];
  const h = await lab.dockerHost({ plugin: 'sockets', drivers: ['macvlan'], dockerd });
  const p = await trunkPeer(
    lab,
    { host: h, link: 'eth1' },
    { tags: [100], addresses: ['10.0.0.1/24', '192.168.3.100/24', '10.7.1.100/24', '10.7.2.100/24'] },
    { tags: [200], addresses: [] },
    { tags: [10, 100], protocol: '802.1ad', addresses: ['10.30.0.100/24'] },
  );
  const there = ['192.168.3.1/24', '10.0.0.200/24', '10.7.1.200/24', '10.7.2.200/24'];
  await p.sh(`ip netns add v200 && ip link set eth0.200 netns v200 && ip -n v200 link set eth0.200 up
    for address in ${there.join(' ')}; do ip -n v200 address add $address dev eth0.200; done`);
  // The first sandbox makes the folder for all.
  await admin(h, 'POST', '/v1/sandboxes', { name: 'first' });
  await admin(h, 'DELETE', '/v1/sandboxes/first');
  const before = await snapshot(h);
  await t.test('scenario 4: macvlan100, and a second VLAN at the same time', (t) => scenario(t, h, p));
  await t.test('M16 two VLANs of one bridge do not see each other', (t) => apart(t, h));
  await t.test('a bond and a team', (t) => bonded(t, h));
  await t.test('tags within tags', (t) => nested(t, h, p));
  await t.test('what is made goes with its last network; what was there stays', (t) => lives(t, h));
  await t.test('a parent that is down takes its VLANs up when it comes up', (t) => down(t, h));
  await assertRestored(t, h, before);
});

async function scenario(t: Test, h: DockerHost, p: Host): Promise<void> {
  const lines = (await readme()).vlans;
  const end = lines.findIndex((line) => line.startsWith('docker rm'));
  t.ok(end > 0);
  const type = async (line: string): Promise<string> => {
    const { code, stderr, stdout } = await h.trySh(line.replace(' alpine ', ` ${IMAGE} `));
    t.equal(code, 0, `# ${line}\n${stderr}`);
    return stdout;
  };
  const said = [];
  for (const line of lines.slice(0, end)) said.push(await type(line));
  t.match(said.at(-1), /vlan protocol 802\.1Q id 100 [^]*alias cnm shared/);
  const one = await attached(h, 'mactainer1', 'macvlan100');
  t.match(one.v4, /^10\.0\.0\.(\d|[1-9]\d|1[01]\d|12[0-7])$/, 'an address of the range');
  await Promise.all([
    reachesTagged(t, h, p, ['mactainer1', 100, '10.0.0.1', '10.0.0.200']),
    reachesTagged(t, h, p, ['mactainer2', 200, '192.168.3.1', '192.168.3.100']),
  ]);
  const { body: made } = await h.api('GET', '/networks/macvlan100');
  const { body } = await admin(h, 'GET', `/v1/networks/${(made as { readonly Id: string }).Id}`);
  t.match(body, {
    fields: [
      ['parent', 'eth1.100'],
      ['vlan', '100 (802.1q) on eth1'],
      ['mode', 'bridge'],
      ['promiscuous', 'no'],
    ],
  });
  for (const line of lines.slice(end)) await type(line);
  t.equal(await vlans(h), '', 'they go with their networks');
}

type Way = readonly [container: string, vlan: number, to: string, elsewhere: string];

/** The wire sees the container's MAC and address in a tagged frame, and nothing of macvlan; of the other VLAN the container sees nothing. */
async function reachesTagged(
  t: Test,
  h: DockerHost,
  p: Host,
  [name, vlan, to, elsewhere]: Way,
): Promise<void> {
  const { mac, v4 } = await attached(h, name, `macvlan${vlan}`);
  const seen = await capture(
    (argv) => p.spawnNet(argv),
    '-e -i eth0 icmp or (vlan and icmp)',
    async () => {
      t.ok(await h.containerPings(name, to, 5), `${name} reaches ${to}`);
      t.notOk(await h.containerPings(name, elsewhere, 1), `${name} is not in the VLAN of ${elsewhere}`);
    },
  );
  const [request = '', reply = ''] = seen.split('\n').filter((line) => line.includes(to));
  const tagged = `802\\.1Q \\(0x8100\\).* vlan ${vlan}, `;
  t.match(request, new RegExp(`${mac} > .*${tagged}.* ${literal(v4)} > ${literal(to)}: ICMP echo request`));
  t.match(reply, new RegExp(` > ${mac}, .*${tagged}.* ${literal(to)} > ${literal(v4)}: ICMP echo reply`));
}

function literal(text: string): string {
  return text.replaceAll('.', '\\.');
}

/** The VLAN interfaces of the host, sorted: Linux 6.1 lists links by the last 8 bits of their index (net/core/rtnetlink.c, rtnl_dump_ifinfo). */
async function vlans(h: CnmHost): Promise<string> {
  const lines = (await h.net('ip', '-br', 'link', 'show', 'type', 'vlan')).trim().split('\n');
  const names = lines.map((line) => line.split('@')[0] ?? '');
  return names.sort().join(' ');
}

type Options = Readonly<Record<string, string>>;
type Ping = (to: string, seconds: number) => Promise<boolean>;

/** A network of `cnm` with a sandbox of its own on it. Gives what runs a ping in it. */
async function joined(h: CnmHost, name: string, subnet: string, options: Options): Promise<Ping> {
  const asked = async (path: string, body: object): Promise<unknown> => {
    const reply = await admin(h, 'POST', path, body);
    if (reply.status >= 300) throw new Error(`${path}: ${reply.text}`);
    return reply.body;
  };
  await asked('/v1/networks', { name, driver: 'cnm-macvlan', subnets: [subnet], options });
  const { path } = (await asked('/v1/sandboxes', { name })) as { readonly path: string };
  await asked(`/v1/sandboxes/${name}/join`, { network: name });
  return async (to, seconds) => {
    const ping = ['nsenter', `--net=${path}`, '--', 'ping', '-n', '-c1', `-W${seconds}`, to];
    return (await h.tryRun(ping)).code === 0;
  };
}

function network(h: CnmHost, name: string, subnet: string, options: Options): Promise<Reply> {
  return admin(h, 'POST', '/v1/networks', { name, driver: 'cnm-macvlan', subnets: [subnet], options });
}

async function leave(h: CnmHost, ...names: readonly string[]): Promise<void> {
  for (const name of names) {
    await admin(h, 'DELETE', `/v1/sandboxes/${name}`);
    await admin(h, 'DELETE', `/v1/networks/${name}`);
  }
}

async function apart(t: Test, h: CnmHost): Promise<void> {
  await h.sh('ip link add br0 type bridge && ip link set br0 up && ip link set eth1 master br0');
  const one = await joined(h, 'one', '10.7.1.0/24', { parent: 'br0', vlan: '100' });
  const two = await joined(h, 'two', '10.7.2.0/24', { parent: 'br0.200' });
  t.ok(await one('10.7.1.100', 40), 'VLAN 100');
  t.ok(await two('10.7.2.200', 40), 'VLAN 200');
  const silent = await Promise.all([one('10.7.1.200', 1), two('10.7.2.100', 1)]);
  t.same(silent, [false, false], 'neither reaches the other VLAN');
  await leave(h, 'one', 'two');
  t.equal(await vlans(h), '');
  await h.net('ip', 'link', 'del', 'br0');
}

/** The team has no port: nothing here sets its mode (teamnl(8)). */
async function bonded(t: Test, h: CnmHost): Promise<void> {
  await h.sh(`ip link add team0 type team && ip link set eth1 down
    ip link add bond0 type bond mode active-backup miimon 100 && ip link set eth1 master bond0 && ip link set bond0 up`);
  const refused = await network(h, 'port', '10.7.3.0/24', { parent: 'eth1' });
  t.match(refused.text, 'it is a port of bond0, which takes all its frames; use parent=bond0');
  const ping = await joined(h, 'bonded', '10.7.1.0/24', { parent: 'bond0.100' });
  await until('its port to be active', 20_000, async () => (await ping('10.7.1.100', 5)) || undefined);
  t.equal((await network(h, 'team', '10.7.3.0/24', { parent: 'team0' })).status, 201);
  await leave(h, 'bonded', 'team');
  await h.sh('ip link del bond0; ip link del team0; ip link set eth1 up');
}

async function nested(t: Test, h: CnmHost, p: Host): Promise<void> {
  const protocols = '802.1ad,802.1q';
  const ping = await joined(h, 'deep', '10.30.0.0/24', { parent: 'eth1.10.100', vlan_protocol: protocols });
  t.equal(await vlans(h), 'eth1.10 eth1.10.100');
  const seen = await capture(
    (argv) => p.spawnNet(argv),
    '-e -i eth0',
    async () => {
      t.ok(await ping('10.30.0.100', 40));
    },
  );
  t.match(seen, /802\.1Q-9?QinQ|0x88a8/);
  t.match(seen, /vlan 10, .*vlan 100, .* > 10\.30\.0\.100: ICMP echo request/);
  await leave(h, 'deep');
  t.equal(await vlans(h), '');
}

async function lives(t: Test, h: CnmHost): Promise<void> {
  await h.net('ip', 'link', 'add', 'link', 'eth1', 'name', 'eth1.5', 'type', 'vlan', 'id', '5');
  const ping = await joined(h, 'n1', '10.7.1.0/24', { parent: 'eth1.100' });
  for (const [name, subnet, parent] of [
    ['n0', '10.40.0.0/24', 'eth1.100'],
    ['n2', '10.42.0.0/24', 'eth1.5'],
    ['n3', '10.43.0.0/24', 'eth1.100.7'],
  ] as const)
    t.equal((await network(h, name, subnet, { parent })).status, 201, parent);
  const all = 'eth1.100 eth1.100.7 eth1.5';
  t.equal(await vlans(h), all);
  t.ok(await ping('10.7.1.100', 40));
  const other = await network(h, 'n4', '10.44.0.0/24', { parent: 'eth1.100', vlan_protocol: '802.1ad' });
  t.match(other.text, 'is there already with 802.1q; this network wants 802.1ad');
  const twin = await network(h, 'n4', '10.44.0.0/24', { parent: 'eth1', vlan: '5' });
  t.equal(twin.status, 201, 'the user’s own VLAN, said otherwise');
  await leave(h, 'n0', 'n2', 'n4');
  t.equal(await vlans(h), all, 'others are on it; the user’s stays');
  await h.net('ip', 'link', 'del', 'eth1.100');
  await until('what was deleted to be put back', 20_000, async () => (await vlans(h)) === all || undefined);
  await until(
    'its sandbox to be on it again',
    20_000,
    async () => (await ping('10.7.1.100', 5)) || undefined,
  );
  await leave(h, 'n1');
  t.equal(await vlans(h), all, 'n3 is on a VLAN within it');
  await leave(h, 'n3');
  t.equal(await vlans(h), 'eth1.5');
  await h.net('ip', 'link', 'del', 'eth1.5');
}

async function down(t: Test, h: CnmHost): Promise<void> {
  await h.sh('ip link add eth2 type veth peer far2 && ip link set far2 up');
  await joined(h, 'dark', '10.45.0.0/24', { parent: 'eth2.9' });
  const { body } = await admin(h, 'GET', '/v1/drift');
  t.match(body, { healthy: true }, 'nothing to put right');
  await h.net('ip', 'link', 'set', 'eth2', 'up');
  t.match(await h.net('ip', 'link', 'show', 'eth2.9'), ',UP,');
  await leave(h, 'dark');
  await h.net('ip', 'link', 'del', 'eth2');
}
