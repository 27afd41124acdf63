/*
 * The basic path on a real Engine, in both forms of the plugin: everything else stands on it.
 *
 *   world 203.0.113.1 ── uplink ── r
 *                          └────── h1: dockerd + cnm-bridge ── n1 10.9.0.0/24, fd00:9::/64 ── c1, c2
 *                                                           └─ n2 (Docker chooses) ────────── c3
 */
import t from 'tap';
import type { DockerHostOptions } from '../lab/lab.ts';
import { openLab, WORLD, WORLD6 } from '../lab/lab.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';

const HOSTS: readonly DockerHostOptions[] = [
  { engine: '20.10', plugin: 'sockets' },
  { engine: '20.10', plugin: 'managed' },
  { engine: '28.5', plugin: 'sockets' },
  { engine: '28.5', plugin: 'managed' },
];

/** `docker network inspect` of one container's addresses, without prefix length. */
async function addressesOf(
  h: DockerHost,
  container: string,
  network: string,
): Promise<[v4: string, v6: string]> {
  const format = `{{with index .NetworkSettings.Networks "${network}"}}{{.IPAddress}} {{.GlobalIPv6Address}}{{end}}`;
  const [v4 = '', v6 = ''] = (await h.docker('inspect', '--format', format, container)).split(' ');
  return [v4, v6];
}

for (const options of HOSTS) {
  t.test(`Docker ${options.engine ?? ''}, plugin as ${options.plugin ?? ''}`, async (t) => {
    const lab = await openLab(t);
    const h = await lab.dockerHost(options);
    // Forwarding stays on after the first network that needs it (drivers/bridge/README.md), as Docker's own driver leaves it.
    await h.sh('sysctl -qw net.ipv6.conf.all.forwarding=1');
    const before = await snapshot(h);

    const subnets = ['--subnet', '10.9.0.0/24', '--ipv6', '--subnet', 'fd00:9::/64'];
    await h.docker('network', 'create', '--driver', h.driver('bridge'), ...subnets, 'n1');
    await h.docker('network', 'create', '--driver', h.driver('bridge'), 'n2');
    await h.container('c1', 'n1');
    await h.container('c2', 'n1');
    await h.container('c3', 'n2');
    const [c1, c1v6] = await addressesOf(h, 'c1', 'n1');
    const [c2, c2v6] = await addressesOf(h, 'c2', 'n1');
    const [c3] = await addressesOf(h, 'c3', 'n2');

    t.test('containers of one network reach each other by address and by name', async (t) => {
      t.ok(await h.containerPings('c1', c2), `c1 → ${c2}`);
      t.ok(await h.containerPings('c2', c1), `c2 → ${c1}`);
      t.ok(await h.containerPings('c1', c2v6), `c1 → ${c2v6}`);
      t.ok(await h.containerPings('c2', c1v6), `c2 → ${c1v6}`);
      t.match(await h.exec('c1', 'ping', '-c1', '-W1', 'c2'), '1 received');
      t.match(await h.exec('c2', 'ping', '-c1', '-W1', 'c1'), '1 received');
      t.ok(await h.pings(c1), 'the host reaches its container');
    });

    t.test('they reach the world, which sees the host', async (t) => {
      t.ok(await h.containerPings('c1', WORLD));
      t.ok(await h.containerPings('c1', WORLD6));
      t.ok(await h.containerPings('c3', WORLD));
      // The peer has no route to the containers' networks: that an answer comes shows the masquerade.
      const r = await lab.peer({ name: 'r' });
      t.ok(await h.containerPings('c1', r.address), 'and a machine on the host’s segment');
    });

    t.test('networks are apart', async (t) => {
      t.notOk(await h.containerPings('c1', c3));
      t.notOk(await h.containerPings('c3', c1));
    });

    t.test('a disconnected container is gone for the others and has no link', async (t) => {
      await h.docker('network', 'disconnect', 'n1', 'c2');
      t.notOk(await h.containerPings('c1', c2));
      t.notMatch(await h.inContainer('c2', 'ip', '-br', 'link'), /eth/);
      await h.docker('network', 'connect', '--ip', c2, 'n1', 'c2');
      t.ok(await h.containerPings('c1', c2), 'connected again it is there');
    });

    t.test('nothing is left', async (t) => {
      await h.docker('rm', '--force', 'c1', 'c2', 'c3');
      await h.docker('network', 'rm', 'n1', 'n2');
      await assertRestored(t, h, before);
      const doctor = await h.tryCnm('doctor');
      t.equal(doctor.code, 0, doctor.stdout + doctor.stderr);
    });
  });
}
