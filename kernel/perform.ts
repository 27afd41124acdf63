/** The one place that acts on operations, in as few system calls as their order allows. */
import type { ForwardAccepts } from './accept.ts';
import type { Conntrack } from './conntrack.ts';
import { decodeLink } from './decode.ts';
import { describe } from './describe.ts';
import type { FrameSender } from './frame-sender.ts';
import { KernelError } from './kernel.ts';
import type {
  NetnsOperation,
  Operation,
  PortOperation,
  ProbeOperation,
  RtnetlinkOperation,
  SysctlOperation,
  TapOperation,
  VtepOperation,
} from './kinds/kind.ts';
import type { NetlinkOutcome, NetlinkSocket } from './netlink.ts';
import type { Namespaces } from './namespaces.ts';
import { withNetns } from './netns.ts';
import type { Firewall } from './nftables.ts';
import type { Guards } from './guard.ts';
import type { PortHolder } from './port-holder.ts';
import type { Prober } from './prober.ts';
import { deleteNow } from './reaper.ts';
import type { Reaper } from './reaper.ts';
import { changeLink, dumpLinks, getLink } from './rtnetlink.ts';
import type { Session } from './session.ts';
import type { NetnsPath, Step } from './step.ts';
import type { Syscalls } from './syscall.ts';
import { writeSysctl } from './sysctl.ts';
import { createTap } from './tap.ts';
import type { Translations } from './translations.ts';
import type { Vteps } from './vteps.ts';

/** What operations are performed with. */
export interface Means {
  readonly sys: Syscalls;
  readonly session: Session;
  readonly namespaces: Pick<Namespaces, 'create' | 'restore' | 'remove'>;
  readonly reaper: Pick<Reaper, 'delete'>;
  /** Runs what changes links: see Monitor. */
  readonly quietly: <T>(act: () => T) => T;
  readonly firewall: Pick<Firewall, 'add' | 'change'>;
  readonly accepts: Pick<ForwardAccepts, 'apply' | 'revert'>;
  readonly ports: Pick<PortHolder, 'hold' | 'release'>;
  readonly conntrack: Pick<Conntrack, 'forget'>;
  readonly frames: Pick<FrameSender, 'send'>;
  readonly prober: Pick<Prober, 'ask' | 'askAside'>;
  readonly vteps: Pick<Vteps, 'start' | 'stop' | 'stopIn' | 'place'>;
  readonly xfrm: () => Pick<NetlinkSocket, 'transact'>;
  readonly guards: Pick<Guards, 'add' | 'remove'>;
  readonly translations: Pick<Translations, 'load' | 'drop'>;
}

export interface Task {
  readonly step: Step;
  readonly operation: Operation;
}

/** An operation that changed something, and what takes it back. */
export interface Done {
  readonly task: Task;
  /** Undefined: nothing needs to be done. `inverse`: the inverse of the step. */
  readonly undo: Operation | 'inverse' | undefined;
}

export interface Failure {
  readonly step: Step;
  /** Absent: it could not even be looked up. */
  readonly operation?: Operation;
  readonly error: KernelError;
}

export interface Performed {
  readonly done: readonly Done[];
  readonly failures: readonly Failure[];
}

/**
 * Requests in one sendmsg. Each may be refused with an answer of its own, which takes about a kilobyte of the receive
 * buffer: this many fit even the default buffer of 208 KiB, where we may not make it larger.
 */
const BATCH = 64;

/**
 * Perform operations in order, those before a failure and those sent together with it: a batch of rtnetlink requests goes on after one that fails.
 * @param persist Go on after a failure.
 */
export async function perform(tasks: readonly Task[], means: Means, persist = false): Promise<Performed> {
  const done: Done[] = [];
  const failures: Failure[] = [];
  for (const batch of batches(tasks)) {
    const performed = await performBatch(batch, means);
    done.push(...performed.done);
    failures.push(...performed.failures);
    if (failures.length > 0 && !persist) break;
  }
  return { done, failures };
}

type Batch = readonly [Task, ...Task[]];

/** Neighbours that can go out together. */
function batches(tasks: readonly Task[]): readonly Batch[] {
  const found: [Task, ...Task[]][] = [];
  for (const task of tasks) {
    const last = found.at(-1);
    if (last !== undefined && hasRoom(last) && belongTogether(last[0].operation, task.operation)) {
      last.push(task);
    } else {
      found.push([task]);
    }
  }
  return found;
}

/** A firewall transaction must not be cut, and links that go together cost as much as one. */
function hasRoom(batch: Batch): boolean {
  return !['rtnetlink', 'xfrm'].includes(batch[0].operation.via) || batch.length < BATCH;
}

function belongTogether(a: Operation, b: Operation): boolean {
  if (a.via === 'rtnetlink') return b.via === 'rtnetlink' && a.netns === b.netns;
  if (['delete', 'conntrack', 'place', 'xfrm'].includes(a.via)) return b.via === a.via;
  return a.via === 'element' && b.via === 'element' && a.verb === b.verb;
}

async function performBatch(batch: Batch, means: Means): Promise<Performed> {
  const [task] = batch;
  try {
    const { operation } = task;
    switch (operation.via) {
      case 'rtnetlink':
        return means.quietly(() => transact(batch, operation.netns, means.session));
      case 'delete':
        return await deleteLinks(batch, means);
      case 'element':
        return changeElements(batch, operation.verb, means);
      case 'port':
        return one(task, changePorts(operation, means));
      case 'conntrack':
        return forget(batch, means);
      case 'frames':
        means.frames.send(operation.index, operation.frames, operation.netns);
        return one(task, undefined);
      case 'probe':
        await probe(operation, means);
        return one(task, undefined);
      case 'tap':
        makeTap(operation, means);
        return one(task, 'inverse');
      case 'vtep':
        return one(task, (await changeVtep(operation, means)) ? 'inverse' : undefined);
      case 'xfrm':
        return changeXfrm(batch, means);
      case 'guard':
        return one(
          task,
          (await means.guards[operation.verb](operation.guard)) === true ? 'inverse' : undefined,
        );
      case 'translation':
        return one(
          task,
          (await means.translations[operation.verb](operation.translation)) === true ? 'inverse' : undefined,
        );
      case 'place':
        return await changePlaces(batch, means);
      case 'netns':
        if (operation.verb === 'remove') await means.vteps.stopIn(operation.path);
        return one(task, changeNetns(operation, means) ? 'inverse' : undefined);
      case 'sysctl':
        return one(task, setSysctl(operation, means));
      case 'accept':
        await means.accepts[operation.verb === 'add' ? 'apply' : 'revert'](operation.accept);
        // Others may have changed links while we waited.
        means.session.forget();
        return one(task, 'inverse');
    }
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return { done: [], failures: [{ ...task, error }] };
  }
}

/** There is no way back from a delete, and none is needed: only reverts and rollbacks delete. */
async function deleteLinks(batch: Batch, { reaper, session }: Means): Promise<Performed> {
  const refusals = await Promise.all(
    batch.map(async ({ step, operation }) => {
      if (operation.via !== 'delete') return [];
      const { netns, link } = operation;
      // A link with no alias yet is known by its group, which the reaper would change.
      const aside = netns === undefined && link.mark?.network !== '';
      const refusal = aside ? await reaper.delete(link.index) : deleteNow(session.socket(netns), link.index);
      if (refusal === undefined) return [];
      return [{ step, operation, error: new KernelError(describe(step), refusal.errno, refusal.detail) }];
    }),
  );
  // Others may have changed links while we waited.
  session.forget();
  return { done: [], failures: refusals.flat() };
}

function one(task: Task, undo: Done['undo']): Performed {
  return { done: [{ task, undo }], failures: [] };
}

function makeTap({ netns, name, change }: TapOperation, { sys, session, quietly }: Means): void {
  quietly(() => {
    if (netns === undefined) createTap(sys, name);
    else
      withNetns(sys, netns, () => {
        createTap(sys, name);
      });
    const socket = session.socket(netns);
    const found = socket.transact([getLink(name)]).replies.get(0);
    const index = found === undefined ? 0 : decodeLink(found).index;
    const [failure] = socket.transact([changeLink(index, change)]).failures;
    if (failure === undefined) return;
    deleteNow(socket, index);
    throw new KernelError(`ip link set ${name}`, failure.errno, failure.detail);
  });
}

/** @throws KernelError EADDRINUSE */
async function probe({ probe: step }: ProbeOperation, { prober, session }: Means): Promise<void> {
  if (step.taken === 'warn') {
    prober.askAside(step);
    return;
  }
  const claim = await prober.ask(step);
  // Others may have changed links while we waited.
  session.forget();
  if (claim === undefined) return;
  const { address, mac } = claim;
  throw new KernelError(describe(step), 'EADDRINUSE', `${mac} has ${address} already`);
}

/** Whether there was something to do. */
async function changeVtep({ verb, vtep }: VtepOperation, { vteps, session }: Means): Promise<boolean> {
  const changed = await vteps[verb](vtep);
  // Others may have changed links while we waited.
  session.forget();
  return changed;
}

async function changePlaces(batch: Batch, { vteps, session }: Means): Promise<Performed> {
  const changes = batch.flatMap(({ operation }) =>
    operation.via === 'place' ? [{ verb: operation.verb, entry: operation.entry }] : [],
  );
  await vteps.place(changes);
  session.forget();
  return { done: batch.map((task) => ({ task, undo: 'inverse' })), failures: [] };
}

/** Whether there was something to do. */
function changeNetns({ verb, path }: NetnsOperation, { namespaces, session }: Means): boolean {
  session.forget();
  if (verb === 'create') return namespaces.create(path);
  namespaces.restore(path);
  if (session.exists(path)) endTunnels(session.socket(path));
  namespaces.remove(path);
  return true;
}

/** The kernel ends a namespace some time later, and until then a tunnel in it keeps its VNI: the next one would not find it free. */
function endTunnels(socket: NetlinkSocket): void {
  for (const { kind, index } of socket.dump(dumpLinks(), decodeLink)) {
    if (kind === 'vxlan') deleteNow(socket, index);
  }
}

/** @returns What restores the former value, when it was another. */
function setSysctl(operation: SysctlOperation, { sys }: Means): SysctlOperation | undefined {
  const { netns, key, value, keep } = operation;
  const write = (): string | undefined => writeSysctl(key, value);
  const former = netns === undefined ? write() : withNetns(sys, netns, write);
  return former === undefined || keep ? undefined : { ...operation, value: former };
}

/** @returns What releases the ports that were not held before. */
function changePorts(operation: PortOperation, { ports: holder }: Means): PortOperation | undefined {
  const { verb, ports } = operation;
  if (verb === 'release') {
    holder.release(ports, operation.numbers);
    return undefined;
  }
  const numbers = holder.hold(ports);
  return numbers.length === 0 ? undefined : { via: 'port', verb: 'release', ports, numbers };
}

/** All in one look. Taken back by doing it again: what began meanwhile goes the way that is being undone. */
function forget(batch: Batch, { conntrack }: Means): Performed {
  conntrack.forget(
    batch.flatMap(({ operation }) => (operation.via === 'conntrack' ? [operation.ports] : [])),
  );
  return { done: batch.map((task) => ({ task, undo: 'inverse' })), failures: [] };
}

/** Elements that were there before are not ours to take back. */
function changeElements(batch: Batch, verb: 'add' | 'remove', { firewall }: Means): Performed {
  const tasks = batch.flatMap(({ step, operation }) =>
    operation.via === 'element' ? [{ step, operation, element: operation.element }] : [],
  );
  const elements = tasks.map(({ element }) => element);
  if (verb === 'remove') {
    firewall.change([], elements);
    return { done: [], failures: [] };
  }
  const fresh = new Set(firewall.add(elements));
  const added = tasks.filter(({ element }) => fresh.has(element));
  return { done: added.map((task) => ({ task, undo: 'inverse' })), failures: [] };
}

/** What was there before is not ours to take back. */
function changeXfrm(batch: Batch, { xfrm }: Means): Performed {
  const tasks = batch.flatMap(({ step, operation }) =>
    operation.via === 'xfrm' ? [{ step, operation }] : [],
  );
  const { failures: refusals } = xfrm().transact(tasks.map(({ operation }) => operation.request));
  const refused = new Map(refusals.map((failure) => [failure.index, failure]));
  const done: Done[] = [];
  const failures: Failure[] = [];
  for (const [index, task] of tasks.entries()) {
    const { step, operation } = task;
    const failure = refused.get(index);
    const undo = operation.undo && ({ via: 'xfrm', request: operation.undo } as const);
    if (failure === undefined) done.push({ task, undo });
    else if (operation.tolerates?.(failure.errno) !== true) {
      const detail = [failure.detail, operation.hint?.(failure.errno)].filter(Boolean).join('; ');
      failures.push({ ...task, error: new KernelError(describe(step), failure.errno, detail) });
    }
  }
  return { done, failures };
}

function transact(batch: Batch, netns: NetnsPath | undefined, session: Session): Performed {
  const tasks = batch.flatMap(({ step, operation }) =>
    operation.via === 'rtnetlink' ? [{ step, operation }] : [],
  );
  const socket = session.socket(netns);
  const outcome = attempt(socket, tasks);
  if (outcome instanceof KernelError) {
    const done = tasks.map((task) => ({ task, undo: undoOf(task.operation) }));
    return { done, failures: [{ ...batch[0], error: outcome }] };
  }
  const refused = new Map(outcome.failures.map((failure) => [failure.index, failure]));
  const done: Done[] = [];
  const failures: Failure[] = [];
  for (const [index, task] of tasks.entries()) {
    const { step, operation } = task;
    const failure = refused.get(index);
    if (failure === undefined) {
      done.push({ task, undo: undoOf(operation) });
    } else if (operation.tolerates?.(failure.errno, socket) !== true) {
      // Half of it may have been done.
      if (operation.undo === 'inverse') done.push({ task, undo: 'inverse' });
      const detail = [failure.detail, operation.hint?.(failure.errno)].filter(Boolean).join('; ');
      failures.push({ ...task, error: new KernelError(describe(step), failure.errno, detail) });
    }
  }
  return { done, failures };
}

/** The error when the answers were lost: then nobody knows what was done, and all of it has to be undone. */
function attempt(
  socket: NetlinkSocket,
  tasks: readonly { readonly operation: RtnetlinkOperation }[],
): NetlinkOutcome | KernelError {
  try {
    return socket.transact(tasks.map(({ operation }) => operation.request));
  } catch (error) {
    if (error instanceof KernelError && ['ENOBUFS', 'EPROTO'].includes(error.errno)) return error;
    throw error;
  }
}

function undoOf({ netns, undo }: RtnetlinkOperation): Done['undo'] {
  if (undo === undefined || undo === 'inverse') return undo;
  return 'via' in undo ? undo : { via: 'rtnetlink', netns, request: undo };
}
