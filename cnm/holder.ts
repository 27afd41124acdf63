/** Who has an address or a port that another endpoint wants: whether it still lives, and whose it is. */
import type { Facts } from '../kernel/facts.ts';
import type { NetnsPath } from '../kernel/step.ts';
import type { Context } from './context.ts';
import type { EndpointRecord } from './model.ts';
import type { PortTaken } from './ports.ts';

const LOOK_MS = 50;

/**
 * An endpoint that Docker has forgotten in a crash of its own, without telling us (libnetwork.md §7): its container's namespace is
 * gone, and its link with it. One that Docker has given up already is waited for: Docker unmounts a namespace's file at once, and the kernel takes
 * apart what was in it later, on a queue of its own (cleanup_net()), on a busy machine seconds later. A refusal then would be the end of
 * a container that is to start with dockerd: 20.10 tries that once.
 */
export async function isLost(context: Context, endpoint: EndpointRecord): Promise<boolean> {
  if (endpoint.attachment?.kind === 'cnm') return false;
  const deadline = performance.now() + context.patience;
  while (await isAlive(context, endpoint)) {
    if (performance.now() >= deadline || (await hasSandbox(context, endpoint))) return false;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  return true;
}

async function hasSandbox({ kernel }: Context, { attachment }: EndpointRecord): Promise<boolean> {
  if (attachment === undefined) return false;
  const { netns } = await kernel.facts({ netns: [attachment.key], firewall: false });
  return netns.has(attachment.key);
}

/** Whether the endpoint's link is in another namespace: the namespace's death would have deleted it. */
async function isAlive(context: Context, endpoint: EndpointRecord): Promise<boolean> {
  return isHeld(endpoint, await context.kernel.facts({ firewall: false, netns: whereabouts([endpoint]) }));
}

/** Which namespaces tell where an endpoint's link is: ours that one end stays in; where no end stays behind, the one that Docker has taken it to. */
export function whereabouts(endpoints: readonly EndpointRecord[]): readonly NetnsPath[] {
  return endpoints.flatMap((endpoint) => {
    const key = dockersKey(endpoint);
    const isSingle = endpoint.plan.some((step) => step.do === 'link.add' && step.link.kind === 'macvlan');
    return [...(isSingle && key !== undefined ? [key] : []), ...ownNetns(endpoint)];
  });
}

function ownNetns({ plan }: EndpointRecord): readonly NetnsPath[] {
  return plan.flatMap((step) => (step.do === 'link.add' && step.netns !== undefined ? [step.netns] : []));
}

/** The sandbox of Docker's that the endpoint is in, or has just left. */
export function dockersKey({ attachment, left }: EndpointRecord): string | undefined {
  return attachment?.kind === 'docker' ? attachment.key : left;
}

/** As isAlive; the facts must have the endpoint's whereabouts. */
export function isHeld(endpoint: EndpointRecord, { host, netns }: Facts): boolean {
  const isAway = endpoint.plan.some((step) => {
    if (step.do !== 'link.add') return false;
    // Where the other end is made in the daemon's namespace it is elsewhere from the start.
    const isHome = step.link.kind === 'veth' && host.links.get(step.link.peer.name)?.mark !== undefined;
    const links = step.netns === undefined ? host.links : netns.get(step.netns)?.links;
    return links?.get(step.name)?.peerElsewhere === true && !isHome;
  });
  const own = ownNetns(endpoint);
  return (
    isAway ||
    [...netns].some(
      ([path, { links }]) =>
        !own.includes(path) && [...links.values()].some((link) => link.mark?.endpoint === endpoint.id),
    )
  );
}

/** How long Docker may take to name a container. */
const NAMES_MS = 1000;

/** Asked for the words of an error alone, and never waited for long: Docker waits for us meanwhile. */
export async function named(
  { engine }: Context,
  error: PortTaken,
  { id }: EndpointRecord,
): Promise<PortTaken> {
  const late = new Promise<undefined>((resolve) => {
    setTimeout(resolve, NAMES_MS, undefined).unref();
  });
  const listed = (await Promise.race([engine?.networks(), late])) ?? [];
  const found = listed.flatMap(({ endpoints }) => endpoints).find((one) => one.id === id);
  return found === undefined ? error : error.ofContainer(found.container);
}
