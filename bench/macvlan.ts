/**
 * macvlan: cnm-macvlan against Docker's own driver, in one Engine and on one parent, and against cnm-bridge, whose containers reach the same
 * peer through the host.
 *
 *   host: eth1 ── ours-a, ours-b      10.60.0.0/24  ══ eth1 peer 10.60.0.254, 10.61.0.254, 10.62.0.254
 *              ── theirs-a, theirs-b  10.61.0.0/24
 *         eth1 10.62.0.1 ◀─ masquerade ─ bridged-a, bridged-b
 */
import type { DockerHost } from '../tests/lab/docker-host.ts';
import type { Host } from '../tests/lab/host.ts';
import type { Lab } from '../tests/lab/lab.ts';
import { type Running, until } from '../tests/lab/command.ts';
import { connecting } from './docker.ts';
import { alternate, type Figures, type Row, row } from './side-by-side.ts';

const SECONDS = 3;
const ROUNDS = 4;
const CONNECTS = 30;

const NETWORKS = {
  ours: {
    driver: 'cnm-macvlan',
    options: ['--subnet=10.60.0.0/24', '-o', 'parent=eth1'],
    peer: '10.60.0.254',
  },
  theirs: { driver: 'macvlan', options: ['--subnet=10.61.0.0/24', '-o', 'parent=eth1'], peer: '10.61.0.254' },
  bridged: { driver: 'cnm-bridge', options: [], peer: '10.62.0.254' },
} as const;
type Name = keyof typeof NETWORKS;
const NAMES = Object.keys(NETWORKS) as readonly Name[];

type Results = Readonly<Record<Name, Readonly<Record<string, Figures>>>>;

export async function macvlanBench(lab: Lab): Promise<readonly Row[]> {
  const host = await lab.dockerHost({ plugin: 'sockets', drivers: ['bridge', 'macvlan'] });
  const peer = await lab.peer();
  const addresses = NAMES.map((name) => `${NETWORKS[name].peer}/24`);
  await lab.link(
    { host, link: 'eth1', addresses: ['10.62.0.1/24'] },
    { host: peer, link: 'eth1', addresses },
  );
  for (const name of NAMES) {
    const { driver, options } = NETWORKS[name];
    await host.docker('network', 'create', '-d', driver, ...options, name);
  }
  const rows = [...(await attaching(host)), ...(await traffic(host, peer))];
  await host.powerOff();
  return rows;
}

/** A container's default route stays with a network that is first by name: what is measured is the connecting alone. */
async function attaching(host: DockerHost): Promise<readonly Row[]> {
  await host.docker('network', 'create', '-d', 'bridge', 'base');
  await host.container('busy', 'base');
  const { ours, theirs } = await alternate(
    { ours: () => connecting(host, 'ours'), theirs: () => connecting(host, 'theirs') },
    CONNECTS,
  );
  return ['connect', 'disconnect'].map((what) =>
    row(`macvlan: network ${what}`, ours[what], theirs[what], 'ms', '≤ 0.7'),
  );
}

async function traffic(host: DockerHost, peer: Host): Promise<readonly Row[]> {
  const servers: Running[] = [await serve((argv) => peer.spawnNet(argv))];
  const siblings = new Map<Name, string>();
  for (const name of NAMES) {
    for (const side of ['a', 'b']) await host.container(`${name}-${side}`, name);
    const inside = `--net=${await host.sandbox(`${name}-b`)}`;
    servers.push(await serve((argv) => host.spawnNet(['nsenter', inside, '--', ...argv])));
    const format = '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}';
    siblings.set(name, await host.docker('inspect', '--format', format, `${name}-b`));
  }
  const contender = (name: Name) => () => measure(host, name, siblings.get(name) ?? '');
  const results = await alternate(
    { ours: contender('ours'), theirs: contender('theirs'), bridged: contender('bridged') },
    ROUNDS,
    1,
  );
  for (const server of servers) await server.kill('SIGKILL');
  return [
    ...rowsAgainst(results, 'theirs', 'Docker’s macvlan'),
    ...rowsAgainst(results, 'bridged', 'cnm-bridge'),
  ];
}

async function serve(spawn: (argv: readonly string[]) => Running): Promise<Running> {
  // Its words come at once, not when a buffer is full.
  const server = spawn(['iperf3', '-s', '--forceflush']);
  await until('iperf3 to listen', 10_000, () => server.stdout.includes('Server listening') || undefined);
  return server;
}

async function measure(host: DockerHost, name: Name, sibling: string): Promise<Record<string, number>> {
  const { peer } = NETWORKS[name];
  const from = `${name}-a`;
  return {
    'TCP to a sibling': await throughput(host, from, sibling),
    'TCP to a peer on the wire': await throughput(host, from, peer),
    'ping to a sibling': await latency(host, from, sibling),
    'ping to a peer on the wire': await latency(host, from, peer),
  };
}

/** Gbit/s */
async function throughput(host: DockerHost, from: string, to: string): Promise<number> {
  const json = await host.inContainer(from, 'iperf3', '-J', '-t', String(SECONDS), '-c', to);
  const { end } = JSON.parse(json) as { end: { sum_received: { bits_per_second: number } } };
  return end.sum_received.bits_per_second / 1e9;
}

/** Microseconds, the mean of five hundred. */
async function latency(host: DockerHost, from: string, to: string): Promise<number> {
  const said = await host.inContainer(from, 'ping', '-n', '-q', '-c500', '-i0.002', to);
  const [, mean] = /= [\d.]+\/([\d.]+)\//.exec(said) ?? [];
  return Number(mean) * 1000;
}

function rowsAgainst(results: Results, other: 'theirs' | 'bridged', words: string): readonly Row[] {
  return Object.keys(results.ours).map((what) => {
    const isTime = what.startsWith('ping');
    const aim = other === 'bridged' ? '' : isTime ? '≤ 1.0' : '≥ 1.0';
    const unit = isTime ? 'µs' : 'Gbit/s';
    return row(`macvlan: ${what}, against ${words}`, results.ours[what], results[other][what], unit, aim);
  });
}
