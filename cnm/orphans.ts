/** What bears our mark and is in no plan. */
import { type EntryStep, entryName, isEntry } from '../kernel/entry.ts';
import type { Facts } from '../kernel/facts.ts';
import type { Orphan } from '../kernel/kernel.ts';
import type { LinkAdd, NetnsPath, NftElement, Step } from '../kernel/step.ts';
import type { Context } from './context.ts';
import { wholeEndpoint, wholeNetwork } from './plans.ts';
import type { NetworkRecord } from './model.ts';
import { entriesOf } from './reached.ts';

export function orphans(context: Context, facts: Facts): readonly Orphan[] {
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

/** Names (`nameOf`) of everything that a stored plan, in whatever state, accounts for. */
export function accountedFor(context: Context): ReadonlySet<string> {
  const { records } = context;
  const networks = records.networks().flatMap(wholeNetwork);
  const sandboxes = records.sandboxes().flatMap((sandbox) => sandbox.plan);
  const endpoints = records.endpoints().flatMap(wholeEndpoint);
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

export function nameOf(orphan: Orphan): string {
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
