/*
 * Names on networks of the other drivers, at the doors that they have.
 *
 *   h: dockerd 20.10 + cnm-macvlan, cnm-overlay + the resolver
 *    ├── lan   cnm-macvlan  10.76.0.0/24, no parent   -o dns=on -o dns.servers=127.0.0.101   m1, m2
 *    ├── over  cnm-overlay  10.77.0.0/24 --internal, no peer   -o dns=on                     o1, o2
 *    └── mute  cnm-overlay  10.78.0.0/24 --internal, no peer   -o dns=off                    q1
 */
import { join } from 'node:path';
import t from 'tap';
import { until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { NODE, REPOSITORY } from '../lab/host.ts';
import { openLab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { dig } from './dig.ts';

const OWN = '@127.0.0.12';

async function answers(h: DockerHost, container: string, ...words: string[]): Promise<string> {
  return (await dig(await h.sandbox(container), ...words)).answers.join();
}

const eventually = (h: DockerHost, wanted: string, container: string, ...words: string[]) =>
  until(`${words.join(' ')} from ${container} to be ${wanted}`, 30_000, async () => {
    return (await answers(h, container, ...words)) === wanted || undefined;
  });

t.test('names on macvlan and overlay networks', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets', drivers: ['bridge', 'macvlan', 'overlay'] });
  // The first overlay network makes it, and it stays.
  await h.sh('mkdir -p /run/cnm/netns');
  const before = await snapshot(h);
  const create = (driver: string, subnet: string, name: string, ...options: string[]) =>
    h.docker(
      ...['network', 'create', '-d', driver, '--subnet', subnet],
      ...options.flatMap((one) => ['-o', one]),
      // Docker would make docker_gwbridge for a way out, and keep it.
      ...(driver === 'cnm-overlay' ? ['--internal'] : []),
      name,
    );
  const run = (name: string, network: string, address: string) =>
    h.docker(
      'run',
      '-d',
      '--name',
      name,
      '--network',
      network,
      '--ip',
      address,
      '--dns',
      '127.0.0.12',
      'cnm-lab',
    );

  t.test('macvlan: D01 inside of containers', async (t) => {
    const program = join(REPOSITORY, 'tests/acceptance/dns-upstream.ts');
    const server = h.spawnNet([NODE, program, '127.0.0.101', '192.0.2.101']);
    await until('the server', 20_000, () => server.stdout.includes('ready') || undefined);
    await create('cnm-macvlan', '10.76.0.0/24', 'lan', 'dns=on', 'dns.servers=127.0.0.101');
    await run('m1', 'lan', '10.76.0.21');
    await run('m2', 'lan', '10.76.0.22');
    await eventually(h, '10.76.0.22', 'm1', OWN, 'm2');
    t.equal(await answers(h, 'm1', OWN, 'm2.lan'), '10.76.0.22');
    t.equal(await answers(h, 'm1', OWN, '+tcp', '-x', '10.76.0.22'), 'm2.lan.');
    t.equal(await answers(h, 'm1', '@127.0.0.11', 'away.example'), '192.0.2.101', 'by Docker’s own');
    t.match(await h.exec('m1', 'ping', '-c1', '-W3', 'm2'), '(10.76.0.22)');
    const { stderr } = await h.tryDocker('network', 'create', '-d', 'cnm-macvlan', '-o', 'dns=gateway', 'no');
    t.match(stderr, /dns cannot be "gateway": it must be one of on, off/);
    await h.docker('rm', '-f', 'm1', 'm2');
    await h.docker('network', 'rm', 'lan');
    await server.kill('SIGKILL');
  });

  const overlay = [`peers=${h.address}`, 'ip-range=any'];
  t.test('overlay: D01 inside of containers and at the gateway, in the network’s own namespace', async (t) => {
    await create('cnm-overlay', '10.77.0.0/24', 'over', 'vni=77', 'dns=on', ...overlay);
    for (const round of ['first', 'again']) {
      await run('o1', 'over', '10.77.0.21');
      await run('o2', 'over', '10.77.0.22');
      for (const door of [OWN, '@10.77.0.1']) {
        await eventually(h, '10.77.0.22', 'o1', door, 'o2');
        t.equal(await answers(h, 'o1', door, '+tcp', 'o2.over'), '10.77.0.22', `${round}: ${door}`);
        t.equal(await answers(h, 'o1', door, '-x', '10.77.0.22'), 'o2.over.', `${round}: ${door}`);
      }
      t.match(await h.cnm('dns', 'ls'), /gateway of over +10\.77\.0\.1/);
      // With the last container the namespace goes, and the next one makes another.
      await h.docker('rm', '-f', 'o1', 'o2');
    }
    await h.docker('network', 'rm', 'over');
  });

  t.test('overlay: not at the gateway, with dns=off', async (t) => {
    await create('cnm-overlay', '10.78.0.0/24', 'mute', 'vni=78', 'dns=off', ...overlay);
    await run('q1', 'mute', '10.78.0.21');
    await until('its name', 30_000, async () => /q1/.test(await h.cnm('dns', 'ls', 'mute')) || undefined);
    t.notMatch(await h.cnm('dns', 'ls'), /10\.78\.0\.1\b/);
    t.equal((await dig(await h.sandbox('q1'), '@10.78.0.1', 'q1')).status, 'none');
    await h.docker('rm', '-f', 'q1');
    await h.docker('network', 'rm', 'mute');
  });

  t.test('nothing stays', (t) => assertRestored(t, h, before));
});
