/** TCP between two containers of one network, and from a container through masquerade to a peer: cnm-bridge against the built-in bridge. */
import type { DockerHost } from '../tests/lab/docker-host.ts';
import type { Host } from '../tests/lab/host.ts';
import type { Lab } from '../tests/lab/lab.ts';
import { run, until } from '../tests/lab/command.ts';
import { alternate, type Row, row } from './side-by-side.ts';

const SECONDS = 4;

function gigabits(json: string): number {
  const parsed = JSON.parse(json) as { end: { sum_received: { bits_per_second: number } } };
  return parsed.end.sum_received.bits_per_second / 1e9;
}

async function iperf(host: DockerHost, container: string, server: string): Promise<number> {
  return gigabits(await host.inContainer(container, 'iperf3', '-J', '-t', String(SECONDS), '-c', server));
}

async function serve(host: DockerHost, container: string): Promise<string> {
  await host.inContainer(container, 'iperf3', '-s', '-D');
  return host.docker(
    'inspect',
    '--format',
    '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}',
    container,
  );
}

export async function throughputBench(lab: Lab, rounds: number): Promise<readonly Row[]> {
  const host = await lab.dockerHost({ plugin: 'sockets' });
  const peer: Host = await lab.peer();
  const addresses = new Map<string, string>();
  for (const [name, driver] of [
    ['ours', 'cnm-bridge'],
    ['theirs', 'bridge'],
  ] as const) {
    await host.docker('network', 'create', '-d', driver, name);
    for (const side of ['a', 'b']) await host.container(`${name}-${side}`, name);
    addresses.set(name, await serve(host, `${name}-b`));
  }
  peer.spawnNet(['iperf3', '-s']);
  await until('the peer to listen', 5_000, async () =>
    (await peer.tryNet('ss', '-Hltn')).stdout.includes(':5201') ? true : undefined,
  );
  const measure = async (name: string) => ({
    'container to container': await iperf(host, `${name}-a`, addresses.get(name) ?? ''),
    'through masquerade': await iperf(host, `${name}-a`, peer.address),
  });
  const result = await alternate({ ours: () => measure('ours'), theirs: () => measure('theirs') }, rounds, 1);
  await run(['pkill', '-x', 'iperf3']).catch(() => undefined);
  await host.powerOff();
  return ['container to container', 'through masquerade'].map((what) =>
    row(`TCP ${what}`, result.ours[what], result.theirs[what], 'Gbit/s', '≥ 1.0'),
  );
}
