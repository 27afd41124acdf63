/**
 * Addresses per second and bytes per address: our allocator, the IPAM with a disk under it, and the plugin's socket, beside
 * a list that is looked through, CNI's host-local (Debian's containernetworking-plugins, or where CNI_PATH points) and
 * Docker's own IPAM. netavark has none of its own: podman chooses for it.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { prefix } from '../address/prefix.ts';
import { Allocator, segments } from '../ipam/allocator.ts';
import { createIpam } from '../ipam/index.ts';
import { memoryStore } from '../store/memory.ts';
import { openStore } from '../store/sqlite.ts';
import type { Store } from '../store/store.ts';
import type { DockerHost } from '../tests/lab/docker-host.ts';
import type { Lab } from '../tests/lab/lab.ts';
import { alternate, type Row, row, timed } from './side-by-side.ts';

export async function ipamBench(lab: Lab): Promise<readonly Row[]> {
  return [
    ...inMemory(),
    naive(),
    ...(await durable()),
    ...(await atTheSocket(lab)),
    ...(await hostLocal()),
    ...(await memory()),
    ...(await dockerConnect(lab)),
  ];
}

const plain = (what: string, ours: string, theirs = '-', aim = ''): Row => ({
  what,
  ours,
  theirs,
  ratio: '-',
  aim,
});

const rate = (count: number, ms: number): string =>
  `${Math.round((count / ms) * 1000).toLocaleString('en')}/s`;

function take(allocator: Allocator, choices: ReturnType<typeof segments>, count: number): number {
  const begin = performance.now();
  for (let n = 0; n < count; n++) {
    const offset = allocator.next(choices);
    if (offset === undefined) throw new Error('the pool is full');
    allocator.take(offset);
  }
  return performance.now() - begin;
}

function inMemory(): readonly Row[] {
  const pools = [
    { name: '/8', bits: 24, fill: Math.floor(0.99 * 2 ** 24) },
    { name: '/64', bits: 64, fill: 8_000_000 },
  ];
  return pools.map(({ name, bits, fill }) => {
    const allocator = new Allocator(bits);
    const choices = segments([{ first: 1n, last: (1n << BigInt(bits)) - 2n }]);
    allocator.open(choices);
    const portion = 150_000;
    take(allocator, choices, portion);
    const early = take(allocator, choices, portion);
    take(allocator, choices, fill - 3 * portion);
    const late = take(allocator, choices, portion);
    const state = bits === 24 ? 'from 98 to 99 % full' : `after ${fill.toLocaleString('en')}`;
    return plain(
      `allocator, ${name}: nearly empty, and ${state}`,
      `${rate(portion, early)}, ${rate(portion, late)}`,
      '-',
      '≥ 1,000,000/s, flat',
    );
  });
}

/** A set, looked through from the first address on, as simple allocators have it. */
function naive(): Row {
  const size = 65_534;
  const taken = new Set<number>();
  const portion = (count: number) => {
    const begin = performance.now();
    for (let n = 0; n < count; n++) {
      let offset = 1;
      while (taken.has(offset)) offset++;
      taken.add(offset);
    }
    return performance.now() - begin;
  };
  const early = portion(500);
  for (let offset = 1; offset <= 0.98 * size; offset++) taken.add(offset);
  const late = portion(50);
  return plain(
    'the same in a /16 for a list that is looked through',
    '-',
    `${rate(500, early)}, ${rate(50, late)}`,
  );
}

/** Milliseconds for `count` addresses, `flight` of them at a time. */
async function request(store: Store, count: number, flight: number): Promise<number> {
  const ipam = await createIpam({ store });
  const wanted = { space: ipam.localSpace, pool: prefix('10.0.0.0/8'), v6: false, options: {} };
  const { poolId } = await ipam.requestPool(wanted);
  let left = count;
  const worker = async () => {
    while (left-- > 0) await ipam.requestAddress(poolId, { gateway: false, serial: false });
  };
  const ms = await timed(() => Promise.all(Array.from({ length: flight }, worker)));
  await ipam.releasePool(poolId);
  return ms;
}

async function durable(): Promise<readonly Row[]> {
  const directory = await mkdtemp(join(tmpdir(), 'cnm-bench-'));
  const store = await openStore(directory);
  await request(store, 500, 1);
  const one = await request(store, 2000, 1);
  const many = await request(store, 20_000, 32);
  await store.close();
  await rm(directory, { recursive: true });
  return [
    plain('durable addresses, one at a time', rate(2000, one)),
    plain('durable addresses, 32 in flight', rate(20_000, many), '-', '≥ 10,000/s'),
  ];
}

async function atTheSocket(lab: Lab): Promise<readonly Row[]> {
  const host = await lab.bareHost();
  const call = async (method: string, body: object) => {
    const { status, text } = await host.plugin('cnm-ipam', `IpamDriver.${method}`, body);
    if (status !== 200) throw new Error(text);
    return text;
  };
  const pool = { AddressSpace: 'cnm-local', Pool: '10.0.0.0/8', SubPool: '', Options: null, V6: false };
  await call('RequestPool', pool);
  const address = { PoolID: 'cnm-local/10.0.0.0/8', Address: '', Options: null };
  const rows: Row[] = [];
  for (const [flight, count] of [
    [1, 500],
    [32, 3000],
  ] as const) {
    let left = count;
    const worker = async () => {
      while (left-- > 0) await call('RequestAddress', address);
    };
    const ms = await timed(() => Promise.all(Array.from({ length: flight }, worker)));
    rows.push(
      plain(`the same at Docker's socket, ${flight} in flight (client and HTTP included)`, rate(count, ms)),
    );
  }
  await host.powerOff();
  return rows;
}

async function hostLocal(): Promise<readonly Row[]> {
  const folders = [process.env['CNI_PATH'] ?? '', '/usr/lib/cni', '/opt/cni/bin'];
  const program = folders.map((folder) => join(folder, 'host-local')).find(existsSync);
  if (program === undefined) return [plain('CNI host-local', '-', 'not installed')];
  const directory = await mkdtemp(join(tmpdir(), 'cnm-bench-'));
  const config = JSON.stringify({
    cniVersion: '0.4.0',
    name: 'bench',
    ipam: { type: 'host-local', dataDir: directory, ranges: [[{ subnet: '10.0.0.0/16' }]] },
  });
  let next = 0;
  const one = () =>
    new Promise<void>((resolve, reject) => {
      const id = `c${next++}`;
      const env = {
        CNI_COMMAND: 'ADD',
        CNI_CONTAINERID: id,
        CNI_IFNAME: 'eth0',
        CNI_NETNS: '/x',
        CNI_PATH: '/',
      };
      const child = spawn(program, [], { env, stdio: ['pipe', 'ignore', 'ignore'] });
      child.on('error', reject);
      child.on('exit', (code) => {
        if (code === 0) resolve();
        else reject(new Error(`host-local ended with ${code ?? 'a signal'}`));
      });
      child.stdin.end(config);
    });
  const rows: Row[] = [];
  for (const [flight, count] of [
    [1, 100],
    [32, 300],
  ] as const) {
    let left = count;
    const worker = async () => {
      while (left-- > 0) await one();
    };
    const ms = await timed(() => Promise.all(Array.from({ length: flight }, worker)));
    rows.push(
      plain(
        `CNI host-local, ${flight} in flight (a process each, not flushed to disk)`,
        '-',
        rate(count, ms),
      ),
    );
  }
  await rm(directory, { recursive: true });
  return rows;
}

/** Scaled from fewer: a million leases for a full /8, with all that a lease has in memory but the store's own copy. */
async function memory(): Promise<readonly Row[]> {
  const { gc } = globalThis;
  if (gc === undefined) return [plain('memory: needs node --expose-gc, as npm run bench has it', '-')];
  const heap = () => {
    gc();
    return process.memoryUsage().heapUsed;
  };
  const store: Store = {
    ...memoryStore(),
    list: () => [],
    get: () => undefined,
    write: () => Promise.resolve(),
  };
  const ipam = await createIpam({ store });
  const wanted = (pool: string) => ({ space: ipam.localSpace, pool: prefix(pool), v6: false, options: {} });
  const before = heap();
  for (let n = 0; n < 1000; n++) await ipam.requestPool(wanted(`11.${n >> 8}.${n & 255}.0/24`));
  const pools = heap();
  const { poolId } = await ipam.requestPool(wanted('10.0.0.0/8'));
  const count = 500_000;
  for (let n = 0; n < count; n++) await ipam.requestAddress(poolId, { gateway: false, serial: false });
  const each = (heap() - pools) / count;
  return [
    plain('memory of 1,000 pools', `${((pools - before) / 2 ** 20).toFixed(1)} MiB`),
    plain(
      `memory of a lease (of ${count.toLocaleString('en')}), and scaled to a full /8`,
      `${each.toFixed(0)} B, ${((each * 2 ** 24) / 2 ** 30).toFixed(1)} GiB`,
    ),
  ];
}

/** What a user waits for: a container on a network of Docker's bridge driver, with either IPAM. */
async function dockerConnect(lab: Lab): Promise<readonly Row[]> {
  const h = await lab.dockerHost({ engine: '28.5', plugin: 'sockets' });
  await h.container('busy', 'bridge');
  const drivers = { ours: 'cnm-ipam', theirs: 'default' } as const;
  for (const [name, ipam] of Object.entries(drivers))
    await h.docker('network', 'create', '--ipam-driver', ipam, '--subnet', `10.${name.length}.0.0/16`, name);
  const contender = (network: string) => async () => ({
    connect: await timed(() => step(h, 'connect', network)),
    disconnect: await timed(() => step(h, 'disconnect', network)),
  });
  const result = await alternate({ ours: contender('ours'), theirs: contender('theirs') }, 20);
  await h.powerOff();
  return ['connect', 'disconnect'].map((what) =>
    row(
      `docker network ${what}, Docker's bridge with our IPAM and with its own`,
      result.ours[what],
      result.theirs[what],
      'ms',
      '',
    ),
  );
}

async function step(h: DockerHost, what: 'connect' | 'disconnect', network: string): Promise<void> {
  const { status } = await h.api('POST', `/networks/${network}/${what}`, { Container: 'busy' });
  if (status !== 200) throw new Error(`${what}: ${status}`);
}
