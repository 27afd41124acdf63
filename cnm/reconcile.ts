/**
 * Desired state = all stored plans; observed state = one dump of the kernel. The difference is what to repair; what bears
 * our mark and is in no plan is an orphan.
 */
import { type EntryStep, entryName, isEntry } from '../kernel/entry.ts';
import type { Facts } from '../kernel/facts.ts';
import type { FactsQuery, Orphan } from '../kernel/kernel.ts';
import type { LinkAdd, NetnsPath, NftElement, Plan, Step } from '../kernel/step.ts';
import type { Difference, Drift, ReconcileReport } from './cnm.ts';
import { settleAdvertisements } from './advertisements.ts';
import { type Context, inEndpoint } from './context.ts';
import { dismantleEndpoint, wholePlan } from './endpoints.ts';
import { dockersKey, whereabouts } from './holder.ts';
import type { EndpointRecord, NetworkId, NetworkRecord, State } from './model.ts';
import { dismantleNetwork } from './networks.ts';
import { singly } from './ports.ts';
import { awaited, intoContainer, isOrphaned, notePutBack, rememberNames, tellOfParents } from './parents.ts';
import { dismantlePresence, isHeld } from './presence.ts';
import { unpublish } from './publish.ts';
import { isOnce } from './spent-keys.ts';
import { replaceKeys } from './renewal.ts';
import { entriesOf } from './reached.ts';
import { messageOf } from './records.ts';
import { dismantleSandbox, inheritDefaultRoute } from './sandboxes.ts';
import { sharing } from './shared.ts';

/** One stored object with everything that should exist for it, in the order in which it is made. */
interface Desired {
  readonly object: Difference['object'];
  readonly id: string;
  readonly network?: string;
  readonly plan: Plan;
  readonly endpoint?: EndpointRecord;
}

/** Compares without changing anything; records that are being changed right now are left out. */
export async function drift(context: Context): Promise<Drift> {
  const wanted = desired(context);
  const facts = await context.kernel.facts(query(wanted));
  const differences = differencesOf(context, wanted, facts);
  return { differences, orphans: orphans(context, facts), rulesetCurrent: facts.rulesetCurrent };
}

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

/** An endpoint whose join or publishing was cut off is undone as a whole: whoever asked got no answer and asks again. */
function isCutOff(endpoint: EndpointRecord): boolean {
  return (
    endpoint.state !== 'ready' ||
    endpoint.attachment?.state === 'applying' ||
    (endpoint.external !== undefined && endpoint.external.state !== 'ready')
  );
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
  return step.do === 'nft.element' || step.do === 'forward.accept' || step.do === 'encrypted.guard';
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

function desired(context: Context): readonly Desired[] {
  const { records } = context;
  const ready = (record: { readonly state: State }) => record.state === 'ready';
  return [
    ...records
      .sandboxes()
      .filter(ready)
      .map(({ id, plan }) => ({ object: 'sandbox' as const, id, plan })),
    ...records
      .networks()
      .filter(ready)
      .map((network) => ({
        object: 'network' as const,
        id: network.id,
        plan: [...wholeNetwork(network), ...(context.reach.wanted(network.id) ?? [])],
      })),
    ...records
      .endpoints()
      .filter((endpoint) => !isCutOff(endpoint))
      .map((endpoint) => ({
        object: 'endpoint' as const,
        id: endpoint.id,
        network: endpoint.network,
        plan: wholePlan(endpoint),
        endpoint,
      })),
  ];
}

/** Everything that exists in the kernel for a network, in the order in which it was made. */
function wholeNetwork({ plan, presence = [] }: NetworkRecord): Plan {
  return [...plan, ...presence];
}

function query(wanted: readonly Desired[]): FactsQuery {
  const endpoints = wanted.flatMap(({ endpoint }) => endpoint ?? []);
  return { plans: wanted.map(({ plan }) => plan), netns: whereabouts(endpoints) };
}

function differencesOf(context: Context, wanted: readonly Desired[], facts: Facts): readonly Difference[] {
  rememberNames(context, facts);
  return wanted.map((one) => difference(context, one, facts)).filter((one) => one.missing.length > 0);
}

function difference(context: Context, wanted: Desired, facts: Facts): Difference {
  const missing = context.kernel.missing(wanted.plan, facts);
  const awaits = awaited(context, missing, facts);
  const { object, id, network } = wanted;
  return {
    ...{ object, id, missing },
    ...(network !== undefined && { network }),
    ...(awaits !== undefined && { awaits }),
    repairable: awaits === undefined && !isLost(wanted, missing, facts),
  };
}

/** A link that Docker had moved into a sandbox of its own and that is gone, for good where we cannot do again what Docker did. */
function isLost({ endpoint }: Desired, missing: Plan, facts: Facts): boolean {
  if (endpoint === undefined || dockersKey(endpoint) === undefined) return false;
  if (missing.some((step) => step.do === 'link.add' && step.link.kind === 'veth')) return true;
  return isOrphaned(missing) && !facts.netns.has(endpoint.attachment?.key ?? '');
}

function orphans(context: Context, facts: Facts): readonly Orphan[] {
  const { records } = context;
  const found: Orphan[] = [];
  for (const link of facts.host.links.values()) {
    if (link.mark !== undefined) found.push({ kind: 'link', name: link.name });
  }
  for (const path of facts.ourNetns) found.push({ kind: 'netns', path });
  // In a namespace that a network has; in a sandbox stands what was moved into it.
  for (const netns of records.networks().flatMap(namespacesOf)) {
    for (const link of facts.netns.get(netns)?.links.values() ?? [])
      if (link.mark !== undefined) found.push({ kind: 'link', name: link.name, netns });
  }
  for (const { id, presence = [] } of records.networks()) {
    // What the kernel holds while the other hosts' records are not known is not known to be wrong.
    if (context.reach.wanted(id) === undefined) continue;
    for (const step of entriesOf(presence, facts.netns)) found.push({ kind: 'entry', step });
  }
  for (const [set, elements] of facts.elements ?? []) {
    for (const [key, data] of elements) found.push({ kind: 'element', step: element(set, key, data) });
  }
  for (const { bridge, network } of facts.accepts) found.push({ kind: 'accept', bridge, network });
  const known = accountedFor(context);
  return found.filter((candidate) => !known.has(nameOf(candidate)));
}

function namespacesOf(network: NetworkRecord): readonly NetnsPath[] {
  return wholeNetwork(network).flatMap((step) => (step.do === 'netns.add' ? [step.path] : []));
}

/** Names of everything that a stored plan, in whatever state, accounts for. */
function accountedFor(context: Context): ReadonlySet<string> {
  const { records } = context;
  const networks = records.networks().flatMap(wholeNetwork);
  const sandboxes = records.sandboxes().flatMap((sandbox) => sandbox.plan);
  const endpoints = records.endpoints().flatMap(wholePlan);
  const checks = [...context.checks].flat();
  const entries = records.networks().flatMap(({ id }) => context.reach.wanted(id) ?? []);
  return new Set([...networks, ...sandboxes, ...endpoints, ...checks, ...entries].flatMap(namesOf));
}

function namesOf(step: Step): readonly string[] {
  switch (step.do) {
    case 'link.add':
      return [linkName(step.name, step.netns), ...peerNames(step)];
    case 'netns.add':
      return [`netns ${step.path}`];
    case 'nft.element':
      return [`element ${step.set} ${step.key.join(' . ')}`];
    case 'forward.accept':
      return [`accept ${step.bridge} ${step.mark.network.slice(0, 12)}`];
    default:
      return isEntry(step) ? [entryText(step)] : [];
  }
}

function entryText(step: EntryStep): string {
  return `entry ${step.netns ?? ''} ${entryName(step)}`;
}

function peerNames({ netns, link }: LinkAdd): readonly string[] {
  if (link.kind !== 'veth') return [];
  return [linkName(link.peer.name, link.peer.home === true ? undefined : netns)];
}

function linkName(name: string, netns: NetnsPath | undefined): string {
  return `link ${name} ${netns ?? ''}`;
}

function nameOf(orphan: Orphan): string {
  switch (orphan.kind) {
    case 'link':
      return linkName(orphan.name, orphan.netns);
    case 'netns':
      return `netns ${orphan.path}`;
    case 'element':
      return `element ${orphan.step.set} ${orphan.step.key.join(' . ')}`;
    case 'accept':
      return `accept ${orphan.bridge} ${orphan.network}`;
    case 'entry':
      return entryText(orphan.step);
  }
}

function element(set: NftElement['set'], key: string, data: string): NftElement {
  return { do: 'nft.element', set, key: key.split(' . '), ...(data !== '' && { data: data.split(' . ') }) };
}

async function attempt<T>(failed: string[], work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    failed.push(messageOf(error));
    return undefined;
  }
}
