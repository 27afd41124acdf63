/**
 * The resolver against dnsmasq and aardvark-dns (Debian's), each on a port of one address, asked by dnsperf over a veth pair; and, in a container,
 * against Docker's 127.0.0.11 (Engine 20.10). Needs the packages dnsperf, dnsmasq-base and aardvark-dns.
 *
 *   namespace `server` 10.99.0.1 ── veth ── 10.99.0.2 namespace `client` (dnsperf)
 *     53    ours        54  dnsmasq        55  aardvark-dns
 *     5300  dnsmasq that knows every name in ext.example: what is forwarded to
 *     5301  nobody who would answer: the former forwards names in silent.example to it
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Running, until } from '../tests/lab/command.ts';
import type { DockerHost } from '../tests/lab/docker-host.ts';
import { NODE, REPOSITORY } from '../tests/lab/host.ts';
import type { Host } from '../tests/lab/host.ts';
import type { Lab } from '../tests/lab/lab.ts';
import { compared, HANGING, type Load, measure, measureHanging } from './dnsperf.ts';
import { alternate, type Row } from './side-by-side.ts';

const ROUNDS = 2;
/** What is new to a process is slow: a round for each that does not count. */
const WARM_UP = 1;
const SERVER = '10.99.0.1';
const PORTS = { ours: 53, dnsmasq: 54, aardvark: 55 } as const;
type Contender = keyof typeof PORTS;

/** A question for each of a few names, and who can be asked it: aardvark-dns forwards to a port 53 only. */
const CASES = {
  local: ['ours', 'dnsmasq', 'aardvark'],
  nxdomain: ['ours', 'dnsmasq', 'aardvark'],
  cached: ['ours', 'dnsmasq'],
  forwarded: ['ours', 'dnsmasq'],
} as const satisfies Readonly<Record<string, readonly Contender[]>>;
type Case = keyof typeof CASES;

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

interface Servers {
  readonly running: readonly Running[];
  readonly pids: Readonly<Record<Contender, number>>;
  /** Of ours, before it was asked anything. */
  readonly mebibytes: number;
}

async function withNames(size: number, server: Host, client: Host, folder: string): Promise<readonly Row[]> {
  const { running, pids, mebibytes } = await start(size, server);
  const names = size.toLocaleString('en');
  const rows: Row[] = [memoryRow(`${names} names: resident memory of ours`, mebibytes)];
  const loadOf = (contender: Contender, queries: string): Load => ({
    server: SERVER,
    port: PORTS[contender],
    pid: pids[contender],
    queries,
    folder,
    run: (argv) => client.net(...argv),
  });
  for (const what of size === 1_000 ? (Object.keys(CASES) as Case[]) : (['local'] as const)) {
    const files = await queryFiles(what, size, folder);
    const contenders = CASES[what].map(
      (contender) => [contender, () => measure(loadOf(contender, files[contender]))] as const,
    );
    rows.push(...(await sideBySide(`${what}, ${names} names`, Object.fromEntries(contenders))));
  }
  if (size === 1_000) {
    const { ours } = await queryFiles('local', size, folder);
    const contenders = (['ours', 'dnsmasq'] as const).map(
      (contender) => [contender, () => measureHanging(loadOf(contender, ours))] as const,
    );
    rows.push(...(await sideBySide(`local, beside ${HANGING} that hang`, Object.fromEntries(contenders))));
  }
  for (const one of running) await one.kill('SIGKILL');
  // It has left its parent, and says in a file who it is.
  await server.trySh(`kill -KILL $(cat ${join(server.dir, 'aardvark/aardvark.pid')})`);
  return rows;
}

async function sideBySide(
  what: string,
  contenders: Readonly<Record<string, () => Promise<Readonly<Record<string, number>>>>>,
): Promise<readonly Row[]> {
  const { ours = {}, ...others } = await alternate(contenders, ROUNDS, WARM_UP);
  return Object.entries(others).flatMap(([peer, theirs]) =>
    compared(`${what}, against ${peer}`, ours, theirs),
  );
}

function memoryRow(what: string, mebibytes: number): Row {
  process.stderr.write(`${what}: ${mebibytes} MiB\n`);
  return { what, ours: `${mebibytes} MiB`, theirs: '-', ratio: '-', aim: '' };
}

async function start(size: number, server: Host): Promise<Servers> {
  const program = join(REPOSITORY, 'bench/dns-server.ts');
  const words = [program, SERVER, '53', String(size), `${SERVER}#5300`];
  const ours = server.spawn([NODE, '--expose-gc', ...words]);
  await until('our resolver', 60_000, () => ours.stdout.includes('ready') || undefined);
  const address = (n: number) => `10.${128 + (n >> 16)}.${(n >> 8) & 255}.${n & 255}`;
  const names = Array.from({ length: size }, (_, n) => ({ name: `n${n}`, address: address(n + 1) }));
  const silent = server.spawnNet(['socat', '-u', `UDP4-RECV:5301,bind=${SERVER}`, '/dev/null']);
  const dnsmasqs = await startDnsmasq(server, names);
  const aardvark = await startAardvark(server, names);
  await until('all servers', 60_000, async () => {
    const open = await server.net('ss', '-Hlun');
    return [53, 54, 55, 5300, 5301].every((port) => open.includes(`${SERVER}:${port} `)) || undefined;
  });
  for (const port of [53, 54]) {
    const last = `n${size - 1}`;
    const dig = ['dig', '+short', '+tries=1', '+time=1', `@${SERVER}`, '-p', String(port), last];
    await until(
      `${last} at port ${port}`,
      60_000,
      async () => (await server.tryNet(...dig)).stdout.trim() || undefined,
    );
  }
  const mebibytes = await memory(ours);
  const [dnsmasq] = dnsmasqs;
  // What it says of itself is its number inside of the host.
  const inside = (await readFile(join(server.dir, 'aardvark/aardvark.pid'), 'utf8')).trim();
  const pids = {
    ours: await ours.pid(),
    dnsmasq: await dnsmasq.pid(),
    aardvark: await outsideOf(inside, server),
  };
  return { running: [ours, ...dnsmasqs, aardvark, silent], pids, mebibytes };
}

/** A process of the host as this machine numbers it. */
async function outsideOf(pid: string, server: Host): Promise<number> {
  const found = await server.net(
    'sh',
    '-c',
    `grep -ls '^NSpid:.*[[:space:]]${pid}$' /proc/[0-9]*/status; true`,
  );
  for (const path of found.trim().split('\n')) {
    if (/^Name:\taardvark/m.test(await readFile(path, 'utf8').catch(() => '')))
      return Number(path.split('/')[2]);
  }
  return 0;
}

type Names = readonly { readonly name: string; readonly address: string }[];

async function startDnsmasq(server: Host, names: Names): Promise<readonly [Running, Running]> {
  const hosts = join(server.dir, 'hosts');
  await writeFile(hosts, names.map((one) => `${one.address} ${one.name}.bench ${one.name}\n`).join(''));
  const common = [
    ...['dnsmasq', '--no-daemon', '--no-resolv', '--no-hosts', '--conf-file=/dev/null'],
    ...[`--listen-address=${SERVER}`, '--bind-interfaces', '--dns-forward-max=4096'],
  ];
  const forward = [`--server=${SERVER}#5300`, '--cache-size=10000'];
  const own = ['--port=54', `--addn-hosts=${hosts}`, '--local=/bench/', '--domain-needed', ...forward];
  const ours = server.spawn([...common, ...own]);
  const known = ['--address=/ext.example/192.0.2.1', '--local-ttl=3600'];
  const external = server.spawn([
    ...common,
    '--port=5300',
    ...known,
    `--server=/silent.example/${SERVER}#5301`,
  ]);
  return [ours, external];
}

async function startAardvark(server: Host, names: Names): Promise<Running> {
  const config = join(server.dir, 'aardvark');
  const rows = names.map(
    ({ name, address }, n) => `${n.toString(16).padStart(64, '0')} ${address}  ${name}\n`,
  );
  await mkdir(config, { recursive: true });
  // It answers those that it knows by their address.
  await writeFile(join(config, 'bench'), `${SERVER}\n${'f'.repeat(64)} 10.99.0.2  client\n${rows.join('')}`);
  return server.spawn(['/usr/lib/podman/aardvark-dns', '--config', config, '--port', '55', 'run']);
}

/** The names of each are those that it takes for its own. */
async function queryFiles(
  what: Case,
  size: number,
  folder: string,
): Promise<Readonly<Record<Contender, string>>> {
  const count = what === 'forwarded' ? 1_000_000 : 100_000;
  const names: Readonly<Record<Case, (n: number, own: string) => string>> = {
    local: (n) => `n${(n * 7919) % size}`,
    nxdomain: (n, own) => `unknown${n}.${own}`,
    cached: () => 'always.ext.example',
    forwarded: (n) => `q${n}.ext.example`,
  };
  const write = async (name: string, own: string) => {
    const path = join(folder, name);
    const lines = Array.from({ length: count }, (_, n) => `${names[what](n, own)} A\n`);
    await writeFile(path, lines.join(''));
    return path;
  };
  const ours = await write('queries', 'bench');
  const aardvark = what === 'nxdomain' ? await write('queries-aardvark', 'dns.podman') : ours;
  return { ours, dnsmasq: ours, aardvark };
}

async function memory(ours: Running): Promise<number> {
  const before = ours.stdout.length;
  process.kill(await ours.pid(), 'SIGUSR2');
  return Number(await until('its memory', 5_000, () => ours.stdout.slice(before).trim() || undefined));
}

/** The same ten names, in the same container: at our own door, and at Docker's. */
async function againstDocker(lab: Lab, folder: string): Promise<readonly Row[]> {
  const h = await lab.dockerHost({ plugin: 'sockets' });
  const silent = h.spawnNet(['socat', '-u', 'UDP4-RECV:53,bind=127.0.0.104', '/dev/null']);
  const options = ['-o', 'dns=on', '-o', 'dns.servers=127.0.0.104'];
  await h.docker('network', 'create', '-d', 'cnm-bridge', '--subnet', '10.98.0.0/24', ...options, 'bench');
  // Docker's asks from inside of the container; there the same address is as silent.
  for (let n = 0; n < 10; n += 1) await h.container(`n${n}`, 'bench', '--dns', '127.0.0.104');
  const netns = await h.sandbox('n0');
  const mute = [
    'nsenter',
    `--net=${netns}`,
    '--',
    'socat',
    '-u',
    'UDP4-RECV:53,bind=127.0.0.104',
    '/dev/null',
  ];
  const inside = h.spawnNet(mute);
  const queries = join(folder, 'docker');
  await writeFile(queries, `${Array.from({ length: 10_000 }, (_, n) => `n${n % 10} A`).join('\n')}\n`);
  await until(
    'the names',
    20_000,
    async () => (await h.inContainer('n0', 'dig', '+short', '@127.0.0.12', 'n9')) !== '' || undefined,
  );
  const contender = (of: (load: Load) => Promise<Readonly<Record<string, number>>>, server: string) => () =>
    of({ server, port: 53, pid: 0, queries, folder, run: (argv) => inContainer(h, argv) });
  const both = (of: typeof measure | typeof measureHanging) => ({
    ours: contender(of, '127.0.0.12'),
    'Docker 20.10': contender(of, '127.0.0.11'),
  });
  const rows = [
    ...(await sideBySide('local, 10 names, in a container', both(measure))),
    ...(await sideBySide(`local, beside ${HANGING} that hang, in a container`, both(measureHanging))),
  ];
  for (const one of [silent, inside]) await one.kill('SIGKILL');
  return rows;
}

function inContainer(h: DockerHost, argv: readonly string[]): Promise<string> {
  return h.inContainer('n0', ...argv);
}
