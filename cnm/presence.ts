/**
 * What this host holds of a network for the sake of its endpoints: made with the first of them, gone with the last (`Driver.presence`).
 * A driver without one has everything in the network's own plan. To be called in an endpoint's queue, or in the network's.
 */
import { describe } from '../kernel/describe.ts';
import { apply, type Context, driverOf, hostFor, networkOf, PLANNING, revert } from './context.ts';
import { CnmError, messageOf } from './errors.ts';
import type { NetworkId, NetworkRecord } from './model.ts';
import { without } from './plans.ts';

/** @returns The network as an endpoint can be made on it, and what to call when the endpoint has a record, or has failed. */
export async function enter(
  context: Context,
  id: NetworkId,
): Promise<{ readonly network: NetworkRecord; readonly entered: () => Promise<void> }> {
  const network = networkOf(context, id);
  if (driverOf(context, network.driver).presence === undefined)
    return { network, entered: () => Promise.resolve() };
  count(context, id, 1);
  const entered = () => {
    count(context, id, -1);
    return vacate(context, id);
  };
  try {
    return { network: await context.queues.run(presenceQueue(id), () => establish(context, id)), entered };
  } catch (error) {
    await entered();
    throw error;
  }
}

/** Whoever has removed an endpoint calls this. What cannot be removed now is removed before the next endpoint, or at the next start. */
export async function vacate(context: Context, id: NetworkId): Promise<void> {
  if (context.records.network(id)?.presence === undefined) return;
  await context.queues.run(presenceQueue(id), async () => {
    const network = context.records.network(id);
    if (network?.presence === undefined || isHeld(context, id)) return;
    try {
      await dismantlePresence(context, network);
    } catch (error) {
      if (!(error instanceof CnmError)) throw error;
      context.log.warn({ network: id.slice(0, 12), error: error.message }, 'left behind, for the next start');
    }
  });
}

/**
 * Brings the presence of each network to what it is to be with the hosts of this moment (`Driver.follow`). What is new is made before
 * what is old is undone. The record has both from the start, so that a crash between leaves nothing that nobody knows of.
 */
export async function followHosts(context: Context): Promise<void> {
  for (const { id } of context.records.networks()) {
    try {
      await context.queues.share(id, () => context.queues.run(presenceQueue(id), () => follow(context, id)));
    } catch (error) {
      context.log.error({ network: id.slice(0, 12), error: messageOf(error) }, 'does not follow its hosts');
    }
  }
}

/** The hosts of one network have changed, by the records of the cluster. Returns at once; what comes meanwhile is followed together. */
export function followRemotes(context: Context, id: NetworkId): void {
  const { following, queues, log, records } = context;
  const encrypted = records.network(id)?.presence?.some((step) => step.do === 'encrypted.guard');
  if (encrypted !== true || following.has(id)) return;
  following.add(id);
  const work = () => {
    following.delete(id);
    return follow(context, id);
  };
  queues
    .share(id, () => queues.run(presenceQueue(id), work))
    .catch((error: unknown) => {
      log.error({ network: id.slice(0, 12), error: messageOf(error) }, 'does not follow its hosts');
    });
}

async function follow(context: Context, id: NetworkId): Promise<void> {
  const network = context.records.network(id);
  if (network?.presence === undefined) return;
  const { presence: present, former = [] } = network;
  const presence =
    driverOf(context, network.driver).follow?.(network, hostFor(context, id, present)) ?? present;
  const gone = without([...present, ...former], presence);
  const added = without(presence, present);
  if (gone.length === 0 && added.length === 0) return;
  await context.records.putNetwork({ ...network, presence, former: gone });
  try {
    await apply(context, `join network ${id.slice(0, 12)}`, added);
  } catch (error) {
    // It is as it was, and is to follow when it is asked to again.
    await context.records.putNetwork(network);
    throw error;
  }
  await revert(context, `leave network ${id.slice(0, 12)}`, gone);
  const { former: undone, ...rest } = { ...network, presence, former: gone };
  await context.records.putNetwork(rest);
  context.log.debug(
    { network: id.slice(0, 12), added: added.map(describe), gone: undone.map(describe) },
    'the hosts of the network have changed',
  );
}

export function isHeld(context: Context, id: NetworkId): boolean {
  return context.entering.has(id) || context.records.endpoints(id).length > 0;
}

/** Brings it to nothing, whatever of it there is. Where that fails, it is nothing to stand on. */
export async function dismantlePresence(context: Context, network: NetworkRecord): Promise<void> {
  if (network.presence === undefined) return;
  context.remains.add(network.id);
  await context.reach.leave(network.id);
  const plan = [...network.presence, ...(network.former ?? [])];
  await revert(context, `leave network ${network.id.slice(0, 12)}`, plan);
  const rest = { ...network };
  Reflect.deleteProperty(rest, 'presence');
  Reflect.deleteProperty(rest, 'former');
  await context.records.putNetwork(rest);
  context.remains.delete(network.id);
}

async function establish(context: Context, id: NetworkId): Promise<NetworkRecord> {
  if (context.remains.has(id)) await dismantlePresence(context, networkOf(context, id));
  const network = networkOf(context, id);
  if (network.presence !== undefined) return network;
  try {
    // One after another: what is free on the host must not be found by two.
    const record = await context.queues.run(PLANNING, () => make(context, network));
    await context.reach.enter(record);
    await follow(context, id);
  } catch (error) {
    await dismantlePresence(context, networkOf(context, id));
    throw error;
  }
  const { presence = [] } = networkOf(context, id);
  context.log.debug(
    { network: id.slice(0, 12), plan: presence.map(describe) },
    'what the network needs here',
  );
  return networkOf(context, id);
}

/** In the record before it is in the kernel: what a crash leaves is then known as ours. */
async function make(context: Context, network: NetworkRecord): Promise<NetworkRecord> {
  const { id } = network;
  const facts = await context.kernel.facts({ firewall: false });
  const presence =
    driverOf(context, network.driver).presence?.(network, facts, hostFor(context, id, [])) ?? [];
  const record = { ...network, presence };
  await context.records.putNetwork(record);
  await apply(context, `join network ${id.slice(0, 12)}`, presence);
  return record;
}

/** Endpoints on their way to a record keep what they are being made on. */
function count(context: Context, id: NetworkId, by: 1 | -1): void {
  const now = (context.entering.get(id) ?? 0) + by;
  if (now === 0) context.entering.delete(id);
  else context.entering.set(id, now);
}

/** The key of all that changes what this host holds of the network. */
export function presenceQueue(id: NetworkId): string {
  return `${id} presence`;
}
