/** What the daemon does of itself: put back what others remove from the kernel, and reclaim what Docker has forgotten. */
import { Chore } from './chore.ts';
import type { Cnm, EngineNetwork, EngineView, ReconcileReport } from '../cnm/cnm.ts';
import type { Log } from '../cnm/log.ts';
import { createReclaimer } from '../cnm/reclaim.ts';
import { createSwarmAgreement } from '../cnm/swarm-agreement.ts';
import type { Kernel } from '../kernel/kernel.ts';

export interface UpkeepParts {
  readonly cnm: Cnm;
  readonly kernel: Kernel;
  readonly engine: EngineView;
  readonly log: Log;
  /** The IPAM's part of the comparison with Docker's list (ipam/reclaim.ts). */
  readonly leases?: { look(listed: readonly EngineNetwork[]): Promise<unknown> };
  /** Where a test cannot wait as long as the daemon does. */
  readonly pace?: Partial<Pace>;
}

/** All in milliseconds. */
export interface Pace {
  /** After a change by somebody else: a firewall reload is over by then. */
  readonly repairAfter: number;
  readonly reclaimEvery: number;
  /** Between looks while a loss is suspected; more than `interval`. */
  readonly reclaimSoon: number;
  /** Records must have `minimumAge` before they can count as lost, so a suspicion lasts longer than that. */
  readonly suspicion: number;
  /** As in cnm/reclaim.ts. */
  readonly minimumAge: number;
  readonly interval: number;
  /** `age` of ipam/reclaim.ts, whose reclaimer is given. */
  readonly leaseAge: number;
}

const PACE: Omit<Pace, 'leaseAge'> = {
  repairAfter: 300,
  reclaimEvery: 60_000,
  reclaimSoon: 6_000,
  suspicion: 30_000,
  minimumAge: 15_000,
  interval: 5_000,
};

export interface Upkeep {
  /** From now on; not before the first reconcile is over. */
  start(): void;
  /** Something of Docker's may have been lost: look sooner than the regular interval. Returns at once. */
  suspectLoss(): void;
  /** Resolves when what is running now is over. */
  stop(): Promise<void>;
}

export function createUpkeep(parts: UpkeepParts): Upkeep {
  const { cnm, kernel, engine, log, leases, pace: given } = parts;
  const pace = { ...PACE, ...given };
  const { minimumAge, interval } = pace;
  let firewallToo = false;
  const repair = new Chore('the repair after a change in the kernel', log, async () => {
    const all = firewallToo;
    firewallToo = false;
    // Repair only: what nobody accounts for may be an operation of ours that is under way.
    logReport(
      log,
      await (all ? cnm.reconcile({ removeOrphans: false, forwarding: false }) : cnm.repairLinks()),
    );
  });
  const reclaimer = createReclaimer({ cnm, kernel, view: engine, log, minimumAge, interval });
  const swarm = createSwarmAgreement({ cnm, log, minimumAge, interval });
  let suspiciousUntil = 0;
  const reclaim = new Chore("the comparison with Docker's list", log, async () => {
    try {
      await reclaimer.look();
      // After the endpoints, which speak for their addresses.
      const listed = await engine.networks();
      if (listed === undefined) return;
      await leases?.look(listed);
      await swarm.look(listed);
    } finally {
      reclaim.within(Date.now() < suspiciousUntil ? pace.reclaimSoon : pace.reclaimEvery);
    }
  });
  let unwatch = () => {};
  return {
    start() {
      unwatch = kernel.watch((change) => {
        if (change.what === 'routes') return;
        log.debug(change, 'others changed something in the kernel');
        if (change.what !== 'links') firewallToo = true;
        repair.within(pace.repairAfter);
      });
      this.suspectLoss();
    },
    suspectLoss() {
      suspiciousUntil = Date.now() + pace.suspicion;
      reclaim.within(pace.reclaimSoon);
    },
    async stop() {
      unwatch();
      await Promise.all([repair.stop(), reclaim.stop()]);
    },
  };
}

/** What a reconcile did, as a line each for what a person should know. */
export function logReport(log: Log, report: ReconcileReport): void {
  const { undone, finished, repaired, removed, failed } = report;
  if (undone.length > 0) log.warn({ undone }, 'undone: a crash had cut it off');
  if (finished.length > 0) log.warn({ finished }, 'removed: a crash had cut its removal off');
  if (repaired.length > 0) {
    const what = repaired.map(
      ({ object, id, missing }) => `${object} ${id.slice(0, 12)}: ${missing.length} steps`,
    );
    log.warn({ repaired: what }, 'put back what was missing in the kernel');
  }
  if (removed.length > 0)
    log.warn({ removed: removed.length }, 'removed what bears our mark and belongs to nothing');
  if (failed.length > 0) log.error({ failed }, 'could not be put right');
}
