/** What qdisc.set, ingress.redirect, neigh.announce and fdb.add do to a fake host. */
import type { FakeLink, FakeNetns } from './fake-host.ts';
import { KernelError } from './kernel.ts';
import { ANY_MAC } from './forwarding.ts';
import type { FdbAdd, IngressRedirect, NeighbourAnnounce, NeighbourProbe, QdiscSet } from './step.ts';

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

/** Only a tunnel has a forwarding table of its own: ndo_dflt_fdb_add() takes no `dst`. */
export function fdbAdd(netns: FakeNetns, { link: name, mac, dst }: FdbAdd): Undo {
  const link = linkAt(netns, name);
  if (link.vxlan === undefined) throw new KernelError(`bridge fdb add ${mac} dev ${name}`, 'EINVAL');
  const entry = `${mac} ${dst}`;
  if (link.forwarding.has(entry)) return undefined;
  const former = mac === ANY_MAC ? [] : [...link.forwarding].filter((one) => one.startsWith(`${mac} `));
  for (const one of former) link.forwarding.delete(one);
  link.forwarding.add(entry);
  return () => {
    link.forwarding.delete(entry);
  };
}

export function undoFdbAdd(netns: FakeNetns | undefined, { link: name, mac, dst }: FdbAdd): void {
  const link = netns?.links.get(name);
  if (link?.mark !== undefined) link.forwarding.delete(`${mac} ${dst}`);
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

function linkAt(host: FakeNetns, name: string): FakeLink {
  const link = host.links.get(name);
  if (link === undefined) throw new KernelError(`link ${name}`, 'ENODEV');
  return link;
}
