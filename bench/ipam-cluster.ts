/**
 * Addresses per second out of one pool that 1, 3 and 10 hosts have together in a real etcd on loopback, each with a disk under
 * its leases; beside one transaction in etcd for each address, which is what an IPAM without blocks pays. The hosts are in one
 * process, so that with several of them its one core is what is measured.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { prefix } from '../address/prefix.ts';
import { createIpam } from '../ipam/index.ts';
import type { Ipam } from '../ipam/ipam.ts';
import { good } from '../store/cluster-suite.ts';
import { openEtcd } from '../store/etcd.ts';
import { openStore } from '../store/sqlite.ts';
import { startEtcd } from '../tests/cluster/etcd-server.ts';
import { type Row, timed } from './side-by-side.ts';

const IN_FLIGHT = 32;
const EACH = 6000;

export async function ipamClusterBench(): Promise<readonly Row[]> {
  const endings: (() => Promise<void>)[] = [];
  try {
    const etcd = await startEtcd({ teardown: (fn) => endings.push(fn) });
    const rows: Row[] = [];
    for (const hosts of [1, 3, 10]) rows.push(await together(etcd.member, hosts));
    return rows;
  } finally {
    for (const end of endings.reverse()) await end();
  }
}

async function together(member: string, count: number): Promise<Row> {
  const folder = await mkdtemp(join(tmpdir(), 'cnm-bench-'));
  const hosts = await Promise.all(
    Array.from({ length: count }, (_, n) => host(member, join(folder, `${n}`), `host${n}`)),
  );
  const pool = prefix(`10.${count}.0.0/16`);
  const ids = await Promise.all(
    hosts.map(({ ipam }) => ipam.requestPool({ space: ipam.globalSpace, pool, v6: false, options: {} })),
  );
  const poolId = ids[0]?.poolId ?? '';
  const share = Math.floor(EACH / count);
  const ours = await timed(() => Promise.all(hosts.map(({ ipam }) => many(ipam, poolId, share))));
  const theirs = await timed(() => Promise.all(hosts.map(({ store }) => transactions(store, share))));
  for (const { close } of hosts) await close();
  await rm(folder, { recursive: true });
  return {
    what: `cluster of ${count}: addresses per second, ${IN_FLIGHT} in flight on each host (theirs: a transaction for each)`,
    ours: rate(share * count, ours),
    theirs: rate(share * count, theirs),
    ratio: (theirs / ours).toFixed(2),
    aim: '',
  };
}

async function host(member: string, folder: string, name: string) {
  const disk = await openStore(folder);
  const store = openEtcd({ members: [member] });
  const ipam = await createIpam({ store: disk, cluster: { store, name, boot: name } });
  const close = async () => {
    await ipam.close();
    await store.close();
    await disk.close();
  };
  return { ipam, store, close };
}

async function many(ipam: Ipam, poolId: string, count: number): Promise<void> {
  let left = count;
  const worker = async () => {
    while (left-- > 0) await ipam.requestAddress(poolId, { gateway: false, serial: false });
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
}

async function transactions(store: ReturnType<typeof openEtcd>, count: number): Promise<void> {
  let left = count;
  const worker = async () => {
    while (left-- > 0) {
      const key = `bench/${crypto.randomUUID()}`;
      good(await store.transact([{ key, is: 'absent' }], [{ put: key, value: { host: store.name } }]));
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
}

function rate(count: number, ms: number): string {
  return `${Math.round((count / ms) * 1000).toLocaleString('en')}/s`;
}
