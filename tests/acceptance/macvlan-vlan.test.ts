// lab: vm 8021q
// lab: timeout 1200
/*
 * VLANs of the macvlan driver, with packets and no Docker: two VLANs of one interface (M16), tags within tags, and interfaces that come and
 * go with their networks.
 *
 *   h: cnmd                                              trunk
 *     eth1.100 ────── one ─┐                   ┌─ eth0.100  10.0.0.200, 10.7.0.200
 *     eth1.200 ────── two ─┼─ eth1 ══ eth0 p ──┼─ eth0.200  10.0.0.201, 10.7.0.201
 *     eth1.10.100 ── deep ─┘                   └─ eth0.10 (802.1ad) ── eth0.10.100  10.30.0.1
 */
import t from 'tap';
import type { Test } from 'tap';
import type { CnmHost } from '../lab/docker-host.ts';
import type { Host } from '../lab/host.ts';
import { openLab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { trunkPeer } from '../lab/vlan.ts';
import { admin } from '../faults/crash-host.ts';
import { until } from '../lab/command.ts';
import type { Reply } from '../lab/unix-http.ts';
import { capture } from './observe.ts';

/** The VLAN interfaces of the host, by name. */
async function vlans(h: CnmHost): Promise<string> {
  const lines = (await h.net('ip', '-br', 'link', 'show', 'type', 'vlan')).trim().split('\n');
  return lines.map((line) => line.split('@')[0] ?? '').join(' ');
}

t.test('VLANs of cnm-macvlan', async (t) => {
  const lab = await openLab(t);
  const h = await lab.bareHost({ drivers: ['macvlan'] });
  await lab.link({ host: h, link: 'eth2' }, { host: lab.world, link: 'unused' });
  const p = await trunkPeer(
    lab,
    { host: h, link: 'eth1' },
    { tags: [100], addresses: ['10.0.0.200/24', '10.7.0.200/24'] },
    { tags: [200], addresses: ['10.0.0.201/24', '10.7.0.201/24'] },
    { tags: [10, 100], protocol: '802.1ad', addresses: ['10.30.0.1/24'] },
  );
  const before = await snapshot(h);
  await t.test('M16 two VLANs of one parent do not see each other', (t) => apart(t, h));
  await t.test('tags within tags', (t) => nested(t, h, p));
  await t.test('what is made goes with its last network; what was there stays', (t) => lives(t, h));
  await t.test('a parent that is down takes its VLANs up when it comes up', (t) => down(t, h));
  await assertRestored(t, h, before);
});

/** A network of `cnm` with a sandbox of its own on it: no containers, for here each takes long to start. Gives what runs a ping in it. */
async function joined(h: CnmHost, name: string, subnet: string, options: Options): Promise<Ping> {
  await network(h, name, subnet, options);
  const made = await admin(h, 'POST', '/v1/sandboxes', { name });
  const { path } = made.body as { readonly path: string };
  const reply = await admin(h, 'POST', `/v1/sandboxes/${name}/join`, { network: name });
  if (reply.status >= 300) throw new Error(reply.text);
  return async (to, seconds) => {
    const ping = ['nsenter', `--net=${path}`, '--', 'ping', '-n', '-c1', `-W${seconds}`, to];
    return (await h.tryRun(ping)).code === 0;
  };
}

type Options = Readonly<Record<string, string>>;
type Ping = (to: string, seconds: number) => Promise<boolean>;

async function network(h: CnmHost, name: string, subnet: string, options: Options): Promise<Reply> {
  return admin(h, 'POST', '/v1/networks', { name, driver: 'cnm-macvlan', subnets: [subnet], options });
}

async function leave(h: CnmHost, ...names: readonly string[]): Promise<void> {
  for (const name of names) {
    await admin(h, 'DELETE', `/v1/sandboxes/${name}`);
    await admin(h, 'DELETE', `/v1/networks/${name}`);
  }
}

/** Each VLAN has a machine with an address of the other's subnet. */
async function apart(t: Test, h: CnmHost): Promise<void> {
  const one = await joined(h, 'one', '10.0.0.0/24', { parent: 'eth1', vlan: '100' });
  const two = await joined(h, 'two', '10.7.0.0/24', { parent: 'eth1.200' });
  t.ok(await one('10.0.0.200', 5), 'VLAN 100');
  t.ok(await two('10.7.0.201', 5), 'VLAN 200');
  t.notOk(await one('10.0.0.201', 1), 'not VLAN 200');
  t.notOk(await two('10.7.0.200', 1), 'not VLAN 100');
  await leave(h, 'one', 'two');
  t.equal(await vlans(h), '');
}

async function nested(t: Test, h: CnmHost, p: Host): Promise<void> {
  const ping = await joined(h, 'deep', '10.30.0.0/24', {
    parent: 'eth1.10.100',
    vlan_protocol: '802.1ad,802.1q',
  });
  t.equal(await vlans(h), 'eth1.10 eth1.10.100');
  const seen = await capture(
    (argv) => p.spawnNet(argv),
    '-e -i eth0',
    async () => {
      t.ok(await ping('10.30.0.1', 5));
    },
  );
  t.match(seen, /vlan 10, .*vlan 100, .* > 10\.30\.0\.1: ICMP echo request/);
  await leave(h, 'deep');
  t.equal(await vlans(h), '');
}

async function lives(t: Test, h: CnmHost): Promise<void> {
  await h.net('ip', 'link', 'add', 'link', 'eth1', 'name', 'eth1.5', 'type', 'vlan', 'id', '5');
  for (const [index, parent] of ['eth1.100', 'eth1.100', 'eth1.5', 'eth1.100.7'].entries())
    t.equal((await network(h, `n${index}`, `10.4${index}.0.0/24`, { parent })).status, 201, parent);
  const all = 'eth1.5 eth1.100 eth1.100.7';
  t.equal(await vlans(h), all);
  const other = await network(h, 'n4', '10.44.0.0/24', { parent: 'eth1.100', vlan_protocol: '802.1ad' });
  t.match(other.text, 'is there already with 802.1q; this network wants 802.1ad');
  const twin = await network(h, 'n4', '10.44.0.0/24', { parent: 'eth1', vlan: '5' });
  t.equal(twin.status, 201, 'the user’s own VLAN, said otherwise');
  await leave(h, 'n0', 'n2', 'n4');
  t.equal(await vlans(h), all, 'others are on it; the user’s stays');
  await h.net('ip', 'link', 'del', 'eth1.100');
  await until('what was deleted to be put back', 20_000, async () => (await vlans(h)) === all || undefined);
  await leave(h, 'n1');
  t.equal(await vlans(h), all, 'n3 is on a VLAN within it');
  await leave(h, 'n3');
  t.equal(await vlans(h), 'eth1.5');
  await h.net('ip', 'link', 'del', 'eth1.5');
}

async function down(t: Test, h: CnmHost): Promise<void> {
  await h.net('ip', 'link', 'set', 'eth2', 'down');
  await joined(h, 'dark', '10.45.0.0/24', { parent: 'eth2.9' });
  const { body } = await admin(h, 'GET', '/v1/drift');
  t.match(body, { healthy: true }, 'nothing to put right');
  await h.net('ip', 'link', 'set', 'eth2', 'up');
  t.match(await h.net('ip', 'link', 'show', 'eth2.9'), ',UP,');
  await leave(h, 'dark');
}
