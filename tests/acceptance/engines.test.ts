/*
 * The whole basic path, on every Engine and in both forms of the plugin: everything else stands on it. For each, one host:
 *
 *   world 203.0.113.1, 2001:db8:ffff::1 ── uplink ── h1: dockerd + cnm-bridge ── dual 10.9.0.0/24, fd00:9::/64 ── c1, c2
 *                                                                            ├─ chosen (cnm-ipam chooses) ────── c3
 *                                                                            ├─ closed (internal) ────────────── c4, c5
 *                                                                            └─ six fd00:6::/64, no IPv4 ─────── c6, c7
 *
 * The last network only on Docker 28.5, which has `--ipv4=false` (V09).
 */
import t, { type Test } from 'tap';
import type { DockerHost } from '../lab/docker-host.ts';
import type { Engine } from '../lab/engine.ts';
import { openLab, WORLD, WORLD6 } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { assertAgreement } from './agreement.ts';

interface Form {
  readonly engine: Engine;
  readonly plugin: 'sockets' | 'managed';
}

const FORMS: readonly Form[] = [
  { engine: '20.10', plugin: 'sockets' },
  { engine: '28.5', plugin: 'sockets' },
  { engine: '28.5', plugin: 'managed' },
  { engine: '20.10', plugin: 'managed' },
  { engine: '26.1', plugin: 'sockets' },
];

const DUAL = ['--ipv6', '--subnet', '10.9.0.0/24', '--subnet', 'fd00:9::/64'];

function create(h: DockerHost, name: string, ...options: string[]): Promise<string> {
  return h.docker('network', 'create', '--driver', h.driver('bridge'), ...options, name);
}

/** By name, and with as many addresses as the network has families. */
async function byName(h: DockerHost, from: string, to: string, family: '-4' | '-6'): Promise<boolean> {
  return (await h.tryExec(from, 'ping', family, '-c1', '-W10', to)).code === 0;
}

/** As `ip -brief` shows the container's links but lo: name, state, addresses. */
function links(h: DockerHost, container: string): Promise<string> {
  return h.inContainer(container, 'ip', '-brief', 'address', 'show', 'scope', 'global');
}

for (const form of FORMS) {
  t.test(`Docker ${form.engine}, plugin as ${form.plugin}`, async (t) => {
    const lab = await openLab(t);
    const h = await lab.dockerHost(form);
    // Forwarding stays on after the first network that needs it (drivers/bridge/README.md).
    await h.sh('sysctl -qw net.ipv6.conf.all.forwarding=1');
    const before = await snapshot(h);
    // As a managed plugin the network driver and the IPAM driver have one name.
    const ipam = form.plugin === 'managed' ? h.driver('bridge') : 'cnm-ipam';
    await create(h, 'dual', ...DUAL);
    await create(h, 'chosen', '--ipam-driver', ipam);
    await create(h, 'closed', '--internal');
    await h.container('c1', 'dual', '--ip', '10.9.0.11', '--ip6', 'fd00:9::11');
    await h.container('c2', 'dual', '--ip', '10.9.0.12', '--ip6', 'fd00:9::12');
    await h.container('c3', 'chosen');
    await h.container('c4', 'closed');
    await h.container('c5', 'closed');
    if (form.engine === '28.5') await gatewayQuestion(t, h);
    await reach(t, h);
    await internal(t, h);
    if (form.engine === '28.5') await onlyIpv6(t, h);
    await changes(t, h);
    await drawing(t, h);
    await t.test('nothing is left', async (t) => {
      await assertAgreement(t, h, 'about all of it');
      const names = (await h.docker('ps', '--all', '--format', '{{.Names}}')).split('\n');
      await h.docker('rm', '--force', ...names);
      const networks = await h.docker('network', 'ls', '--quiet', '--filter', `driver=${h.driver('bridge')}`);
      await h.docker('network', 'rm', ...networks.split('\n'));
      await assertAgreement(t, h, 'when all is removed');
      await assertRestored(t, h, before);
      const { code, stdout } = await h.tryCnm('doctor');
      t.equal(code, 0, stdout);
    });
  });
}

/** Engines from 28 on ask before they allocate the gateway. With which networks the answer is yes, is P19. */
function gatewayQuestion(t: Test, h: DockerHost) {
  return t.test('GwAllocCheck: Docker asks about gateways before it makes a network', (t) => {
    const log = h.cnmd.tag === '' ? h.cnmd.log : h.dockerLog;
    const calls = [...log.matchAll(/NetworkDriver\.(GwAllocCheck|CreateNetwork): (?:answered|done)/g)];
    const pair = ['GwAllocCheck', 'CreateNetwork'];
    t.same(
      calls.map(([, call]) => call),
      [...pair, ...pair, ...pair],
    );
    t.end();
  });
}

function reach(t: Test, h: DockerHost) {
  return t.test('by address, by name, and the world through masquerade', async (t) => {
    for (const address of ['10.9.0.12', 'fd00:9::12', WORLD, WORLD6])
      t.ok(await h.containerPings('c1', address), `c1 → ${address}`);
    t.ok(await byName(h, 'c1', 'c2', '-4'), 'c1 → c2 by name');
    t.ok(await byName(h, 'c1', 'c2', '-6'), 'c1 → c2 by name over IPv6');
    t.ok(await h.pings('10.9.0.11'), 'the host → c1');
    t.ok(await h.containerPings('c3', WORLD), 'c3, whose address is of our IPAM, → world');
    t.notOk(await h.containerPings('c3', '10.9.0.11', 1), 'another network is out of reach');
  });
}

function internal(t: Test, h: DockerHost) {
  return t.test('an internal network has no way out', async (t) => {
    t.ok(await byName(h, 'c4', 'c5', '-4'), 'c4 → c5 by name');
    t.notOk(await h.containerPings('c4', WORLD, 1), 'c4 → world');
    t.notOk(await h.containerPings('c4', h.address, 1), 'c4 → the host’s other address');
    t.notOk(await h.containerPings('c1', (await links(h, 'c4')).split(/[ /]+/)[2] ?? '', 1), 'c1 → c4');
  });
}

function onlyIpv6(t: Test, h: DockerHost) {
  return t.test('V09: a network with IPv6 alone', async (t) => {
    await create(h, 'six', '--ipv4=false', '--ipv6', '--subnet', 'fd00:6::/64');
    await h.container('c6', 'six');
    await h.container('c7', 'six', '--ip6', 'fd00:6::17');
    t.equal((await h.inContainer('c6', 'ip', '-4', '-o', 'address', 'show', 'dev', 'eth0')).trim(), '');
    t.equal((await h.inContainer('c6', 'ip', '-4', 'route')).trim(), '');
    t.ok(await h.containerPings('c6', 'fd00:6::17'));
    t.ok(await byName(h, 'c6', 'c7', '-6'), 'by name');
    t.ok(await h.containerPings('c6', WORLD6), 'and the world');
  });
}

function changes(t: Test, h: DockerHost) {
  return t.test('connect, disconnect, restart', async (t) => {
    await h.docker('network', 'connect', 'chosen', 'c2');
    t.match((await links(h, 'c2')).trim().split('\n'), [/^eth0@.* 10\.9\.0\.12\/24/, /^eth1@/]);
    t.ok(await byName(h, 'c2', 'c3', '-4'), 'connected: c2 → c3');
    t.ok(await byName(h, 'c2', 'c1', '-4'), 'and still → c1');
    await h.docker('network', 'disconnect', 'dual', 'c2');
    t.notOk(await h.containerPings('c1', '10.9.0.12', 1), 'disconnected: out of c1’s reach');
    t.ok(await h.containerPings('c2', WORLD), 'the other network is now its way to the world');
    await h.docker('network', 'connect', '--ip', '10.9.0.12', '--ip6', 'fd00:9::12', 'dual', 'c2');
    await h.docker('restart', 'c2');
    t.equal((await links(h, 'c2')).trim().split('\n').length, 2, 'restarted: on both');
    t.ok(await h.containerPings('c1', '10.9.0.12'), 'at the address that was asked for');
    t.ok(await h.containerPings('c1', 'fd00:9::12'));
    t.ok(await byName(h, 'c2', 'c3', '-4'));
  });
}

function drawing(t: Test, h: DockerHost) {
  return t.test('cnm draws the chain, with the names that Docker gave', async (t) => {
    const drawn = await h.cnm('network', 'inspect', 'dual');
    const bridge = `cnm${(await h.docker('network', 'inspect', '--format', '{{.Id}}', 'dual')).slice(0, 12)}`;
    t.match(drawn, /^network dual\n.*\n +driver +cnm-bridge, made by Docker$/m);
    t.match(drawn, new RegExp(`bridge ${bridge} +up .* 10\\.9\\.0\\.1/24 +fd00:9::1/64`));
    for (const [name, number] of [
      ['c1', 11],
      ['c2', 12],
    ])
      t.match(
        drawn,
        new RegExp(
          `-- veth veth\\w+h +up .*\n.*-- eth\\d +up .* 10\\.9\\.0\\.${number}/24 +fd00:9::${number}/64.*\n.* container ${name}, endpoint`,
        ),
        `${name}: veth, interface inside and container`,
      );
    t.match(drawn, /default via 10\.9\.0\.1$/m);
    t.match(drawn, new RegExp(`nft inet cnm @masquerade4 +${bridge}`));
    t.match(await h.cnm('network', 'ls'), /\bchosen\b/);
    t.match(await h.cnm('endpoint', 'ls'), /\bc3 +chosen\b.* container c3 /);
  });
}
