/*
 *   h1: cnmd in a mount namespace whose /proc/sys is read-only ── a network of cnm
 */
import t, { type Test } from 'tap';
import type { CnmHost } from '../lab/docker-host.ts';
import { openLab } from '../lab/lab.ts';
import { admin, holdings } from './crash-host.ts';

/** The daemon, with the sysctls that `line` sets before they cannot be set any more. */
async function readOnlyProcSys(t: Test, line: string): Promise<CnmHost> {
  const lab = await openLab(t);
  const h = await lab.bareHost();
  await h.killPlugin('SIGTERM');
  await h.sh(`${line}; mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys`);
  t.match(
    (await h.trySh('echo 1 > /proc/sys/net/ipv4/ip_forward')).stderr,
    /Read-only/,
    '/proc/sys is read-only',
  );
  await h.startPlugin();
  return h;
}

const NETWORK = { name: 'demo', subnets: ['10.40.0.0/24'], gateways: ['10.40.0.1'] };

t.test('E03: /proc/sys is read-only, and what is needed is right already', async (t) => {
  const h = await readOnlyProcSys(t, 'sysctl -qw net.ipv4.ip_forward=1');
  const reply = await admin(h, 'POST', '/v1/networks', NETWORK);
  t.equal(reply.status, 201, reply.text);
  await h.cnm('sandbox', 'create', 'web');
  t.same((await holdings(h)).wrong, []);
});

t.test('E03: /proc/sys is read-only, and what is needed is wrong', async (t) => {
  const h = await readOnlyProcSys(t, 'sysctl -qw net.ipv4.ip_forward=0');
  const before = await holdings(h);
  const reply = await admin(h, 'POST', '/v1/networks', NETWORK);
  t.ok(reply.status >= 400, `refused with ${reply.status}`);
  t.match(reply.text, /net\.ipv4\.ip_forward/, 'the message names it');
  t.match(reply.text, /EROFS|read-only/i, 'and says why it cannot be set');
  t.same(await holdings(h), before, 'nothing half-made');
  const docker = await h.plugin('cnm-bridge', 'NetworkDriver.CreateNetwork', {
    NetworkID: 'c3'.repeat(32),
    Options: { 'com.docker.network.generic': {} },
    IPv4Data: [{ AddressSpace: 'LocalDefault', Pool: '10.41.0.0/24', Gateway: '10.41.0.1/24' }],
    IPv6Data: [],
  });
  t.match(docker.text, /net\.ipv4\.ip_forward/, 'Docker shows it too');
  t.same(await holdings(h), before, 'nothing half-made');
  // A network that stays inside forwards nothing and needs nothing.
  const internal = await admin(h, 'POST', '/v1/networks', { ...NETWORK, internal: true });
  t.equal(internal.status, 201, internal.text);
});
