/** What route.add does to a fake host. */
import type { Ip } from '../address/ip.ts';
import { contains, networkOf } from '../address/prefix.ts';
import { connectedRoutes } from './fake-facts.ts';
import type { FakeLink, FakeNetns } from './fake-host.ts';
import { KernelError } from './kernel.ts';
import type { RouteAdd } from './step.ts';

type Undo = (() => void) | undefined;

/** @throws KernelError as the kernel would; then nothing has changed. */
export function routeAdd(netns: FakeNetns, step: RouteAdd): Undo {
  const operation = `route add ${step.to}`;
  const link = step.link === undefined ? undefined : linkAt(netns, step.link);
  if (link?.up === false) throw new KernelError(operation, 'ENETDOWN');
  const to = networkOf(step.to);
  const rival = netns.routes.find((route) => route.to === to);
  const connected = [...netns.links.values()].flatMap(connectedRoutes).some((route) => route.to === to);
  // fib_table_insert() with NLM_F_EXCL: the route that an address brings along is in the way like any other.
  if (rival === undefined && connected) throw new KernelError(operation, 'EEXIST');
  if (rival !== undefined) {
    if (rival.ours && rival.via === step.via && (link === undefined || rival.link === link)) return undefined;
    throw new KernelError(operation, 'EEXIST');
  }
  const out = link ?? (step.via && onLink(netns, step.via));
  if (out === undefined || (step.via !== undefined && onLink(netns, step.via, link) === undefined)) {
    throw new KernelError(operation, 'ENETUNREACH', 'Nexthop has invalid gateway');
  }
  const route = { to, link: out, ours: true, ...(step.via !== undefined && { via: step.via }) };
  netns.routes.push(route);
  return () => {
    const at = netns.routes.indexOf(route);
    if (at >= 0) netns.routes.splice(at, 1);
  };
}

/** The link that reaches `via` directly, by its addresses or by a route without a next hop. */
function onLink(netns: FakeNetns, via: Ip, only?: FakeLink): FakeLink | undefined {
  const reaches = (link: FakeLink): boolean =>
    link.up &&
    (only === undefined || link === only) &&
    ([...link.addresses].some((own) => contains(own, via)) ||
      netns.routes.some(
        (route) => route.link === link && route.via === undefined && contains(route.to, via),
      ));
  return [...netns.links.values()].find(reaches);
}

export function undoRouteAdd(netns: FakeNetns | undefined, step: RouteAdd): void {
  const routes = netns?.routes ?? [];
  const to = networkOf(step.to);
  const at = routes.findIndex(
    (route) =>
      route.ours &&
      route.to === to &&
      route.via === step.via &&
      (step.link === undefined || route.link?.name === step.link),
  );
  if (at >= 0) routes.splice(at, 1);
}

export function linkAt(netns: FakeNetns, name: string): FakeLink {
  const link = netns.links.get(name);
  if (link === undefined) throw new KernelError(`link ${name}`, 'ENODEV');
  return link;
}
