/**
 * Another IPv4 address for an endpoint in use: what its DHCP server gave before may not be used any more (RFC 2131 section 4.4.5). Done in
 * its sandbox, whoever's it is; Docker cannot be told, and goes on showing the old one until the container starts again.
 *
 * What was cut off here is done from the start by asking for it again, which whoever keeps the lease on disk does (daemon/dhcp.ts). So the
 * record is written last: until then it says what is to be taken away.
 */
import { isDeepStrictEqual } from 'node:util';
import { familyOfPrefix, prefix, type Prefix } from '../address/prefix.ts';
import type { RouteFact } from '../kernel/facts.ts';
import type { NetnsPath, Plan, RouteAdd, Step } from '../kernel/step.ts';
import { apply, type Context, driverOf, inEndpoint, networkOf, revert } from './context.ts';
import { isCutOff } from './drift.ts';
import { joinInfo } from './endpoints.ts';
import { whereabouts } from './holder.ts';
import type { Leased } from './leases.ts';
import type { EndpointId, EndpointRecord, NetworkId } from './model.ts';

const DEFAULT = prefix('0.0.0.0/0');

/** Its interface, and what is on it of IPv4 that goes with the address. */
interface Inside {
  readonly netns: NetnsPath;
  readonly link: string;
  readonly routes: readonly RouteAdd[];
  /** In a sandbox that has none at all it went with the old address (fib_disable_ip()), and this was cut off then. */
  readonly hadDefault: boolean;
}

export function readdress(
  context: Context,
  network: NetworkId,
  id: EndpointId,
  leased: Leased,
): Promise<void> {
  return inEndpoint(context, network, id, async () => {
    const endpoint = context.records.endpoint(network, id);
    if (endpoint?.address === undefined || endpoint.address === leased.address || isCutOff(endpoint)) return;
    const inside = await insideOf(context, endpoint);
    const moved = planned(context, endpoint, leased);
    if (inside === undefined) {
      await context.records.putEndpoint(moved);
      return;
    }
    const before = stepsOf(inside, endpoint.address, inside.routes);
    const after = stepsOf(inside, leased.address, routesOf(context, moved, inside));
    const what = `give endpoint ${id.slice(0, 12)} its other address`;
    // The old one first: one of the same subnet would be a secondary of it, and go with it (inet_del_ifa()).
    await revert(context, what, before);
    await apply(context, what, [...after, ...moved.plan.filter((step) => step.do === 'neigh.announce')]);
    await context.records.putEndpoint(withPlan(moved, before, after));
    const { address } = endpoint;
    context.log.warn(
      { endpoint: id.slice(0, 12), from: address, to: leased.address },
      'a container has another address',
    );
  });
}

/** Its link keeps its size, whatever the new lease says of that: it is there already. */
function planned(context: Context, endpoint: EndpointRecord, leased: Leased): EndpointRecord {
  const network = networkOf(context, endpoint.network);
  const { mtu, ...rest } = { ...leased, mtu: endpoint.leased?.mtu };
  const moved = {
    ...endpoint,
    address: leased.address,
    leased: { ...rest, ...(mtu !== undefined && { mtu }) },
  };
  return { ...moved, plan: driverOf(context, network.driver).endpoint(network, moved) };
}

async function insideOf(context: Context, endpoint: EndpointRecord): Promise<Inside | undefined> {
  const { attachment, id } = endpoint;
  if (attachment?.kind === 'cnm') {
    const move = attachment.plan.find((step) => step.do === 'link.move');
    const routes = attachment.plan.filter(isRouteV4);
    const hadDefault = routes.some(({ to }) => to === DEFAULT);
    return move && { netns: move.to, link: move.as, routes, hadDefault };
  }
  const { netns } = await context.kernel.facts({ firewall: false, netns: whereabouts([endpoint]) });
  for (const [path, { links, routes }] of netns) {
    const link = [...links.values()].find(({ mark }) => mark?.endpoint === id)?.name;
    if (link === undefined) continue;
    const ways = routes.filter(({ to }) => to === DEFAULT);
    const hadDefault = ways.length === 0 || ways.some((route) => route.link === link);
    const known = joinInfo(context, endpoint).routes;
    const isOurs = ({ to, via }: RouteFact) =>
      to === DEFAULT || known.some(({ destination, nextHop }) => destination === to && nextHop === via);
    const own = routes.filter((route) => route.link === link && isOurs(route));
    return {
      netns: path,
      link,
      hadDefault,
      routes: own.map(({ to, via }) => ({ do: 'route.add', netns: path, to, link, ...(via && { via }) })),
    };
  }
  return undefined;
}

/** The ways out that it has now; the default route only where it had that. */
function routesOf(
  context: Context,
  moved: EndpointRecord,
  { netns, link, hadDefault }: Inside,
): readonly RouteAdd[] {
  const { gateway, routes: others } = joinInfo(context, moved);
  return [
    ...others.map(({ destination, nextHop }): RouteAdd => ({
      do: 'route.add',
      netns,
      to: destination,
      link,
      ...(nextHop !== undefined && { via: nextHop }),
    })),
    ...(gateway !== undefined && hadDefault
      ? [{ do: 'route.add', netns, to: DEFAULT, via: gateway, link } as const]
      : []),
  ];
}

function stepsOf({ netns, link }: Inside, address: Prefix, routes: readonly RouteAdd[]): Plan {
  return [{ do: 'addr.add', netns, link, prefix: address }, ...routes];
}

function isRouteV4(step: Step): step is RouteAdd {
  return step.do === 'route.add' && familyOfPrefix(step.to) === 4;
}

/** Docker's sandboxes have no plan of ours. */
function withPlan(endpoint: EndpointRecord, before: Plan, after: Plan): EndpointRecord {
  const { attachment } = endpoint;
  if (attachment?.kind !== 'cnm') return endpoint;
  const isOld = (step: Step) => before.some((old) => isDeepStrictEqual(old, step));
  return {
    ...endpoint,
    attachment: { ...attachment, plan: [...attachment.plan.filter((step) => !isOld(step)), ...after] },
  };
}
