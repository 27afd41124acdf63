/** Keys of networks that live on, replaced one set by the next. */
import type { Plan, Step } from '../kernel/step.ts';
import { apply, type Context, driverOf, hostFor, revert } from './context.ts';
import { CnmError } from './errors.ts';
import type { NetworkId, NetworkRecord } from './model.ts';
import { presenceQueue } from './presence.ts';
import { messageOf } from './records.ts';
import { isOnce } from './spent-keys.ts';

/**
 * One network's failure keeps no other from its keys; it has those that it had.
 * @returns how many networks have other keys now
 * @throws CnmError of the first network that could not get its keys, after all others have theirs: who says to others that this host receives
 *   with them must not
 */
export async function renewAllKeys(context: Context, retire: boolean): Promise<number> {
  const encrypted = context.records.networks().filter(({ presence }) => presence?.some(isKey) === true);
  const done = await Promise.allSettled(encrypted.map(({ id }) => renewKeys(context, id, retire)));
  const failed = done.find((one) => one.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
  return done.filter((one) => one.status === 'fulfilled' && one.value).length;
}

/** In the place of keys that were sent with and are gone from the kernel, for they must not be made again, others. In the network's queue. */
export async function replaceKeys(context: Context, id: NetworkId): Promise<void> {
  await context.queues.run(presenceQueue(id), () => renew(context, id, false));
}

/** Not beside a repair, a resize or the network's end, which are alone on it. */
async function renewKeys(context: Context, id: NetworkId, retire: boolean): Promise<boolean> {
  try {
    return await context.queues.share(id, () =>
      context.queues.run(presenceQueue(id), () => renew(context, id, retire)),
    );
  } catch (error) {
    throw new CnmError(
      error instanceof CnmError ? error.code : 'internal',
      `The keys of network ${id.slice(0, 12)} could not be renewed: ${messageOf(error)}`,
      { cause: error },
    );
  }
}

/**
 * Only keys: what else the plan would be by now is another matter. In the record before they are in the kernel, and until they are out of it: so
 * the kernel tells which of those to send with it has. One that it has not is planned anew, as itself when it was never sent with.
 */
async function renew(context: Context, id: NetworkId, retire: boolean): Promise<boolean> {
  const network = context.records.network(id);
  if (network?.presence === undefined || network.state !== 'ready') return false;
  const facts = await context.kernel.facts({ plans: [network.presence], firewall: false, entries: false });
  const lost = context.kernel.missing(network.presence.filter(isOnce), facts);
  const present = without(network.presence, lost);
  const held = present.filter(isKey);
  const host = hostFor(context, id, present);
  if (host.encryption === undefined)
    throw new CnmError(
      'option-invalid',
      `Network ${id} is encrypted, and this daemon has no secret for its next keys; it keeps those that it has`,
    );
  // From the present one alone: the way to its hosts may be another by now, and its tunnels are not.
  const wanted = (driverOf(context, network.driver).follow?.(network, host) ?? network.presence).filter(
    isKey,
  );
  const fresh = without(wanted, held);
  const stale = retire ? without(held, wanted) : [];
  if (fresh.length + stale.length + lost.length === 0) return false;
  await context.records.putNetwork(withKeys(network, [...held, ...fresh]));
  try {
    await apply(context, `renew the keys of network ${id.slice(0, 12)}`, fresh);
  } catch (error) {
    await context.records.putNetwork(network);
    throw error;
  }
  if (stale.length === 0) return true;
  await revert(context, `retire keys of network ${id.slice(0, 12)}`, stale);
  await context.records.putNetwork(withKeys(network, [...without(held, stale), ...fresh]));
  return true;
}

function isKey(step: Step): boolean {
  return step.do === 'xfrm.state.add';
}

function without(plan: Plan, others: Plan): Plan {
  const known = new Set(others.map((step) => JSON.stringify(step)));
  return plan.filter((step) => !known.has(JSON.stringify(step)));
}

/** Where the keys have been in the plan. */
function withKeys(network: NetworkRecord, keys: Plan): NetworkRecord {
  const { presence = [] } = network;
  const at = presence.findIndex(isKey);
  const rest = presence.filter((step) => !isKey(step));
  return { ...network, presence: [...rest.slice(0, at), ...keys, ...rest.slice(at)] };
}
