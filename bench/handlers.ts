/** The time in our handlers alone, and the memory and start of a daemon with many endpoints. */
import { readFile } from 'node:fs/promises';
import type { CnmHost } from '../tests/lab/docker-host.ts';
import type { Lab } from '../tests/lab/lab.ts';
import { figures, type Row, row, timed } from './side-by-side.ts';

const NETWORK = 'ab'.repeat(32);
const endpointId = (n: number) => n.toString(16).padStart(4, '0').repeat(16);

async function call(host: CnmHost, method: string, body: unknown): Promise<void> {
  const reply = await host.plugin('cnm-bridge', `NetworkDriver.${method}`, body);
  if (reply.status !== 200) throw new Error(`${method}: ${reply.text}`);
}

async function createNetwork(host: CnmHost): Promise<void> {
  const pool = { AddressSpace: 'LocalDefault', Pool: '10.77.0.0/16', Gateway: '10.77.0.1/16' };
  await call(host, 'CreateNetwork', {
    NetworkID: NETWORK,
    Options: { 'com.docker.network.generic': {} },
    IPv4Data: [pool],
    IPv6Data: [],
  });
}

async function attach(host: CnmHost, n: number): Promise<void> {
  const ids = { NetworkID: NETWORK, EndpointID: endpointId(n) };
  const address = `10.77.${1 + Math.floor(n / 250)}.${1 + (n % 250)}/16`;
  await call(host, 'CreateEndpoint', {
    ...ids,
    Interface: { Address: address, AddressIPv6: '', MacAddress: '' },
    Options: {},
  });
  await call(host, 'Join', { ...ids, SandboxKey: `/var/run/docker/netns/${n}`, Options: {} });
}

async function residentMegabytes(host: CnmHost): Promise<number> {
  const status = await readFile(`/proc/${await host.cnmd.pid()}/status`, 'utf8');
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) / 1024;
}

export async function handlerBench(lab: Lab): Promise<readonly Row[]> {
  const host = await lab.bareHost();
  const empty = await residentMegabytes(host);
  await createNetwork(host);
  const attaching: number[] = [];
  for (let n = 0; n < 500; n += 1) attaching.push(await timed(() => attach(host, n)));
  const full = await residentMegabytes(host);
  await host.killPlugin('SIGKILL');
  await host.startPlugin();
  const reconciled = /ready .*?\bms=(\d+)/g;
  const starts = [...host.cnmd.log.matchAll(reconciled)].map((match) => Number(match[1]));
  await host.powerOff();
  const plain = (what: string, ours: string, aim = ''): Row => ({ what, ours, theirs: '-', ratio: '-', aim });
  return [
    row('CreateEndpoint + Join, two requests on a socket', figures(attaching), undefined, 'ms', 'p50 < 5 ms'),
    plain('resident memory, no endpoint', `${empty.toFixed(0)} MB`),
    plain('resident memory, 500 endpoints', `${full.toFixed(0)} MB`),
    plain(
      'start with 500 endpoints after SIGKILL: records read, kernel compared, ready',
      `${starts.at(-1) ?? NaN} ms`,
    ),
  ];
}
