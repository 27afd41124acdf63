/**
 * Links on an interface that goes away and comes back: a NIC that is unplugged, a VLAN that somebody deletes and makes again. The kernel
 * removes what is on it along with it, in containers and sandboxes too. It is put back when the interface is there again; into a sandbox of
 * Docker's as well, which nobody but Docker fills otherwise, and Docker does not notice.
 */
import { familyOfPrefix } from '../address/prefix.ts';
import type { Facts, NetnsFacts } from '../kernel/facts.ts';
import type { LinkAdd, Plan, Step } from '../kernel/step.ts';
import type { Difference } from './cnm.ts';
import type { Context } from './context.ts';
import { joinInfo } from './endpoints.ts';
import { dockersKey } from './holder.ts';
import type { EndpointRecord, NetworkId } from './model.ts';
import { isDefault, insidePlan } from './sandboxes.ts';

/** The interface of somebody else's that has to be there before these steps can be done; undefined: none is missing. */
export function awaited({ records }: Context, missing: Plan, { host }: Facts): string | undefined {
  if (missing.length === 0) return undefined;
  const made = new Map(
    records
      .networks()
      .flatMap(({ plan }) => plan.filter(isLinkAdd).map((step) => [step.name, parentOf(step)])),
  );
  for (const step of missing) {
    let parent = parentOf(step);
    while (parent !== undefined && !host.links.has(parent)) {
      if (!made.has(parent)) return parent;
      parent = made.get(parent);
    }
  }
  return undefined;
}

function isLinkAdd(step: Step): step is LinkAdd {
  return step.do === 'link.add' && step.netns === undefined;
}

function parentOf(step: Step): string | undefined {
  if (step.do === 'link.promisc') return step.link;
  if (!isLinkAdd(step)) return undefined;
  return step.link.kind === 'macvlan' || step.link.kind === 'vlan' ? step.link.parent : undefined;
}

/** Whether the endpoint's own link is among them: one that goes with its parent. */
export function isOrphaned(missing: Plan): boolean {
  return missing.some((step) => isLinkAdd(step) && step.link.kind === 'macvlan');
}

/** To be called with every dump: the kernel forgets the name that a link had in a container together with the link. */
export function rememberNames({ records, interfaces }: Context, facts: Facts): void {
  const endpoints = records.endpoints();
  const known = new Set(endpoints.map(({ id }) => id));
  for (const id of interfaces.keys()) if (!known.has(id)) interfaces.delete(id);
  for (const endpoint of endpoints) {
    const links = facts.netns.get(dockersKey(endpoint) ?? '')?.links;
    const link = [...(links?.values() ?? [])].find(({ mark }) => mark?.endpoint === endpoint.id);
    if (link !== undefined) interfaces.set(endpoint.id, link.name);
  }
}

/**
 * What Docker did with the link when the container started, done again; nothing for an endpoint that is in no sandbox of Docker's. A name
 * that nobody has seen (the daemon was started after the loss) is the first that is free, and a default route is given where there is none.
 */
export function intoContainer(context: Context, endpoint: EndpointRecord, facts: Facts): Plan {
  const { attachment } = endpoint;
  const there = attachment && facts.netns.get(attachment.key);
  if (attachment?.kind !== 'docker' || there === undefined) return [];
  const info = joinInfo(context, endpoint);
  const seen = context.interfaces.get(endpoint.id);
  const as = seen !== undefined && !there.links.has(seen) ? seen : freeName(info.dstPrefix, there);
  const taken = there.routes.filter(isDefault).map(({ to }) => familyOfPrefix(to));
  const { gateway, gatewayV6, ...rest } = info;
  return insidePlan(attachment.key, as, endpoint, {
    ...rest,
    ...(gateway !== undefined && !taken.includes(4) && { gateway }),
    ...(gatewayV6 !== undefined && !taken.includes(6) && { gatewayV6 }),
  });
}

function freeName(prefix: string, { links }: NetnsFacts): string {
  let number = 0;
  while (links.has(`${prefix}${number}`)) number += 1;
  return `${prefix}${number}`;
}

/** Says once that an interface is gone, and once that it is back. */
export function tellOfParents(context: Context, differences: readonly Difference[]): void {
  const { awaited: known, log } = context;
  const missed = Map.groupBy(
    differences.filter(({ awaits }) => awaits !== undefined),
    ({ awaits }) => awaits ?? '',
  );
  for (const [parent, cut] of missed) {
    if (known.has(parent)) continue;
    known.add(parent);
    const networks = [...new Set(cut.map(networkOf))].map((id) => id.slice(0, 12));
    const endpoints = cut.filter(({ object }) => object === 'endpoint').length;
    log.warn({ parent, networks, endpoints }, 'an interface that networks are on is gone: they wait for it');
  }
  for (const parent of [...known].filter((name) => !missed.has(name))) {
    known.delete(parent);
    log.info({ parent }, 'an interface that networks waited for is back');
  }
}

function networkOf({ network, id }: Difference): NetworkId {
  return network ?? id;
}

/** To be called in the endpoint's queue, after its link has been put back. */
export async function notePutBack(context: Context, { network, id }: EndpointRecord): Promise<void> {
  const endpoint = context.records.endpoint(network, id);
  if (endpoint === undefined) return;
  await context.records.putEndpoint({ ...endpoint, putBackAt: context.now().toISOString() });
  const fields = { endpoint: id.slice(0, 12), network: network.slice(0, 12) };
  context.log.info(fields, 'the link of an endpoint is back, after its parent had gone');
}
