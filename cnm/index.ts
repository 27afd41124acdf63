/** The Container Network Model: `createCnm` builds its operations on a kernel, a store and a list of drivers. */
import type { Ip } from '../address/ip.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Store } from '../store/store.ts';
import { checkNetwork } from './check.ts';
import type { Cnm, EngineView } from './cnm.ts';
import { type Context, driverOf } from './context.ts';
import type { ControlPlane } from './control.ts';
import type { Driver, Encryption } from './driver.ts';
import * as endpoints from './endpoints.ts';
import { CnmError } from './errors.ts';
import type { Leases } from './leases.ts';
import type { Log } from './log.ts';
import * as networks from './networks.ts';
import { renewAllKeys } from './renewal.ts';
import * as publish from './publish.ts';
import { Queues } from './queue.ts';
import { readdress } from './readdress.ts';
import { Reach } from './reach.ts';
import { drift } from './drift.ts';
import { reconcile, repairLinks } from './reconcile.ts';
import { Records } from './records.ts';
import { followHosts, followRemotes } from './presence.ts';
import { resizeNetworks } from './resize.ts';
import * as sandboxes from './sandboxes.ts';
import { SpentKeys } from './spent-keys.ts';
import { Swarm } from './swarm.ts';

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
  /** By which networks are had together with other hosts. */
  readonly control?: ControlPlane | undefined;
  /** Absent: no network can have its addresses from a DHCP server. */
  readonly leases?: Leases;
  readonly now?: () => Date;
  /** Milliseconds to wait for the end of a sandbox whose address Docker gives to another container. Default 10 s; Docker waits at least 15. */
  readonly patience?: number;
}

/** What the operations share, before anything is under way. @throws CnmError `store` when a record is not readable. */
function contextOf(options: CnmOptions): Context {
  const { kernel, store, drivers, log, runDir, engine, advertise, leases, control, encryption } = options;
  const { now = () => new Date(), patience = 10_000 } = options;
  const records = new Records(store);
  const swarm = new Swarm(store, now);
  return {
    kernel,
    records,
    drivers,
    queues: new Queues(),
    log,
    runDir,
    engine,
    leases,
    host: () => ({
      netnsDir: `${runDir}/netns`,
      ...(advertise !== undefined && { advertise }),
      encryption: encryption?.(),
      nodes: swarm.nodes().map(({ address }) => address),
    }),
    swarm,
    spentKeys: new SpentKeys(store, now),
    control,
    reach: new Reach({ kernel, records, drivers, log, control }),
    now,
    patience,
    claimed: new Set(),
    entering: new Map(),
    remains: new Set(),
    following: new Set(),
    ephemeral: { next: 0 },
    awaited: new Set(),
    interfaces: new Map(),
    checks: new Set(),
  };
}

/** Reads the records; touches nothing in the kernel. @throws CnmError `store` when a record is not readable. */
export function createCnm(options: CnmOptions): Cnm {
  const context = contextOf(options);
  const { drivers, records, swarm, reach, control } = context;
  const gate = new Gate();
  records.watch(({ what, ...change }) => {
    if (what === 'remote' && 'network' in change) followRemotes(context, change.network);
  });
  const follow = async () => {
    await followHosts(context);
    await resizeNetworks(context);
  };
  return {
    drivers,
    createNetwork: (spec) => gate.pass(() => networks.createNetwork(context, spec)),
    deleteNetwork: (id) => gate.pass(() => networks.deleteNetwork(context, id)),
    createEndpoint: (spec) => gate.pass(() => endpoints.createEndpoint(context, spec)),
    deleteEndpoint: (network, id) => gate.pass(() => endpoints.deleteEndpoint(context, network, id)),
    readdress: (network, id, leased) => gate.pass(() => readdress(context, network, id, leased)),
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
    allocateNetwork: (spec) =>
      gate.pass(() => swarm.allocate(driverOf(context, spec.driver), spec, records.networks())),
    freeNetwork: (id) => gate.pass(() => swarm.free(id)),
    addNode: (node) =>
      gate.pass(async () => {
        if (await swarm.add(node)) await follow();
      }),
    removeNode: (address) =>
      gate.pass(async () => {
        if (await swarm.remove(address)) await follow();
      }),
    followHosts: () => gate.pass(follow),
    nodes: () => swarm.nodes(),
    allocations: () => swarm.allocations(),
    networks: () => records.networks(),
    network: (id) => records.network(id),
    endpoints: (network) => records.endpoints(network),
    endpoint: (network, id) => records.endpoint(network, id),
    sandboxes: () => records.sandboxes(),
    watch: (listener) => records.watch(listener),
    remotes: (network) => reach.remotes(network),
    remote: (network, id) => reach.remote(network, id),
    forgetHost: async (host) => (await control?.forget(host)) ?? false,
    introduce: (network, id, introduction) => {
      reach.introduce(network, id, introduction);
    },
    drift: () => drift(context),
    reconcile: (options = { removeOrphans: true }) => gate.pass(() => reconcile(context, options)),
    checkNetwork: (id, targets) => gate.pass(() => checkNetwork(context, id, targets)),
    repairLinks: () => gate.pass(() => repairLinks(context)),
    dryRun: (spec) => networks.dryRun(context, spec),
    renewKeys: (retire) => gate.pass(() => renewAllKeys(context, retire)),
    close: () =>
      gate.close(async () => {
        await context.queues.idle();
        await reach.close();
      }),
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
