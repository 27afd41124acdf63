/**
 * Published ports: what it costs to publish many, and what a request through one costs, from outside, from the host and
 * from a container: cnm-bridge against Docker's two ways, docker-proxy beside DNAT (the default) and DNAT alone.
 *
 *   peer ── uplink ── host ── ours, theirs: a container each, that serves HTTP on 80 and iperf3 on 5201
 */
import type { DockerHost } from '../tests/lab/docker-host.ts';
import { NODE } from '../tests/lab/host.ts';
import type { Host } from '../tests/lab/host.ts';
import type { Lab } from '../tests/lab/lab.ts';
import { run, tryRun, until } from '../tests/lab/command.ts';
import { unixHttp } from '../tests/lab/unix-http.ts';
import { alternate, type Figures, figures, type Row, row, timed } from './side-by-side.ts';

/** The built-in driver takes a minute and more to take a thousand ports away. */
const PATIENCE_MS = 600_000;
const SECONDS = 3;
const ROUNDS = 4;

/** Of a container of `driver`, published on the host as `base` (HTTP) and `base + 1` (iperf3). */
interface Contender {
  readonly name: string;
  readonly host: DockerHost;
  readonly base: number;
}

async function call(host: DockerHost, method: string, path: string, body?: unknown): Promise<unknown> {
  const reply = await unixHttp(host.outside('/run/docker.sock'), method, path, body, PATIENCE_MS);
  if (reply.status >= 300) throw new Error(`${method} ${path}: ${reply.status} ${reply.text}`);
  return reply.body;
}

function bindings(first: number, count: number): Record<string, readonly { HostPort: string }[]> {
  return Object.fromEntries(
    Array.from({ length: count }, (_, n) => [`${20_000 + n}/tcp`, [{ HostPort: String(first + n) }]]),
  );
}

/** Milliseconds that `docker start` and `docker rm -f` of a container with so many ports take. */
async function startWith(host: DockerHost, network: string, first: number, count: number) {
  const ports = bindings(first, count);
  const name = `${network}-many`;
  await call(host, 'POST', `/containers/create?name=${name}`, {
    Image: 'cnm-lab',
    ExposedPorts: Object.fromEntries(Object.keys(ports).map((port) => [port, {}])),
    HostConfig: { NetworkMode: network, PortBindings: ports },
  });
  const start = await timed(() => call(host, 'POST', `/containers/${name}/start`));
  const rm = await timed(() => call(host, 'DELETE', `/containers/${name}?force=true`));
  return { start, rm };
}

/** The built-in driver starts a process for each port: thousands of them take minutes, and the machine's memory. */
const COUNTS = [
  { count: 1, theirs: true },
  { count: 100, theirs: true },
  { count: 1_000, theirs: true },
  { count: 10_000, theirs: false },
];

async function publishRows(host: DockerHost, noProxy: DockerHost): Promise<readonly Row[]> {
  const rows: Row[] = [];
  for (const { count, theirs } of COUNTS) {
    const start = (on: DockerHost, network: string) => () => startWith(on, network, 20_000, count);
    const contenders: Record<string, () => Promise<{ start: number; rm: number }>> = {
      ours: start(host, 'ours'),
    };
    if (theirs) {
      contenders['proxy'] = start(host, 'theirs');
      contenders['dnat'] = start(noProxy, 'theirs');
    }
    const many = count > 100;
    const result = await alternate(contenders, many ? 1 : 5, many ? 0 : 1);
    for (const what of ['start', 'rm']) {
      const words = `docker ${what} with ${count.toLocaleString('en')} published ports`;
      const ours = result['ours']?.[what];
      rows.push(row(`${words}, against docker-proxy`, ours, result['proxy']?.[what], 'ms', ''));
      if (theirs) rows.push(row(`${words}, against DNAT alone`, ours, result['dnat']?.[what], 'ms', ''));
    }
  }
  return rows;
}

const NETWORK = 'cd'.repeat(32);

async function plugin(host: DockerHost, method: string, body: object): Promise<void> {
  const reply = await host.plugin('cnm-bridge', `NetworkDriver.${method}`, { NetworkID: NETWORK, ...body });
  if (reply.status !== 200) throw new Error(`${method}: ${reply.text}`);
}

async function pluginEndpoint(host: DockerHost, n: number): Promise<string> {
  const id = n.toString(16).padStart(2, '0').repeat(32);
  const address = `10.78.0.${n + 2}/16`;
  await plugin(host, 'CreateEndpoint', {
    EndpointID: id,
    Interface: { Address: address, AddressIPv6: '', MacAddress: '' },
    Options: {},
  });
  await plugin(host, 'Join', { EndpointID: id, SandboxKey: `/var/run/docker/netns/bench${n}`, Options: {} });
  return id;
}

function portmap(first: number, count: number): object {
  const one = (n: number) => ({
    Proto: 6,
    Port: 100 + n,
    HostIP: '',
    HostPort: first + n,
    HostPortEnd: first + n,
  });
  return { 'com.docker.network.portmap': Array.from({ length: count }, (_, n) => one(n)) };
}

/** Our part alone: the one request that publishes, as Docker makes it. */
async function handlerRows(host: DockerHost): Promise<readonly Row[]> {
  const pool = { AddressSpace: 'LocalDefault', Pool: '10.78.0.0/16', Gateway: '10.78.0.1/16' };
  await plugin(host, 'CreateNetwork', {
    Options: { 'com.docker.network.generic': {} },
    IPv4Data: [pool],
    IPv6Data: [],
  });
  const many = await pluginEndpoint(host, 1);
  const one = await pluginEndpoint(host, 2);
  const publish = (id: string, first: number, count: number) =>
    timed(() =>
      plugin(host, 'ProgramExternalConnectivity', { EndpointID: id, Options: portmap(first, count) }),
    );
  const revoke = (id: string) => timed(() => plugin(host, 'RevokeExternalConnectivity', { EndpointID: id }));
  const samples = async (id: string, first: number, count: number, rounds: number) => {
    const publishing: number[] = [];
    const revoking: number[] = [];
    for (let n = 0; n < rounds; n += 1) {
      publishing.push(await publish(id, first, count));
      revoking.push(await revoke(id));
    }
    return { publishing: figures(publishing), revoking: figures(revoking) };
  };
  const rows: Row[] = [];
  const plain = (what: string, value: Figures, aim = '') => rows.push(row(what, value, undefined, 'ms', aim));
  const alone = await samples(one, 19_999, 1, 30);
  for (const count of [100, 1_000, 10_000]) {
    const { publishing, revoking } = await samples(many, 30_000, count, 5);
    plain(
      `publish ${count.toLocaleString('en')} ports, our part`,
      publishing,
      count === 10_000 ? '< 1,000 ms' : '',
    );
    plain(`unpublish ${count.toLocaleString('en')} ports, our part`, revoking);
  }
  plain('publish one port when no other exists, our part', alone.publishing);
  await publish(many, 30_000, 10_000);
  const beside = await samples(one, 19_999, 1, 30);
  plain('publish one port when 10,000 others exist, our part', beside.publishing, 'the same');
  return rows;
}

async function serve(host: DockerHost, container: string): Promise<void> {
  const namespace = `--net=${await host.sandbox(container)}`;
  const server = new URL('answer-http.ts', import.meta.url).pathname;
  host.spawnNet(['nsenter', namespace, '--', NODE, server, '80']);
  host.spawnNet(['nsenter', namespace, '--', 'iperf3', '-s']);
}

async function contender(name: string, host: DockerHost, network: string, base: number): Promise<Contender> {
  await host.container(name, network, '-p', `${base}:80`, '-p', `${base + 1}:5201`);
  await serve(host, name);
  // Through which others ask for it: the host's address, from a network of its own.
  await host.container(`${name}-neighbour`, network);
  return { name, host, base };
}

/** How to run a program at a vantage point, and which address of the host it asks. */
interface Vantage {
  readonly run: (...argv: string[]) => Promise<string>;
  readonly address: string;
}

function vantages({ name, host }: Contender, peer: Host): Readonly<Record<string, Vantage>> {
  return {
    'from outside': { run: (...argv) => peer.net(...argv), address: host.address },
    'from the host': { run: (...argv) => host.net(...argv), address: host.address },
    'from the host by 127.0.0.1': { run: (...argv) => host.net(...argv), address: '127.0.0.1' },
    'from a neighbour (hairpin)': {
      run: (...argv) => host.inContainer(`${name}-neighbour`, ...argv),
      address: host.address,
    },
  };
}

async function load(vantage: Vantage, port: number, ...more: string[]): Promise<number> {
  const url = `http://${vantage.address}:${port}/`;
  const output = await vantage.run('wrk', '-t1', '-c32', `-d${SECONDS}s`, ...more, url);
  return Number(/Requests\/sec:\s+([\d.]+)/.exec(output)?.[1]);
}

async function bulk(vantage: Vantage, port: number): Promise<number> {
  const words = ['-J', '-t', String(SECONDS), '-p', String(port), '-c', vantage.address];
  const parsed = JSON.parse(await vantage.run('iperf3', ...words)) as {
    end: { sum_received: { bits_per_second: number } };
  };
  return parsed.end.sum_received.bits_per_second / 1e9;
}

async function measure(one: Contender, peer: Host): Promise<Record<string, number>> {
  const result: Record<string, number> = {};
  for (const [where, vantage] of Object.entries(vantages(one, peer))) {
    result[`requests ${where}`] = await load(vantage, one.base);
    result[`throughput ${where}`] = await bulk(vantage, one.base + 1);
  }
  return result;
}

async function trafficRows(contenders: Readonly<Record<'ours' | 'proxy' | 'dnat', Contender>>, peer: Host) {
  for (const one of Object.values(contenders)) {
    await until(`${one.name} to serve`, 10_000, async () => {
      const reply = await one.host.tryNet('curl', '-s', `http://${one.host.address}:${one.base}/`);
      return reply.code === 0 || undefined;
    });
  }
  const result = await alternate(
    {
      ours: () => measure(contenders.ours, peer),
      proxy: () => measure(contenders.proxy, peer),
      dnat: () => measure(contenders.dnat, peer),
    },
    ROUNDS,
    1,
  );
  return Object.keys(result.ours).flatMap((what) => {
    const unit = what.startsWith('requests') ? '/s' : 'Gbit/s';
    return [
      row(`${what}, against docker-proxy and DNAT`, result.ours[what], result.proxy[what], unit, '≥ 1.0'),
      row(`${what}, against DNAT alone`, result.ours[what], result.dnat[what], unit, '≥ 1.0'),
    ];
  });
}

/** New connections a second, with one port published and with ten thousand more. */
async function connectionRows(ours: Contender, peer: Host): Promise<readonly Row[]> {
  const vantage = vantages(ours, peer)['from outside'];
  if (vantage === undefined) return [];
  const rate = () => load(vantage, ours.base, '-H', 'Connection: close');
  await rate();
  const few: number[] = [];
  const many: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    few.push(await rate());
    await call(ours.host, 'POST', '/containers/create?name=crowd', {
      Image: 'cnm-lab',
      ExposedPorts: Object.fromEntries(Object.keys(bindings(20_000, 10_000)).map((port) => [port, {}])),
      HostConfig: { NetworkMode: 'ours', PortBindings: bindings(20_000, 10_000) },
    });
    await call(ours.host, 'POST', '/containers/crowd/start');
    many.push(await rate());
    await call(ours.host, 'DELETE', '/containers/crowd?force=true');
  }
  const what = 'connections with 10,000 more ports published (theirs: ours with one)';
  return [row(what, figures(many), figures(few), '/s', '1.0')];
}

export async function portsBench(lab: Lab): Promise<readonly Row[]> {
  await tryRun(['wrk', '--version']).catch(() => {
    throw new Error("the benchmark of published ports needs Debian's package wrk");
  });
  const host = await lab.dockerHost({ plugin: 'sockets' });
  const noProxy = await lab.dockerHost({ dockerd: ['--userland-proxy=false'] });
  const peer = await lab.peer();
  await host.docker('network', 'create', '-d', 'cnm-bridge', 'ours');
  for (const one of [host, noProxy]) await one.docker('network', 'create', '-d', 'bridge', 'theirs');
  const rows = [...(await handlerRows(host)), ...(await publishRows(host, noProxy))];
  const contenders = {
    ours: await contender('ours', host, 'ours', 8080),
    proxy: await contender('proxy', host, 'theirs', 8090),
    dnat: await contender('dnat', noProxy, 'theirs', 8100),
  };
  rows.push(...(await trafficRows(contenders, peer)), ...(await connectionRows(contenders.ours, peer)));
  await run(['pkill', '-x', 'iperf3']).catch(() => undefined);
  await host.powerOff();
  await noProxy.powerOff();
  return rows;
}
