/** What qdisc.set, ingress.redirect and neigh.announce do to a fake host. */
import type { FakeLink, FakeNetns } from './fake-host.ts';
import { KernelError } from './kernel.ts';
import type { IngressRedirect, NeighbourAnnounce, QdiscSet } from './step.ts';

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
export function neighbourAnnounce(host: FakeNetns, { link }: NeighbourAnnounce): Undo {
  linkAt(host, link);
  return undefined;
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
