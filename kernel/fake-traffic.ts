/** What qdisc.set, ingress.redirect, neigh.announce and entries do to a fake host. */
import type { FakeLink, FakeNetns } from './fake-host.ts';
import { linkAt } from './fake-routes.ts';
import { KernelError } from './kernel.ts';
import { entryName, slotOf } from './entry.ts';
import type { EntryStep } from './entry.ts';
import type { IngressRedirect, NeighbourAnnounce, NeighbourProbe, QdiscSet } from './step.ts';

type Undo = (() => void) | undefined;

export function qdiscSet(host: FakeNetns, { link: name, rate, burst, limit }: QdiscSet): Undo {
  const link = ownLink(host, name);
  const fresh = link.bucket === undefined;
  link.bucket = { rate, burst, limit };
  return fresh ? () => delete link.bucket : undefined;
}

/** The kernel keeps what carries redirections (the ingress qdisc) apart from them; here they are one. */
export function ingressRedirect(host: FakeNetns, step: IngressRedirect): Undo {
  const link = ownLink(host, step.link);
  const fresh = link.redirectedTo === undefined;
  link.redirectedTo = linkAt(host, step.to);
  return fresh ? () => delete link.redirectedTo : undefined;
}

/** Nobody listens in memory. */
export function neighbourAnnounce(host: FakeNetns, { link }: NeighbourAnnounce | NeighbourProbe): Undo {
  linkAt(host, link);
  return undefined;
}

/** Only a tunnel has a forwarding table of its own: ndo_dflt_fdb_add() takes no `dst`. Only a bridge's port has a master's. */
export function putEntry(netns: FakeNetns, step: EntryStep): Undo {
  const link = linkAt(netns, step.link);
  if (step.do === 'fdb.add' && link.vxlan === undefined && link.kind !== 'tun')
    throw new KernelError(`bridge fdb add ${step.mac} dev ${step.link}`, 'EINVAL');
  if (step.do === 'fdb.port' && link.master === undefined)
    throw new KernelError(`bridge fdb add ${step.mac} dev ${step.link} master`, 'EOPNOTSUPP');
  const slot = slotOf(step);
  if (isSame(link.entries.get(slot), step)) return undefined;
  if (step.do === 'fdb.port') leaveOtherPorts(link, slot, step);
  link.entries.set(slot, step);
  return () => {
    link.entries.delete(slot);
  };
}

/** A bridge has one place for a MAC, at whichever port. */
function leaveOtherPorts(link: FakeLink, slot: string, step: EntryStep): void {
  for (const other of link.netns.links.values())
    if (other !== link && other.master === link.master)
      other.entries.delete(slot.replace(step.link, other.name));
}

/** A neighbour is known by its address alone; of the others, only the very entry is removed. */
export function removeEntry(netns: FakeNetns | undefined, step: EntryStep): void {
  const link = netns?.links.get(step.link);
  if (link?.mark === undefined) return;
  const slot = slotOf(step);
  if (step.do === 'neigh.add' || isSame(link.entries.get(slot), step)) link.entries.delete(slot);
}

function isSame(held: EntryStep | undefined, step: EntryStep): boolean {
  return held !== undefined && entryName(held) === entryName(step);
}

export function undoTraffic(host: FakeNetns, { do: kind, link: name }: QdiscSet | IngressRedirect): void {
  const link = host.links.get(name);
  if (link?.mark === undefined) return;
  if (kind === 'qdisc.set') delete link.bucket;
  else delete link.redirectedTo;
}

function ownLink(host: FakeNetns, name: string): FakeLink {
  const link = linkAt(host, name);
  if (link.mark === undefined) throw new KernelError(`tc qdisc ${name}`, 'EEXIST');
  return link;
}
