/**
 * What a host pays for the endpoints of others: simulated hosts, in a process of their own and through the control plane's own code, write
 * their records into a real etcd; this host has one endpoint on the network, and a kernel's tunnel with the entries for all of theirs.
 * Everything is in a network namespace that is made for it:
 *
 *     netns: lo 192.0.2.1 ── etcd, this process (cnm/, kernel/), a child with ten hosts
 *            └─ the overlay's own namespace: br0, vx0 with the entries
 */
import { execFile, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ip, ipFromValue, ipValue } from '../address/ip.ts';
import { macFromIpv4 } from '../address/mac.ts';
import { prefix, prefixOf } from '../address/prefix.ts';
import { clusterPlane } from '../cnm/cluster/index.ts';
import { createCnm } from '../cnm/index.ts';
import { silent } from '../cnm/log.ts';
import type { NetworkSpec } from '../cnm/model.ts';
import { overlay } from '../drivers/overlay/index.ts';
import { openKernel } from '../kernel/linux.ts';
import { openEtcd } from '../store/etcd.ts';
import { memoryStore } from '../store/memory.ts';
import { startEtcd } from '../tests/cluster/etcd-server.ts';

const HOSTS = 10;
const SIZES = [1000, 10_000] as const;
/** Added one after the other, each when the one before is there. */
const SINGLE = 100;
const POOL = prefix('10.0.0.0/8');
/** As the driver says them of the network below. */
const TERMS = {
  name: POOL,
  equal: { subnets: POOL, port: '4789', internal: 'no' },
  subnets: [POOL],
  numbers: { count: 1, given: [4097] },
};

function plane(member: string, id: string) {
  return clusterPlane({
    store: openEtcd({ members: [member] }),
    records: memoryStore(),
    host: { id, name: id, boot: id },
    shared: () => [POOL],
    own: () => [],
    isThere: () => Promise.resolve(true),
    log: silent,
  });
}

function endpoint(number: number, generation: number) {
  const address = ipFromValue(4, ipValue(ip('10.1.0.0')) + BigInt(number));
  return {
    id: number.toString(16).padStart(64, '0'),
    mac: macFromIpv4(address),
    addresses: [prefixOf(address, 8)],
    generation,
    names: [`c${number}`],
    ports: [],
  };
}

/** The child: told a range of numbers, it has the endpoints of these. */
async function simulate(member: string): Promise<void> {
  const hosts = Array.from({ length: HOSTS }, (_, n) => plane(member, `sim${n}`));
  for (const host of hosts) host.start();
  const sessions = await Promise.all(
    hosts.map(async (host, n) => {
      const place = { at: ip(`198.51.100.${n + 1}`), details: { vtep: 'kernel', mtu: '1450' } };
      return host.enter(await host.agree(TERMS, 'join'), place, () => undefined);
    }),
  );
  process.on('message', ({ from, to }: { from: number; to: number }) => {
    for (let number = from; number < to; number += 1)
      sessions[number % HOSTS]?.put(endpoint(number, hosts[number % HOSTS]?.generation() ?? 0));
  });
  process.send?.('ready');
}

const OWN = 'aa'.repeat(32);
const NETWORK: NetworkSpec = {
  id: 'be'.repeat(32),
  driver: 'cnm-overlay',
  origin: 'cnm',
  options: {},
  internal: false,
  enableIpv4: true,
  enableIpv6: false,
  ipv4: [{ addressSpace: 'cnm-global', pool: POOL, gateway: prefix('10.0.0.1/8'), aux: {} }],
  ipv6: [],
};

async function measure(): Promise<void> {
  const endings: (() => Promise<unknown>)[] = [];
  try {
    const etcd = await startEtcd({ teardown: (fn) => endings.push(fn) });
    const folder = await mkdtemp(join(tmpdir(), 'cnm-bench-'));
    endings.push(async () => {
      await promisify(execFile)('umount', [join(folder, 'netns')]);
      await rm(folder, { recursive: true });
    });
    const kernel = await openKernel({ netnsDir: join(folder, 'netns'), log: silent });
    endings.push(() => kernel.close());
    const control = plane(etcd.member, 'me');
    control.start();
    const cnm = createCnm({
      kernel,
      store: memoryStore(),
      drivers: [overlay],
      log: silent,
      runDir: folder,
      control,
    });
    await cnm.createNetwork({ ...NETWORK, options: { vni: '4097' } });
    await cnm.createEndpoint({
      id: OWN,
      network: NETWORK.id,
      address: prefix('10.0.0.2/8'),
      options: {},
      ports: [],
    });
    endings.push(async () => {
      await cnm.deleteEndpoint(NETWORK.id, OWN);
      await cnm.deleteNetwork(NETWORK.id);
      await cnm.close();
      await control.close();
    });
    await withHosts(etcd.member, async (add) => {
      await report(kernel, cnm, add);
    });
  } finally {
    for (const end of endings.reverse()) await end();
  }
}

async function withHosts(member: string, use: (add: (from: number, to: number) => void) => Promise<void>) {
  const child = fork(import.meta.filename, ['hosts', member]);
  try {
    await once(child, 'message');
    await use((from, to) => {
      child.send({ from, to });
    });
  } finally {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
}

type Cnm = ReturnType<typeof createCnm>;
type Kernel = Awaited<ReturnType<typeof openKernel>>;

async function report(kernel: Kernel, cnm: Cnm, add: (from: number, to: number) => void): Promise<void> {
  let count = 0;
  const before = memory();
  for (const size of [0, ...SIZES]) {
    const began = performance.now();
    const cpu = process.cpuUsage();
    if (size > count) add(count, size);
    await settled(kernel, cnm, size);
    const used = process.cpuUsage(cpu);
    if (size > count)
      print(
        `${size} remote endpoints of ${HOSTS} hosts, from ${count}`,
        `${Math.round(performance.now() - began)} ms until the kernel has all entries; ${((used.user + used.system) / 1000 / (size - count)).toFixed(2)} ms of CPU for each`,
      );
    count = size;
    const single = await singly(kernel, cnm, add, count);
    count += SINGLE;
    print(`one more, with ${size} there`, single);
    const compared = performance.now();
    await cnm.repairLinks();
    const links = performance.now();
    await cnm.drift();
    print(
      `compared with the kernel, with ${count} there`,
      `links ${Math.round(links - compared)} ms; all, as the doctor does, ${Math.round(performance.now() - links)} ms`,
    );
    const now = memory();
    print(
      `memory with ${count}`,
      `heap ${mb(now.heap)}, resident ${mb(now.resident)}; ${((now.heap - before.heap) / 1024 / Math.max(1, count)).toFixed(1)} KB of heap for each`,
    );
  }
}

/** Until the kernel has, beside one entry for each host, three for each endpoint. */
async function settled(kernel: Kernel, cnm: Cnm, size: number): Promise<void> {
  while (cnm.remotes(NETWORK.id).length < size + HOSTS)
    await new Promise((resolve) => setTimeout(resolve, 5));
  const presence = cnm.network(NETWORK.id)?.presence ?? [];
  for (;;) {
    const facts = await kernel.facts({ plans: [presence], firewall: false });
    const held = [...facts.netns.values()].reduce((sum, { entries }) => sum + (entries?.size ?? 0), 0);
    if (held >= 3 * size + HOSTS) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function singly(
  kernel: Kernel,
  cnm: Cnm,
  add: (from: number, to: number) => void,
  count: number,
): Promise<string> {
  const times: number[] = [];
  const cpu = process.cpuUsage();
  for (let number = count; number < count + SINGLE; number += 1) {
    const heard: PromiseWithResolvers<void> = Promise.withResolvers();
    const stop = cnm.watch((change) => {
      if (change.what === 'remote') heard.resolve();
    });
    const began = performance.now();
    add(number, number + 1);
    await heard.promise;
    times.push(performance.now() - began);
    stop();
  }
  const used = process.cpuUsage(cpu);
  await settled(kernel, cnm, count + SINGLE);
  times.sort((a, b) => a - b);
  const at = (share: number) => (times[Math.floor(share * (SINGLE - 1))] ?? 0).toFixed(1);
  return `known here after ${at(0.5)} ms (p99 ${at(0.99)}), with ${((used.user + used.system) / 1000 / SINGLE).toFixed(2)} ms of CPU`;
}

function memory(): { readonly heap: number; readonly resident: number } {
  globalThis.gc?.();
  const { heapUsed, rss } = process.memoryUsage();
  return { heap: heapUsed, resident: rss };
}

function mb(bytes: number): string {
  return `${Math.round(bytes / 1024 / 1024)} MB`;
}

function print(what: string, figure: string): void {
  process.stdout.write(`| ${what} | ${figure} |\n`);
}

/** In a namespace of its own, which ends with it. */
async function inNamespace(): Promise<void> {
  const setUp = 'ip link set lo up; ip addr add 192.0.2.1/32 dev lo; ip route add default dev lo; exec "$@"';
  const node = [process.execPath, '--expose-gc', import.meta.filename, 'inside'];
  const child = spawn(
    'unshare',
    ['--net', '--mount', '--propagation', 'private', 'sh', '-c', setUp, 'sh', ...node],
    { stdio: 'inherit' },
  );
  const [code] = (await once(child, 'exit')) as [number | null];
  process.exitCode = code ?? 1;
}

const [, , role, member = ''] = process.argv;
if (role === 'hosts') await simulate(member);
else if (role === 'inside') {
  await measure();
  process.exit();
} else await inNamespace();
