// lab: timeout 900
/*
 * cnm-macvlan with the addresses of the LAN's DHCP server (dhcp=true), on Docker Engine 20.10 and 28.5 and in a sandbox of our own.
 *
 *   lan ──┬── eth1 h: dockerd + cnm-macvlan ── on eth1: c1, c2, web         (no address of its own there)
 *         └── eth1 r: 10.20.0.9, dnsmasq: 10.20.0.100 to .120, T1 after 2 s and T2 after 4 s of 120 s
 *   h: eth2 ═ eth2 r, where no server is
 */
import t from 'tap';
import type { Test } from 'tap';
import type { Output } from '../lab/command.ts';
import { until } from '../lab/command.ts';
import { DhcpServer, type ServerLease } from '../lab/dhcp-server.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import type { Engine } from '../lab/engine.ts';
import type { Host } from '../lab/host.ts';
import { IMAGE } from '../lab/image.ts';
import { openLab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { attached } from './observe.ts';

const LONG = 60_000;
const SERVER = [
  '--dhcp-range=10.20.0.100,10.20.0.120,255.255.255.0,120s',
  '--no-ping',
  '--dhcp-option=6,10.20.0.53',
  '--dhcp-option=26,1400',
  '--dhcp-option=121,10.99.0.0/16,10.20.0.77,0.0.0.0/0,10.20.0.9',
  '--dhcp-option=option:T1,2s',
  '--dhcp-option=option:T2,4s',
];
const DHCP = ['--ipam-driver=null', '-o', 'dhcp=true', '-o'];

interface World {
  readonly h: DockerHost;
  readonly r: Host;
  readonly server: DhcpServer;
}

for (const engine of ['20.10', '28.5'] as const) {
  t.test(`cnm-macvlan with dhcp=true on Docker ${engine}`, (t) => onEngine(t, engine));
}

async function onEngine(t: Test, engine: Engine): Promise<void> {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ engine, plugin: 'sockets', drivers: ['macvlan'] });
  const r = await lab.peer({ name: 'r' });
  await lab.segment({ host: h, link: 'eth1' }, { host: r, link: 'eth1', addresses: ['10.20.0.9/24'] });
  await lab.link({ host: h, link: 'eth2' }, { host: r, link: 'eth2' });
  const world = { h, r, server: new DhcpServer(r, 'eth1', 'first', ...SERVER) };
  await world.server.start();
  await h.makeSandboxFolder();
  const before = await snapshot(h);
  await t.test('a container’s address, from the server and for as long as it says', (t) => life(t, world));
  if (engine === '20.10') {
    await create(h, 'dead', 'eth2');
    const dead = h.tryDocker('run', '--rm', '--network=dead', IMAGE, 'true');
    await t.test('a server that gives another address', (t) => moved(t, world));
    await t.test('no server', (t) => unanswered(t, world, dead));
    await t.test('a sandbox of our own', (t) => standalone(t, world));
    await t.test('an address that somebody has', (t) => taken(t, world));
    await t.test('what cannot be is refused by name, and changes nothing', (t) => refused(t, world));
  }
  await assertRestored(t, h, before);
  // dockerd, when it starts, puts its rules into another order.
  await t.test('an Engine that is stopped and started, and a MAC that the user chose', (t) =>
    engineAgain(t, world),
  );
  t.notMatch(await h.net('ip', '-br', 'link'), 'cnmm');
  await world.server.stop();
}

function create(h: DockerHost, name: string, parent = 'eth1'): Promise<string> {
  return h.docker('network', 'create', '--driver=cnm-macvlan', ...DHCP, `parent=${parent}`, name);
}

async function leaseOf({ server }: World, address: string): Promise<ServerLease | undefined> {
  return (await server.leases()).find((lease) => lease.address === address);
}

/** The lease when it ends later than it did: it was renewed. */
async function renewed(world: World, what: string, address: string): Promise<ServerLease> {
  const expires = (await leaseOf(world, address))?.expires ?? 0;
  return until(what, LONG, async () => {
    const lease = await leaseOf(world, address);
    return lease !== undefined && lease.expires > expires ? lease : undefined;
  });
}

/** Messages of a type and about an address that the server has had. */
function count({ server }: World, type: string, address = ''): number {
  return server.log.split('\n').filter((line) => line.includes(` ${type}(eth1) ${address}`)).length;
}

async function life(t: Test, world: World): Promise<void> {
  const { h, server } = world;
  await create(h, 'lan');
  await h.container('c1', 'lan');
  const { v4, mac } = await attached(h, 'c1', 'lan');
  t.match(v4, /^10\.20\.0\.1[012]\d$/, 'docker inspect has it');
  t.match(
    await h.inContainer('c1', 'ip', '-4', 'addr', 'show', 'eth0'),
    new RegExp(`mtu 1400 [^]*inet ${v4}/24 `),
  );
  const routes = await h.inContainer('c1', 'ip', 'route');
  t.match(routes, 'default via 10.20.0.9 dev eth0');
  t.match(routes, '10.99.0.0/16 via 10.20.0.77 dev eth0');
  t.ok(await h.containerPings('c1', '10.20.0.9', 3), 'the LAN is reached');
  const known = await until('the server to know the name', LONG, async () => {
    const lease = await leaseOf(world, v4);
    return lease?.name === 'c1' ? lease : undefined;
  });
  t.match(
    known,
    { mac, clientId: /^ff:(..:){4}00:03:00:01:/ },
    'with the MAC, and a client identifier (RFC 4361)',
  );
  t.notMatch(await h.docker('top', 'c1'), 'dhc', 'no client is in the container');
  t.notMatch(await h.inContainer('c1', 'ss', '-lnu0'), /:68\b|p_raw/, 'nor a socket of one');

  t.match(
    await h.cnm('endpoint', 'inspect', 'c1'),
    /address +10\.20\.0\.\d+\/24\n +lease +of 10\.20\.0\.9, until .*\n +client id +ff:[^]*host name +c1\n +its dns +10\.20\.0\.53\n/,
  );

  await renewed(world, 'a renewal', v4);
  await h.killPlugin();
  await h.startPlugin();
  await renewed(world, 'a renewal by the next daemon', v4);
  await server.stop();
  await server.start();
  await renewed(world, 'a renewal by the server that is back', v4);

  const discovered = count(world, 'DHCPDISCOVER');
  await h.docker('restart', '--time', '0', 'c1');
  t.match(await attached(h, 'c1', 'lan'), { v4, mac }, 'the same after a restart');
  t.equal(count(world, 'DHCPDISCOVER'), discovered, 'which was asked for by name (INIT-REBOOT)');
  t.equal((await h.tryCnm('doctor')).code, 0, 'store and kernel agree');

  await h.container('c2', 'lan');
  const second = (await attached(h, 'c2', 'lan')).v4;
  t.not(second, v4);
  t.ok(await h.containerPings('c1', second, 3));
  await h.docker('rm', '--force', 'c1');
  await until('the release of c1', LONG, async () => (await leaseOf(world, v4)) === undefined || undefined);
  t.equal(count(world, 'DHCPRELEASE', v4), 1);
  await h.docker('stop', '--time', '0', 'c2');
  t.ok(await leaseOf(world, second), 'one that is stopped may come back');
  await h.docker('rm', 'c2');
  await h.docker('network', 'rm', 'lan');
  await until('the release of c2', LONG, async () => (await server.leases()).length === 0 || undefined);
}

/** The LAN gets other addresses, and a server that says no to the old ones. */
async function moved(t: Test, world: World): Promise<void> {
  const { h, r, server } = world;
  await create(h, 'lan');
  await h.container('c1', 'lan');
  const { v4 } = await attached(h, 'c1', 'lan');
  await server.stop();
  const others = SERVER.map((option) => option.replace('10.20.0.100,10.20.0.120', '10.20.0.150,10.20.0.170'));
  const second = new DhcpServer(r, 'eth1', 'second', ...others, '--dhcp-authoritative');
  await second.start();
  // The address comes before its routes, and both before the record is as it was made.
  const inside = () => h.inContainer('c1', 'sh', '-c', 'ip -4 addr show eth0; ip route');
  const isMoved = (text: string) =>
    /inet 10\.20\.0\.1[567]\d\/24/.test(text) && text.includes('default via 10.20.0.9 dev eth0');
  await until('the other address', LONG, async () => isMoved(await inside()) || undefined);
  t.notMatch(await inside(), v4, 'in the place of the old one');
  await until('the record of it', LONG, async () => (await h.tryCnm('doctor')).code === 0 || undefined);
  t.ok(await h.containerPings('c1', '10.20.0.9', 3));
  t.equal((await h.tryCnm('doctor')).code, 0);
  await h.docker('restart', '--time', '0', 'c1');
  t.match((await attached(h, 'c1', 'lan')).v4, /^10\.20\.0\.1[567]/, 'docker inspect has it after a restart');
  await h.docker('rm', '--force', 'c1');
  await h.docker('network', 'rm', 'lan');
  await until('the release', LONG, async () => (await second.leases()).length === 0 || undefined);
  await second.stop();
  // What it had given to c1 the first one knows still.
  await r.sh(`rm -f ${r.dir}/first.leases`);
  await server.start();
}

async function engineAgain(t: Test, world: World): Promise<void> {
  const { h, server } = world;
  await create(h, 'lan');
  const chosen = '02:42:0a:14:00:77';
  const run = ['run', '--detach', '--restart=always', '--name=c1', '--network=lan'];
  await h.docker(...run, `--mac-address=${chosen}`, IMAGE);
  const { v4 } = await attached(h, 'c1', 'lan');
  t.match(await leaseOf(world, v4), { mac: chosen });
  const discovered = count(world, 'DHCPDISCOVER');
  await h.stopDocker();
  await h.startDocker();
  const now = await until('the container to run again', LONG, async () => {
    const { v4: address } = await attached(h, 'c1', 'lan');
    return address === '' ? undefined : address;
  });
  t.equal(now, v4);
  t.equal(count(world, 'DHCPDISCOVER'), discovered);
  await h.docker('rm', '--force', 'c1');
  await h.docker('network', 'rm', 'lan');
  await until('the release', LONG, async () => (await server.leases()).length === 0 || undefined);
}

async function standalone(t: Test, world: World): Promise<void> {
  const { h, server } = world;
  await h.cnm('network', 'create', '-d', 'cnm-macvlan', '-o', 'parent=eth1', '-o', 'dhcp=true', 'own');
  await h.cnm('sandbox', 'create', 'web');
  await h.cnm('sandbox', 'join', 'web', '--network', 'own', '--driver-opt', 'dhcp.client_id=web-1');
  const [lease] = await server.leases();
  t.match(lease, { name: 'web', clientId: '00:77:65:62:2d:31' });
  const inside = await h.cnm('sandbox', 'exec', 'web', '--', 'ip', 'addr', 'show', 'eth0');
  t.match(inside, `inet ${lease?.address ?? ''}/24`);
  t.match(inside, 'mtu 1400');
  t.match(await h.cnm('sandbox', 'exec', 'web', '--', 'ip', 'route'), 'default via 10.20.0.9 dev eth0');
  await h.cnm('sandbox', 'exec', 'web', '--', 'ping', '-c1', '-W3', '10.20.0.9');
  await renewed(world, 'a renewal', lease?.address ?? '');
  await h.cnm('sandbox', 'rm', 'web');
  await h.cnm('network', 'rm', 'own');
  await until('the release', LONG, async () => (await server.leases()).length === 0 || undefined);
}

async function taken(t: Test, { h, r }: World): Promise<void> {
  const [, theirs = ''] = /ether (\S+)/.exec(await r.net('ip', 'link', 'show', 'eth1')) ?? [];
  for (const probe of ['fail', 'warn']) {
    const options = [
      '--subnet=10.20.0.0/24',
      '--gateway=10.20.0.1',
      '-o',
      'parent=eth1',
      '-o',
      `probe=${probe}`,
    ];
    await h.docker('network', 'create', '--driver=cnm-macvlan', ...options, probe);
    const run = (ip: string) => h.tryDocker('run', '--rm', `--network=${probe}`, `--ip=${ip}`, IMAGE, 'true');
    const clash = await run('10.20.0.9');
    if (probe === 'fail') {
      t.equal(clash.code, 125);
      t.match(
        clash.stderr,
        new RegExp(`probe 10.20.0.9 on eth1: EADDRINUSE .${theirs} has 10.20.0.9 already`),
      );
      t.equal((await run('10.20.0.31')).code, 0, 'another is free');
    } else {
      t.equal(clash.code, 0, 'it starts');
      await until(
        'the warning',
        LONG,
        () => /WARN .*somebody on the LAN has an address/.test(h.logs()) || undefined,
      );
    }
    await h.docker('network', 'rm', probe);
  }
}

async function refused(t: Test, { h }: World): Promise<void> {
  const attempt = async (words: readonly string[], why: RegExp) => {
    const { code, stderr } = await h.tryDocker(
      'network',
      'create',
      '--driver=cnm-macvlan',
      ...words,
      'refused',
    );
    t.not(code, 0);
    t.match(stderr, why);
  };
  await attempt(
    ['--subnet=10.20.0.0/24', '-o', 'parent=eth1', '-o', 'dhcp=true'],
    /has subnet 10\.20\.0\.0\/24 of an IPAM/,
  );
  await attempt(['--ipam-driver=null', '-o', 'dhcp=true'], /dhcp=true needs the interface/);
  await attempt([...DHCP, 'parent=eth1', '-o', 'host_access=true'], /do not go together/);
  await attempt(['--ipam-driver=null', '-o', 'parent=eth1', '-o', 'dhcp=maybe'], /dhcp cannot be "maybe"/);
  await h.docker(
    'network',
    'create',
    '--driver=cnm-macvlan',
    '--subnet=10.21.0.0/24',
    '-o',
    'parent=eth1',
    'plain',
  );
  t.match(
    await h.plugin('cnm-macvlan', 'NetworkDriver.CreateEndpoint', {
      NetworkID: await h.docker('network', 'inspect', '--format', '{{.Id}}', 'plain'),
      EndpointID: 'e'.repeat(64),
      Interface: { Address: '10.21.0.2/24' },
      Options: { 'dhcp.hostname': 'web' },
    }),
    { body: { Err: /are for the DHCP server of a network with dhcp=true/ } },
  );
  await h.docker('network', 'rm', 'plain');
}

/** On a wire where no server is; it takes its time, beside the others. */
async function unanswered(t: Test, { h }: World, run: Promise<Output>): Promise<void> {
  const { code, stderr } = await run;
  t.equal(code, 125);
  t.match(stderr, /No DHCP server answered on eth2 within 10 s/);
  t.notMatch(await h.net('ip', '-br', 'link'), 'cnmm', 'nothing of it is there');
  await h.docker('network', 'rm', 'dead');
}
