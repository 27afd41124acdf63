/** What the operations of the CNM share; made once by `createCnm`. */
import type { Kernel } from '../kernel/kernel.ts';
import { KernelError } from '../kernel/kernel.ts';
import type { Plan } from '../kernel/step.ts';
import type { EngineView } from './cnm.ts';
import type { ControlPlane } from './control.ts';
import type { Driver, HostSettings } from './driver.ts';
import { CnmError } from './errors.ts';
import type { Leases } from './leases.ts';
import type { Log } from './log.ts';
import type { EndpointId, NetworkId, NetworkRecord } from './model.ts';
import type { Queues } from './queue.ts';
import type { Reach } from './reach.ts';
import { messageOf, type Records } from './records.ts';
import type { SpentKeys } from './spent-keys.ts';
import type { Swarm } from './swarm.ts';

export interface Context {
  readonly kernel: Kernel;
  readonly records: Records;
  readonly drivers: readonly Driver[];
  readonly queues: Queues;
  readonly log: Log;
  /** Where the namespaces of our sandboxes live, for example /run/cnm. */
  readonly runDir: string;
  /** As it is known now. */
  readonly host: () => HostSettings;
  readonly swarm: Swarm;
  readonly spentKeys: SpentKeys;
  /** What other hosts have of this one's networks; the plane is absent where there are no other hosts. */
  readonly control: ControlPlane | undefined;
  readonly reach: Reach;
  /** Docker, asked for the names of containers where an error should name one. */
  readonly engine: EngineView | undefined;
  /** Who asks DHCP servers, where a driver wants it. */
  readonly leases: Leases | undefined;
  readonly now: () => Date;
  /** Milliseconds that a namespace may take to be gone: see endpoints.ts. */
  readonly patience: number;
  /** Addresses of endpoints that are being created: two at once must not both find one free. */
  readonly claimed: Set<string>;
  /** How many endpoints of a network are being made and have no record yet: see presence.ts. */
  readonly entering: Map<NetworkId, number>;
  /** Networks whose presence was begun to be removed: what a failure leaves of it is not whole. */
  readonly remains: Set<NetworkId>;
  /** Networks whose presence is about to follow their hosts: see presence.ts. */
  readonly following: Set<NetworkId>;
  /** Where the search for the next ephemeral port begins: behind the last one given, so that a port given up rests. */
  readonly ephemeral: { next: number };
  /** The interfaces that networks wait for, and how those of Docker's containers were last seen to be called: see parents.ts. */
  readonly awaited: Set<string>;
  readonly interfaces: Map<EndpointId, string>;
  /** What self-tests have made and will undo: see check.ts. */
  readonly checks: Set<Plan>;
}

/** The key under which plans are made: two networks must not both find the same bridge name or subnet free. */
export const PLANNING = 'planning';

export function driverOf(context: Context, name: string): Driver {
  const driver = context.drivers.find((candidate) => candidate.name === name);
  if (driver === undefined) {
    const known = context.drivers.map((candidate) => candidate.name).join(', ');
    throw new CnmError('driver-unknown', `There is no driver "${name}" here; this daemon serves ${known}`);
  }
  return driver;
}

export function networkOf(context: Context, id: NetworkId): NetworkRecord {
  const network = context.records.network(id);
  if (network === undefined) throw new CnmError('network-unknown', `There is no network ${id}`);
  return network;
}

/** Endpoints of one network side by side, operations of one endpoint one after another, none while the network is made or deleted. */
export function inEndpoint<T>(
  context: Context,
  network: NetworkId,
  endpoint: EndpointId,
  work: () => Promise<T>,
): Promise<T> {
  return context.queues.share(network, () => context.queues.run(endpointKey(network, endpoint), work));
}

export function endpointKey(network: NetworkId, endpoint: EndpointId): string {
  return `${network}/${endpoint}`;
}

/** The host as a network is planned for it that has these steps already. Hosts that the records do not tell of yet are those that the steps name. */
export function hostFor({ host, spentKeys, reach }: Context, id: NetworkId, held: Plan): HostSettings {
  const settings = host();
  const { encryption } = settings;
  if (encryption === undefined) return settings;
  const remotes =
    reach.hosts(id) ?? held.flatMap((step) => (step.do === 'xfrm.policy.add' ? [step.dst] : []));
  return { ...settings, remotes, encryption: { ...encryption, spent: spentKeys.but(held) } };
}

/** Applies a plan; a kernel error becomes one that a person can read, with the kernel's own words in it. */
export async function apply(context: Context, what: string, plan: Plan): Promise<void> {
  await context.spentKeys.spend(plan, context.host().encryption?.lasts);
  try {
    await context.kernel.apply(plan);
  } catch (error) {
    throw readable(what, error);
  }
}

export async function revert(context: Context, what: string, plan: Plan): Promise<void> {
  try {
    await context.kernel.revert(plan);
  } catch (error) {
    throw readable(what, error);
  }
}

/**
 * After a failure: undoes the plan, then forgets the record. What cannot be undone now (a full disk, a stuck link) stays
 * in the store in its unfinished state, and the next reconcile undoes it.
 */
export async function abandon(
  context: Context,
  what: string,
  plan: Plan,
  drop: () => Promise<void>,
): Promise<void> {
  try {
    await context.kernel.revert(plan);
    await drop();
  } catch (error) {
    context.log.warn({ error: messageOf(error) }, `${what} failed and could not be undone yet`);
  }
}

function readable(what: string, error: unknown): Error {
  if (error instanceof KernelError)
    return new CnmError('kernel', `Cannot ${what}: ${error.message}`, { cause: error });
  return error instanceof Error ? error : new Error(String(error));
}
