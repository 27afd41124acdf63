/** `docker network connect`/`disconnect` and `network create`/`rm`: cnm-bridge against Docker's built-in bridge, in the same Engine. */
import type { DockerHost } from '../tests/lab/docker-host.ts';
import type { Engine } from '../tests/lab/engine.ts';
import type { Lab } from '../tests/lab/lab.ts';
import { alternate, type Row, row, timed } from './side-by-side.ts';

async function call(host: DockerHost, method: string, path: string, body?: unknown): Promise<unknown> {
  const reply = await host.api(method, path, body);
  if (reply.status >= 300) throw new Error(`${method} ${path}: ${reply.status} ${reply.text}`);
  return reply.body;
}

/** Through Docker's HTTP API: the docker command's own start would hide what is measured. */
export async function connecting(host: DockerHost, network: string): Promise<Record<string, number>> {
  const connect = await timed(() =>
    call(host, 'POST', `/networks/${network}/connect`, { Container: 'busy' }),
  );
  const disconnect = await timed(() =>
    call(host, 'POST', `/networks/${network}/disconnect`, { Container: 'busy' }),
  );
  return { connect, disconnect };
}

async function creating(host: DockerHost, driver: string, subnet: string): Promise<Record<string, number>> {
  const body = {
    Name: `made-by-${driver.replace(/\W/g, '-')}`,
    Driver: driver,
    IPAM: { Config: [{ Subnet: subnet }] },
  };
  const create = await timed(() => call(host, 'POST', '/networks/create', body));
  const remove = await timed(() => call(host, 'DELETE', `/networks/${body.Name}`));
  return { create, rm: remove, 'create + rm': create + remove };
}

export async function dockerBench(lab: Lab, engine: Engine, rounds: number): Promise<readonly Row[]> {
  const host = await lab.dockerHost({ engine, plugin: 'sockets' });
  await host.docker('network', 'create', '-d', 'cnm-bridge', 'ours');
  await host.docker('network', 'create', '-d', 'bridge', 'theirs');
  // Its default route stays with a third network, first by name: what is measured is the connecting alone.
  await host.docker('network', 'create', '-d', 'bridge', 'base');
  await host.container('busy', 'base');
  const attach = await alternate(
    { ours: () => connecting(host, 'ours'), theirs: () => connecting(host, 'theirs') },
    rounds,
  );
  const make = await alternate(
    {
      ours: () => creating(host, 'cnm-bridge', '10.201.0.0/24'),
      theirs: () => creating(host, 'bridge', '10.202.0.0/24'),
    },
    Math.ceil(rounds / 2),
  );
  const inHandlers = handlerTimes(host.cnmd.log);
  const rows = [
    row(`Engine ${engine}: network connect`, attach.ours['connect'], attach.theirs['connect'], 'ms', '≤ 0.7'),
    row(
      `Engine ${engine}: network disconnect`,
      attach.ours['disconnect'],
      attach.theirs['disconnect'],
      'ms',
      '≤ 0.7',
    ),
    row(`Engine ${engine}: network create`, make.ours['create'], make.theirs['create'], 'ms', ''),
    row(`Engine ${engine}: network rm`, make.ours['rm'], make.theirs['rm'], 'ms', ''),
    row(
      `Engine ${engine}: network create + rm`,
      make.ours['create + rm'],
      make.theirs['create + rm'],
      'ms',
      '≤ 0.7',
    ),
  ];
  await host.powerOff();
  return [
    ...rows,
    ...inHandlers.map((text) => ({
      what: `Engine ${engine}: of which ${text.what}`,
      ours: text.ms,
      theirs: '-',
      ratio: '-',
      aim: '',
    })),
  ];
}

/** What of the whole is ours: the daemon's own debug log says how long each handler took. The rest is Docker's. */
function handlerTimes(log: string): readonly { what: string; ms: string }[] {
  const times = new Map<string, number[]>();
  for (const [, method, ms] of log.matchAll(/NetworkDriver\.(\w+).*?\bms=([\d.]+)/g)) {
    if (method === undefined || ms === undefined) continue;
    times.set(method, [...(times.get(method) ?? []), Number(ms)]);
  }
  return ['CreateNetwork', 'CreateEndpoint', 'Join', 'Leave', 'DeleteEndpoint', 'DeleteNetwork'].flatMap(
    (method) => {
      const sorted = (times.get(method) ?? []).sort((a, b) => a - b);
      const median = sorted[Math.floor(sorted.length / 2)];
      return median === undefined ? [] : [{ what: `our ${method}`, ms: `${median.toFixed(1)} ms` }];
    },
  );
}
