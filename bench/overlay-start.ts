/**
 * How long after a container's start on one host another host's container reaches it: cnm-overlay with an etcd, and Docker's own overlay (Swarm), on
 * the same two Engines, in turns.
 *
 *   uplink ──┬── etcd
 *            ├── eth0 h1 (dockerd 20.10, cnmd): the one that starts
 *            └── eth0 h2 (dockerd 20.10, cnmd): the one that asks for it all the time
 */
import { EtcdHost } from '../tests/cluster/etcd-host.ts';
import { Running } from '../tests/lab/command.ts';
import type { DockerHost } from '../tests/lab/docker-host.ts';
import type { Lab } from '../tests/lab/lab.ts';
import { alternate, type Row, row } from './side-by-side.ts';

const ROUNDS = 15;

/** Who asks forgets what it did not find, or it would wait a second before it asks again. In ms since 1970. */
const ASK = (address: string) =>
  `until ping -qc1 -W0.01 ${address} > /dev/null; do ip neighbour flush dev eth0; done; date +%s%3N`;

async function start(
  h1: DockerHost,
  h2: DockerHost,
  network: string,
  address: string,
): Promise<Record<string, number>> {
  const asker = new Running([
    'nsenter',
    `--net=${await h2.sandbox(`${network}-asker`)}`,
    '--',
    'bash',
    '-c',
    ASK(address),
  ]);
  const begun = Date.now();
  await h1.container('new', network, '--ip', address);
  const reached = Number((await asker.exited).stdout);
  const program = Date.parse(await h1.docker('inspect', '--format', '{{.State.StartedAt}}', 'new'));
  await h1.docker('rm', '-f', 'new');
  return { asked: reached - begun, started: reached - program };
}

export async function overlayStartBench(lab: Lab): Promise<readonly Row[]> {
  const store = await lab.peer({ name: 'store' });
  await new EtcdHost(store).start();
  const options = {
    plugin: 'sockets',
    drivers: ['overlay'],
    arguments: ['--cluster', `etcd://${store.address}:2379`],
  } as const;
  const [h1, h2] = [await lab.dockerHost(options), await lab.dockerHost(options)];
  await h1.docker('swarm', 'init', '--advertise-addr', h1.address);
  const token = await h1.docker('swarm', 'join-token', '--quiet', 'worker');
  await h2.docker('swarm', 'join', '--token', token, '--advertise-addr', h2.address, `${h1.address}:2377`);
  await h1.docker('network', 'create', '-d', 'overlay', '--attachable', '--subnet', '10.97.0.0/24', 'docker');
  const shared = ['--ipam-driver', 'cnm-ipam', '--ipam-opt', 'space=cnm-global', '--subnet', '10.98.0.0/24'];
  for (const h of [h1, h2]) await h.docker('network', 'create', '-d', 'cnm-overlay', ...shared, 'ours');
  for (const network of ['ours', 'docker']) {
    await h2.container(`${network}-asker`, network);
    // Another one on the host, for it to be on the network before.
    await h1.container(`${network}-neighbour`, network);
  }
  const figures = await alternate(
    {
      ours: () => start(h1, h2, 'ours', '10.98.0.200'),
      docker: () => start(h1, h2, 'docker', '10.97.0.200'),
    },
    ROUNDS,
  );
  const one = (what: string, field: string) =>
    row(what, figures.ours[field], figures.docker[field], 'ms', '');
  return [
    one('From `docker run` to the first answer on another host', 'asked'),
    one('From the program’s start to it (negative: before)', 'started'),
  ];
}
