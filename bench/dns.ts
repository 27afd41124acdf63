/**
 * The resolver against dnsmasq and aardvark-dns (Debian's), each on a port of one address, asked by dnsperf over a veth pair; and, in a container,
 * against Docker's 127.0.0.11 (Engine 20.10). Needs the packages dnsperf, dnsmasq-base and aardvark-dns.
 *
 *   namespace `server` 10.99.0.1 ── veth ── 10.99.0.2 namespace `client` (dnsperf)
 *     53    ours        54  dnsmasq        55  aardvark-dns
 *     5300  dnsmasq that knows every name in ext.example: what is forwarded to
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Running, until } from '../tests/lab/command.ts';
import { NODE, REPOSITORY } from '../tests/lab/host.ts';
import type { Host } from '../tests/lab/host.ts';
import type { Lab } from '../tests/lab/lab.ts';
import { alternate, type Figures, type Row, row } from './side-by-side.ts';

const SECONDS = 2;
const ROUNDS = 2;
/** Queries per second at which latencies are compared: all of them keep up with it. */
const PACE = 15_000;
const SERVER = '10.99.0.1';
const PORTS = { ours: 53, dnsmasq: 54, aardvark: 55 } as const;
type Contender = keyof typeof PORTS;

interface Load {
  readonly server: string;
  readonly port: number;
  readonly queries: string;
  /** The words before dnsperf that make it run where it is to. */
  readonly run: (argv: readonly string[]) => Promise<string>;
}

/** Queries per second when as many are asked as are answered; milliseconds at PACE. */
async function perf({ server, port, queries, run }: Load): Promise<Record<'rate' | 'p50' | 'p99', number>> {
  const base = ['dnsperf', '-s', server, '-p', String(port), '-d', queries, '-c', '8', '-q', '200'];
  const full = await run([...base, '-l', String(SECONDS)]);
  const rate = Number(/Queries per second: +([\d.]+)/.exec(full)?.[1] ?? NaN);
  const paced = await run([...base, '-l', '1', '-Q', String(PACE), '-v']);
  const times = [...paced.matchAll(/^> \S+ \S+ \S+ ([\d.]+)$/gm)].map(
    ([, seconds]) => Number(seconds) * 1000,
  );
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.floor(times.length * share)] ?? NaN;
  return { rate, p50: at(0.5), p99: at(0.99) };
}

const CASES = ['local', 'nxdomain', 'cached', 'forwarded'] as const;

export async function dnsBench(lab: Lab): Promise<readonly Row[]> {
  const rows: Row[] = [];
  const folder = await mkdtemp(join(tmpdir(), 'cnm-bench-dns-'));
  try {
    const server = await lab.peer({ name: 'server', uplink: false });
    const client = await lab.peer({ name: 'client', uplink: false });
    await lab.link(
      { host: server, link: 'eth0', addresses: [`${SERVER}/24`] },
      { host: client, link: 'eth0', addresses: ['10.99.0.2/24'] },
    );
    for (const size of [10, 1_000, 100_000]) rows.push(...(await withNames(size, server, client, folder)));
    rows.push(...(await againstDocker(lab, folder)));
  } finally {
    await rm(folder, { recursive: true });
  }
  return rows;
}

async function withNames(size: number, server: Host, client: Host, folder: string): Promise<readonly Row[]> {
  const running = await start(size, server);
  const cases = size === 1_000 ? CASES : (['local'] as const);
  const files = await queryFiles(size, folder);
  const rows: Row[] = [];
  for (const what of cases) {
    const load = (contender: Contender) => () =>
      perf({
        server: SERVER,
        port: PORTS[contender],
        queries: files[what],
        run: (argv) => client.net(...argv),
      });
    // aardvark-dns forwards to a port 53 only.
    const local = what === 'local' || what === 'nxdomain';
    const peers = local ? (['ours', 'dnsmasq', 'aardvark'] as const) : (['ours', 'dnsmasq'] as const);
    const contenders = Object.fromEntries(peers.map((one) => [one, load(one)])) as Record<
      Contender,
      ReturnType<typeof load>
    >;
    const result = await alternate(contenders, ROUNDS, 0);
    for (const [peer, figures] of Object.entries(result)) {
      if (peer !== 'ours')
        rows.push(...compared(`${what}, ${size} names, against ${peer}`, result.ours, figures));
    }
  }
  process.stderr.write(`${size} names: ${await memory(running[0])} MiB resident\n`);
  for (const one of running) await one.kill('SIGKILL');
  // It has left its parent, and says in a file who it is.
  await server.trySh(`kill -KILL $(cat ${join(server.dir, 'aardvark/aardvark.pid')})`);
  return rows;
}

function compared(
  what: string,
  ours: Readonly<Record<string, Figures>>,
  theirs: Readonly<Record<string, Figures>>,
): readonly Row[] {
  const rows = [
    row(`${what}: answers a second`, ours['rate'], theirs['rate'], '/s', ''),
    row(`${what}: p50 at ${PACE}/s`, ours['p50'], theirs['p50'], 'ms', ''),
    row(`${what}: p99 at ${PACE}/s`, ours['p99'], theirs['p99'], 'ms', ''),
  ];
  for (const { what: name, ours: own, theirs: other, ratio } of rows)
    process.stderr.write(`${name}: ${own}, ${other}, ${ratio}\n`);
  return rows;
}

/** Ours first. */
async function start(size: number, server: Host): Promise<readonly [Running, ...Running[]]> {
  const ours = server.spawn([
    NODE,
    join(REPOSITORY, 'bench/dns-server.ts'),
    SERVER,
    '53',
    String(size),
    `${SERVER}#5300`,
  ]);
  await until('our resolver', 60_000, () => ours.stdout.includes('ready') || undefined);
  const address = (n: number) => `10.${128 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;
  const names = Array.from({ length: size }, (_, n) => ({ name: `n${n}`, address: address(n + 1) }));
  const hosts = join(server.dir, 'hosts');
  await writeFile(hosts, names.map((one) => `${one.address} ${one.name}.bench ${one.name}\n`).join(''));
  const common = [
    'dnsmasq',
    '--no-daemon',
    '--no-resolv',
    '--no-hosts',
    '--conf-file=/dev/null',
    `--listen-address=${SERVER}`,
    '--bind-interfaces',
    '--dns-forward-max=4096',
  ];
  const dnsmasq = server.spawn([
    ...common,
    '--port=54',
    `--addn-hosts=${hosts}`,
    `--server=${SERVER}#5300`,
    '--local=/bench/',
    '--domain-needed',
    '--cache-size=10000',
  ]);
  const external = server.spawn([
    ...common,
    '--port=5300',
    '--address=/ext.example/192.0.2.1',
    '--local-ttl=3600',
  ]);
  const config = join(server.dir, 'aardvark');
  const rows = names
    .map((one, n) => `${n.toString(16).padStart(64, '0')} ${one.address}  ${one.name}\n`)
    .join('');
  await mkdir(config, { recursive: true });
  // It answers those that it knows by their address.
  await writeFile(join(config, 'bench'), `${SERVER}\n${'f'.repeat(64)} 10.99.0.2  client\n${rows}`);
  const aardvark = server.spawn(['/usr/lib/podman/aardvark-dns', '--config', config, '--port', '55', 'run']);
  await until('all servers', 60_000, async () => {
    const open = await server.net('ss', '-Hlun');
    return [53, 54, 55, 5300].every((port) => open.includes(`${SERVER}:${port} `)) || undefined;
  });
  return [ours, dnsmasq, external, aardvark];
}

async function queryFiles(
  size: number,
  folder: string,
): Promise<Readonly<Record<(typeof CASES)[number], string>>> {
  const lines: Readonly<Record<(typeof CASES)[number], (n: number) => string>> = {
    local: (n) => `n${(n * 7919) % size} A`,
    nxdomain: (n) => `unknown${n}.bench A`,
    cached: () => 'always.ext.example A',
    forwarded: (n) => `q${n}.ext.example A`,
  };
  const files = CASES.map(async (what) => {
    const path = join(folder, what);
    await writeFile(
      path,
      `${Array.from({ length: what === 'forwarded' ? 1_000_000 : 100_000 }, (_, n) => lines[what](n)).join('\n')}\n`,
    );
    return [what, path] as const;
  });
  return Object.fromEntries(await Promise.all(files)) as Record<(typeof CASES)[number], string>;
}

async function memory(ours: Running): Promise<string> {
  const before = ours.stdout.length;
  process.kill(await ours.pid(), 'SIGUSR2');
  return until('its memory', 5_000, () => ours.stdout.slice(before).trim() || undefined);
}

/** The same ten names, in the same container: at our own door, and at Docker's. */
async function againstDocker(lab: Lab, folder: string): Promise<readonly Row[]> {
  const h = await lab.dockerHost({ plugin: 'sockets' });
  await h.docker(
    'network',
    'create',
    '-d',
    'cnm-bridge',
    '--subnet',
    '10.98.0.0/24',
    '-o',
    'dns=on',
    'bench',
  );
  for (let n = 0; n < 10; n += 1) await h.container(`n${n}`, 'bench');
  const queries = join(folder, 'docker');
  await writeFile(queries, `${Array.from({ length: 10_000 }, (_, n) => `n${n % 10} A`).join('\n')}\n`);
  await until(
    'the names',
    20_000,
    async () => (await h.inContainer('n0', 'dig', '+short', '@127.0.0.12', 'n9')) !== '' || undefined,
  );
  const load = (server: string) => () =>
    perf({ server, port: 53, queries, run: (argv) => h.inContainer('n0', ...argv) });
  const { ours, theirs } = await alternate(
    { ours: load('127.0.0.12'), theirs: load('127.0.0.11') },
    ROUNDS,
    0,
  );
  return compared('local, 10 names, in a container, against Docker 20.10', ours, theirs);
}
