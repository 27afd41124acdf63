/** What the daemon does between its sockets being open and its first answer. */
import type { Cnm } from '../cnm/cnm.ts';
import type { Log } from '../cnm/log.ts';
import type { Dns } from '../dns/service.ts';
import { HOST } from '../ipam/cluster/identity.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Store, StoreNotice } from '../store/store.ts';
import type { Dhcp } from './dhcp.ts';
import { logReport, type Upkeep } from './upkeep.ts';

export interface StartParts {
  readonly kernel: Kernel;
  readonly cnm: Cnm;
  readonly log: Log;
  readonly store: Store;
  readonly upkeep: Upkeep;
  readonly dns: Dns;
  readonly overlay: { start(): void };
  readonly dhcp: Dhcp;
  /** Absent: this host is in no cluster. */
  readonly published: { start(): void } | undefined;
  readonly version: string;
  /** Gives back the addresses of what a crash has cut off. */
  readonly reclaimLeases: () => Promise<unknown>;
}

/** Brings records and kernel to agree: what a crash cut off is undone or finished, what is missing is put back. */
export async function start({
  kernel,
  cnm,
  log,
  store,
  upkeep,
  dns,
  overlay,
  dhcp,
  published,
  version,
  reclaimLeases,
}: StartParts): Promise<void> {
  const began = performance.now();
  for (const notice of store.notices) log.warn(notice, noticeText(notice));
  await kernel.prepare();
  const removeOrphans = isComplete(store);
  logReport(log, await cnm.reconcile({ removeOrphans, forwarding: false }));
  await cnm.followHosts();
  if (!removeOrphans) await tellOfOrphans(cnm, log);
  await reclaimLeases();
  await dhcp.start();
  await dns.start();
  overlay.start();
  published?.start();
  upkeep.start();
  const counts = { networks: cnm.networks().length, endpoints: cnm.endpoints().length };
  log.info({ version, ...counts, ms: Math.round(performance.now() - began) }, 'ready');
}

/**
 * Whether what no record tells of can be taken for an orphan. It may well be a running container's when a damaged file was
 * set aside, or when there are no records at all (but the host's own id, which a cluster makes first): the state directory is then a
 * wrong one, or that of the other form.
 */
function isComplete(store: Store): boolean {
  return (
    !store.notices.some((notice) => notice.kind === 'damaged') && store.list('').some(([key]) => key !== HOST)
  );
}

async function tellOfOrphans(cnm: Cnm, log: Log): Promise<void> {
  const { orphans } = await cnm.drift();
  if (orphans.length === 0) return;
  const advice =
    'kept: no record tells of it, but records may be lost. See cnm doctor; cnm doctor --fix removes it';
  log.warn({ orphans: orphans.length }, advice);
}

export function noticeText(notice: StoreNotice): string {
  if (notice.kind === 'damaged') return notice.message;
  return `The records were brought from schema ${notice.from} to ${notice.to}`;
}
