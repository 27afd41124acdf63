/** The Container Network Model: `createCnm` builds its operations on a kernel, a store and a list of drivers. */
import type { Ip } from '../address/ip.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Store } from '../store/store.ts';
import type { Cnm, EngineView } from './cnm.ts';
import type { Context } from './context.ts';
import type { Driver, Encryption } from './driver.ts';
import * as endpoints from './endpoints.ts';
import { CnmError } from './errors.ts';
import type { Log } from './log.ts';
import * as networks from './networks.ts';
import { renewAllKeys } from './renewal.ts';
import * as publish from './publish.ts';
import { Queues } from './queue.ts';
import { drift, reconcile, repairLinks } from './reconcile.ts';
import { Records } from './records.ts';
import * as sandboxes from './sandboxes.ts';

export interface CnmOptions {
  readonly kernel: Kernel;
  readonly store: Store;
  readonly drivers: readonly Driver[];
  readonly log: Log;
  /** Namespaces of our sandboxes are files in `<runDir>/netns`. */
  readonly runDir: string;
  readonly engine?: EngineView;
  /** The address by which other hosts reach this one; absent = each driver finds out. */
  readonly advertise?: Ip;
  /** What encrypted networks are encrypted with now. */
  readonly encryption?: () => Encryption | undefined;
  readonly now?: () => Date;
}

/** Reads the records; touches nothing in the kernel. @throws CnmError `store` when a record is not readable. */
export function createCnm(options: CnmOptions): Cnm {
  const {
    kernel,
    store,
    drivers,
    log,
    runDir,
    engine,
    advertise,
    encryption,
    now = () => new Date(),
  } = options;
  const records = new Records(store);
  const context: Context = {
    kernel,
    records,
    drivers,
    queues: new Queues(),
    log,
    runDir,
    engine,
    host: {
      netnsDir: `${runDir}/netns`,
      ...(advertise !== undefined && { advertise }),
      get encryption() {
        return encryption?.();
      },
    },
    now,
    claimed: new Set(),
    entering: new Map(),
    ephemeral: { next: 0 },
  };
  const gate = new Gate();
  return {
    drivers,
    createNetwork: (spec) => gate.pass(() => networks.createNetwork(context, spec)),
    deleteNetwork: (id) => gate.pass(() => networks.deleteNetwork(context, id)),
    createEndpoint: (spec) => gate.pass(() => endpoints.createEndpoint(context, spec)),
    deleteEndpoint: (network, id) => gate.pass(() => endpoints.deleteEndpoint(context, network, id)),
    join: (network, id, key) => gate.pass(() => endpoints.join(context, network, id, key)),
    leave: (network, id) => gate.pass(() => endpoints.leave(context, network, id)),
    programExternalConnectivity: (network, id, ports) =>
      gate.pass(() => publish.programExternal(context, network, id, ports)),
    revokeExternalConnectivity: (network, id) =>
      gate.pass(() => publish.revokeExternal(context, network, id)),
    createSandbox: (name, dns) => gate.pass(() => sandboxes.createSandbox(context, name, dns)),
    deleteSandbox: (reference) => gate.pass(() => sandboxes.deleteSandbox(context, reference)),
    joinSandbox: (reference, spec) => gate.pass(() => sandboxes.joinSandbox(context, reference, spec)),
    leaveSandbox: (reference, network) =>
      gate.pass(() => sandboxes.leaveSandbox(context, reference, network)),
    networks: () => records.networks(),
    network: (id) => records.network(id),
    endpoints: (network) => records.endpoints(network),
    endpoint: (network, id) => records.endpoint(network, id),
    sandboxes: () => records.sandboxes(),
    watch: (listener) => records.watch(listener),
    drift: () => drift(context),
    reconcile: (options = { removeOrphans: true }) => gate.pass(() => reconcile(context, options)),
    repairLinks: () => gate.pass(() => repairLinks(context)),
    dryRun: (spec) => networks.dryRun(context, spec),
    renewKeys: (retire) => gate.pass(() => renewAllKeys(context, retire)),
    close: () => gate.close(() => context.queues.idle()),
  };
}

/** Lets operations in until it is closed; closing waits for those that are inside. */
class Gate {
  #closed = false;
  readonly #inside = new Set<Promise<unknown>>();

  async pass<T>(operation: () => Promise<T>): Promise<T> {
    if (this.#closed) throw new CnmError('unavailable', 'The daemon is stopping');
    const running = operation();
    this.#inside.add(running);
    try {
      return await running;
    } finally {
      this.#inside.delete(running);
    }
  }

  async close(afterwards: () => Promise<void>): Promise<void> {
    this.#closed = true;
    await Promise.allSettled(this.#inside);
    await afterwards();
  }
}
