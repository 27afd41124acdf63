/** Makes the kernel what the records say it is to be: what a crash cut off is undone or finished, what is missing put back, orphans removed. */
import { isEntry } from '../kernel/entry.ts';
import type { Orphan } from '../kernel/kernel.ts';
import type { Plan, Step } from '../kernel/step.ts';
import type { Difference, ReconcileReport } from './cnm.ts';
import { settleAdvertisements } from './advertisements.ts';
import { type Context, inEndpoint } from './context.ts';
import { dismantleEndpoint } from './endpoints.ts';
import { messageOf } from './errors.ts';
import type { EndpointRecord, NetworkId } from './model.ts';
import { dismantleNetwork } from './networks.ts';
import { desired, difference, differencesOf, drift, isCutOff, query } from './drift.ts';
import { accountedFor, nameOf, orphans } from './orphans.ts';
import { singly } from './ports.ts';
import { intoContainer, isOrphaned, notePutBack, tellOfParents } from './parents.ts';
import { dismantlePresence, isHeld } from './presence.ts';
import { unpublish } from './publish.ts';
import { isOnce } from './spent-keys.ts';
import { replaceKeys } from './renewal.ts';
import { dismantleSandbox, inheritDefaultRoute } from './sandboxes.ts';
import { sharing } from './shared.ts';

export interface ReconcileOptions {
  readonly removeOrphans: boolean;
  /**
   * False = do not switch net.ipv4.ip_forward on for networks of Docker's. dockerd sets its FORWARD policy to DROP only when it is the one
   * that switches ip_forward on (libnetwork.md §1.2): a daemon that restores its networks before dockerd starts would leave
   * the host forwarding for everybody. Default true.
   */
  readonly forwarding?: boolean;
}

export async function reconcile(
  context: Context,
  { removeOrphans, forwarding = true }: ReconcileOptions,
): Promise<ReconcileReport> {
  const failed: string[] = [];
  const { undone, finished } = await settle(context, failed);
  await context.kernel.prepare();
  const { differences } = await drift(context);
  const repaired = await repairAll(context, differences, failed, forwarding);
  context.reach.enterAll();
  await passOnDefaultRoutes(context, failed);
  const removed = removeOrphans ? await removeAll(context, failed) : [];
  return { undone, finished, repaired, removed, failed };
}

/**
 * Puts back links, addresses and routes alone, and what stands on a link that was missing. The firewall is not looked at: reading Docker's chains costs processes, and links
 * change with every container that Docker starts.
 */
export async function repairLinks(context: Context): Promise<ReconcileReport> {
  const failed: string[] = [];
  const wanted = desired(context).map((one) => ({
    ...one,
    plan: one.plan.filter((step) => !isFirewall(step) && !isEntry(step)),
  }));
  const facts = await context.kernel.facts({ ...query(wanted), firewall: false, entries: false });
  const differences = differencesOf(context, wanted, facts);
  const repaired = await repairAll(context, differences, failed, false);
  return { undone: [], finished: [], repaired, removed: [], failed };
}

async function repairAll(
  context: Context,
  differences: readonly Difference[],
  failed: string[],
  forwarding: boolean,
): Promise<readonly Difference[]> {
  tellOfParents(context, differences);
  const repaired: Difference[] = [];
  for (const one of differences.filter((candidate) => candidate.repairable)) {
    const done = await attempt(failed, () => repair(context, one, forwarding));
    if (done !== undefined) repaired.push(done);
  }
  await attempt(failed, () => settleAdvertisements(context));
  return repaired;
}

/**
 * Brings every record that a crash cut off to nothing. Each in its queue: a record that is only under way is past that
 * state by the time its turn comes.
 */
async function settle(context: Context, failed: string[]): Promise<{ undone: string[]; finished: string[] }> {
  const undone: string[] = [];
  const finished: string[] = [];
  const note = (state: string, what: string) => (state === 'applying' ? undone : finished).push(what);
  for (const { network, id } of context.records.endpoints().filter(isCutOff)) {
    await attempt(failed, () =>
      inEndpoint(context, network, id, async () => {
        const endpoint = context.records.endpoint(network, id);
        if (endpoint === undefined || !isCutOff(endpoint)) return;
        if (onlyPorts(endpoint)) await unpublish(context, endpoint);
        else await dismantleEndpoint(context, endpoint);
        note(endpoint.state === 'removing' ? 'removing' : 'applying', `endpoint ${id}`);
      }),
    );
  }
  for (const { id } of context.records.networks().filter((network) => network.state !== 'ready')) {
    await attempt(failed, () =>
      context.queues.run(id, async () => {
        const network = context.records.network(id);
        if (network === undefined || network.state === 'ready') return;
        await dismantleNetwork(context, network);
        note(network.state, `network ${id}`);
      }),
    );
  }
  for (const { id } of context.records.networks().filter((network) => network.presence !== undefined)) {
    await attempt(failed, () => context.queues.run(id, () => leaveIfEmpty(context, id, finished)));
  }
  for (const { id } of context.records.sandboxes().filter((sandbox) => sandbox.state !== 'ready')) {
    await attempt(failed, () =>
      context.queues.run(id, async () => {
        const sandbox = context.records.sandbox(id);
        if (sandbox === undefined || sandbox.state === 'ready') return;
        await dismantleSandbox(context, sandbox);
        note(sandbox.state, `sandbox ${sandbox.name}`);
      }),
    );
  }
  return { undone, finished };
}

/** Its last endpoint went, and a crash came before what it had left behind here went too. In the network's queue. */
async function leaveIfEmpty(context: Context, id: NetworkId, finished: string[]): Promise<void> {
  const network = context.records.network(id);
  if (network?.presence === undefined || isHeld(context, id)) return;
  await dismantlePresence(context, network);
  finished.push(`network ${id}`);
}

/** Publishing alone was cut off: the container may live on without its ports, and asks for them again when it starts. */
function onlyPorts(endpoint: EndpointRecord): boolean {
  return endpoint.state === 'ready' && endpoint.attachment?.state !== 'applying';
}

/** In the object's queue, against fresh facts: what was missing a moment ago may have been deleted on purpose since. */
async function repair(
  context: Context,
  found: Difference,
  forwarding: boolean,
): Promise<Difference | undefined> {
  return inQueue(context, found, async () => {
    const now = desired(context).find((one) => one.object === found.object && one.id === found.id);
    if (now === undefined) return undefined;
    const facts = await context.kernel.facts({ ...query([now]), firewall: now.plan.some(isFirewall) });
    const current = difference(context, now, facts);
    if (!current.repairable) return undefined;
    const ofDocker = context.records.network(found.id)?.origin === 'docker';
    const lost = current.missing.filter(isOnce);
    const missing = current.missing.filter(
      (step) => (forwarding || !ofDocker || !isForwarding(step)) && !isOnce(step),
    );
    if (missing.length + lost.length === 0) return undefined;
    const isOut = now.endpoint !== undefined && isOrphaned(missing) ? now.endpoint : undefined;
    const inside = isOut === undefined ? [] : intoContainer(context, isOut, facts);
    await sharing(context, now.plan, () => putBack(context, [...missing, ...inside]));
    // What other hosts say has its own pace, and may be other entries since they were looked up.
    if (missing.some(isEntry)) context.reach.look(found.id);
    if (lost.length > 0) await replaceKeys(context, found.id);
    if (isOut !== undefined) await notePutBack(context, isOut);
    context.log.debug({ [found.object]: found.id.slice(0, 12), steps: missing.length }, 'repaired');
    return { ...current, missing: [...missing, ...lost] };
  });
}

/** A port that somebody else took while we did not run keeps nothing else from being put back. */
async function putBack({ kernel }: Context, missing: Plan): Promise<void> {
  const holds = missing.filter((step) => step.do === 'port.hold');
  try {
    await kernel.apply(missing);
  } catch (error) {
    if (holds.length === 0) throw error;
    const failed: string[] = [];
    await kernel.apply(missing.filter((step) => step.do !== 'port.hold'));
    for (const one of holds.flatMap(singly)) await attempt(failed, () => kernel.apply([one]));
    if (failed.length > 0) throw new Error(failed.join('; '), { cause: error });
  }
}

function inQueue<T>(context: Context, { network, id }: Difference, work: () => Promise<T>): Promise<T> {
  return network === undefined ? context.queues.run(id, work) : inEndpoint(context, network, id, work);
}

/** A crash within a leave may have undone the endpoint with the default route and not yet have given it to the next one. */
async function passOnDefaultRoutes(context: Context, failed: string[]): Promise<void> {
  for (const { id } of context.records.sandboxes()) {
    await attempt(failed, () =>
      context.queues.run(id, async () => {
        const sandbox = context.records.sandbox(id);
        if (sandbox?.state === 'ready') await inheritDefaultRoute(context, sandbox);
      }),
    );
  }
}

/** The host's own switch, which dockerd turns on when it starts. It leaves IPv6 alone unless its own networks want it. */
function isForwarding(step: Step): boolean {
  return step.do === 'sysctl.set' && step.netns === undefined && step.key === 'net.ipv4.ip_forward';
}

function isFirewall(step: Step): boolean {
  const kinds: readonly Step['do'][] = [
    'nft.element',
    'forward.accept',
    'encrypted.guard',
    'uplink.translate',
  ];
  return kinds.includes(step.do);
}

async function removeAll(context: Context, failed: string[]): Promise<Orphan[]> {
  const removed: Orphan[] = [];
  const facts = await context.kernel.facts({ plans: desired(context).map((one) => one.plan) });
  for (const orphan of orphans(context, facts)) {
    await attempt(failed, async () => {
      // Asked again right before: an object may have been created under the same name since the dump.
      if (accountedFor(context).has(nameOf(orphan))) return;
      await context.kernel.remove(orphan);
      context.log.info({ orphan }, 'an orphan that bears our mark was removed');
      removed.push(orphan);
    });
  }
  return removed;
}

async function attempt<T>(failed: string[], work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    failed.push(messageOf(error));
    return undefined;
  }
}
