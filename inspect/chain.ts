/**
 * The chain from a sandbox to the rules of its network, put together from records (what should be) and facts (what is).
 * Pure, and of no driver in particular: which links belong to an endpoint is read from its stored plan.
 */
import { compareIp } from '../address/ip.ts';
import { addressOf } from '../address/prefix.ts';
import type { Prefix } from '../address/prefix.ts';
import type { Appearance, Driver } from '../cnm/driver.ts';
import type { EndpointRecord, NetworkRecord, SandboxRecord } from '../cnm/model.ts';
import type { Facts, LinkFact, NetnsFacts } from '../kernel/facts.ts';
import type { VtepCounters } from '../kernel/kernel.ts';
import type { NetnsPath, Plan } from '../kernel/step.ts';
import { portViews } from './port-views.ts';
import { presenceNetns, presenceView } from './presence.ts';
import { endpointSummary, networkSummary } from './summaries.ts';
import type { Names } from './summaries.ts';
import type {
  DifferenceView,
  EndpointView,
  LinkView,
  NetworkView,
  RouteView,
  RuleView,
  SandboxView,
} from './views.ts';

/** Everything that the views are made of, gathered once for a request. */
export interface Picture {
  readonly facts: Facts;
  /** Of tunnel endpoints in user space (Kernel.vtepCounters). */
  readonly vteps?: ReadonlyMap<string, VtepCounters>;
  readonly drivers: readonly Driver[];
  readonly differences: readonly DifferenceView[];
  readonly names: Names;
}

/** Namespace files that the view of these endpoints looks into: where they are, and those of their networks. */
export function netnsPaths(endpoints: readonly EndpointRecord[], names: Names): readonly string[] {
  const paths = endpoints.flatMap((endpoint) => {
    const network = names.networks.get(endpoint.network);
    return [endpointSummary(endpoint, names).attachment?.path, network && presenceNetns(network)];
  });
  return [...new Set(paths.filter((path) => path !== undefined))];
}

export function networkView(
  network: NetworkRecord,
  endpoints: readonly EndpointRecord[],
  picture: Picture,
): NetworkView {
  const { facts, differences, names } = picture;
  const presence = presenceView(network, picture);
  const appearance = appearanceOf(network, picture);
  const device = appearance?.device ?? deviceOf(network.plan);
  const bridge = device === undefined ? undefined : linkView(facts.host, device);
  return {
    ...networkSummary(network, endpoints.length, names),
    options: network.options,
    enableIpv4: network.enableIpv4,
    enableIpv6: network.enableIpv6,
    ...(appearance && { fields: appearance.fields, warnings: appearance.warnings, role: 'parent' as const }),
    ...(device !== undefined && { bridgeName: device }),
    ...(bridge && { bridge }),
    ...(presence && { presence }),
    rules: device === undefined ? [] : rulesOf(device, facts),
    members: endpoints.map((endpoint) => endpointView(endpoint, network, picture)).sort(byAddress),
    differences: differences.filter((one) => one.object === 'network' && one.id === network.id),
  };
}

function appearanceOf(network: NetworkRecord, { drivers, facts }: Picture): Appearance | undefined {
  return drivers.find(({ name }) => name === network.driver)?.appearance?.(network, facts);
}

export function endpointView(
  endpoint: EndpointRecord,
  network: NetworkRecord | undefined,
  picture: Picture,
): EndpointView {
  const { facts, differences, names } = picture;
  const appearance = network && appearanceOf(network, picture);
  const summary = endpointSummary(endpoint, names);
  const ends = linksOf(endpoint.plan, facts.host);
  const place = ends.netns === undefined ? facts.host : facts.netns.get(ends.netns);
  const outside = ends.outside === undefined ? undefined : place && linkView(place, ends.outside);
  const bridgeName = ends.master ?? appearance?.device ?? (network && deviceOf(network.plan));
  const bridge = bridgeName === undefined ? undefined : place && linkView(place, bridgeName);
  const path = summary.attachment?.path;
  return {
    ...summary,
    createdAt: endpoint.createdAt,
    ...(endpoint.putBackAt !== undefined && { putBackAt: endpoint.putBackAt }),
    driver: network?.driver ?? '',
    options: endpoint.options,
    ports: portViews(endpoint, names),
    ...insideOf(endpoint, path, path === undefined ? undefined : facts.netns.get(path), outside),
    ...(ends.outside !== undefined && { outsideName: ends.outside }),
    ...(outside && { outside }),
    ...(bridgeName !== undefined && { bridgeName }),
    ...(bridge && { bridge }),
    ...(appearance && { role: 'parent' as const }),
    rules: bridgeName === undefined || ends.netns !== undefined ? [] : rulesOf(bridgeName, facts),
    differences: differences.filter((one) => one.object === 'endpoint' && one.id === endpoint.id),
  };
}

export function sandboxView(
  sandbox: SandboxRecord,
  members: readonly EndpointView[],
  { facts, differences }: Picture,
): SandboxView {
  const { id, name, state, createdAt, path } = sandbox;
  const own = differences.filter((one) => one.object === 'sandbox' && one.id === id);
  const exists = facts.netns.has(path);
  return {
    ...{ id, name, state, createdAt, path, exists },
    members: [...members].sort(byInterface),
    differences: own,
  };
}

/** Records come in the order of their ids after a restart: a drawing must not change with it. */
function byAddress(a: EndpointView, b: EndpointView): number {
  const [one, other] = [a.addresses[0], b.addresses[0]];
  if (one !== undefined && other !== undefined) return compareIp(addressOf(one), addressOf(other));
  return a.id.localeCompare(b.id);
}

function byInterface(a: EndpointView, b: EndpointView): number {
  const named = (a.inside?.name ?? '').localeCompare(b.inside?.name ?? '', 'en', { numeric: true });
  return named === 0 ? byAddress(a, b) : named;
}

/** What the endpoint looks like from inside its namespace, or why that cannot be seen. */
function insideOf(
  endpoint: EndpointRecord,
  path: string | undefined,
  netns: NetnsFacts | undefined,
  outside: LinkView | undefined,
): Pick<EndpointView, 'inside' | 'insideNote' | 'routes'> {
  if (endpoint.attachment === undefined || path === undefined) return { routes: [] };
  if (netns === undefined) return { routes: [], insideNote: unseen(endpoint, path) };
  const link = findInside(endpoint, netns, outside?.index);
  if (link === undefined)
    return { routes: [], insideNote: `the namespace ${path} has no link of this endpoint` };
  const routes: readonly RouteView[] = netns.routes
    .filter((route) => route.link === link.name && route.via !== undefined)
    .map(({ to, via }) => ({ to, ...(via !== undefined && { via }) }));
  const inside = linkView(netns, link.name);
  const insideNote = outside && tooLarge(link, outside);
  return { routes, ...(inside && { inside }), ...(insideNote !== undefined && { insideNote }) };
}

/** The other end drops what is larger than itself, and tells nobody (is_skb_forwardable()). */
function tooLarge({ name, mtu }: LinkFact, outside: LinkView): string | undefined {
  if (mtu <= outside.mtu) return undefined;
  return `it takes packets of ${mtu} bytes, the network ${outside.mtu}: larger ones are lost; set it there: ip link set ${name} mtu ${outside.mtu}`;
}

/** Docker's folder of namespaces may be in another mount namespace than the daemon: that is no fault of the endpoint. */
function unseen(endpoint: EndpointRecord, path: string): string {
  return endpoint.attachment?.kind === 'docker'
    ? `the namespace ${path} is not visible to the daemon; look with: nsenter -n -t PID ip addr`
    : `the namespace ${path} is gone`;
}

/** By our mark, which survives a move; else by the other end of the veth; else by the MAC address. */
function findInside(
  endpoint: EndpointRecord,
  netns: NetnsFacts,
  outsideIndex: number | undefined,
): LinkFact | undefined {
  const links = [...netns.links.values()];
  return (
    links.find((link) => link.mark?.endpoint === endpoint.id) ??
    links.find(
      (link) => outsideIndex !== undefined && link.peerElsewhere && link.peerIndex === outsideIndex,
    ) ??
    links.find((link) => link.mac === endpoint.mac)
  );
}

/** The end of the endpoint's link that stays outside, and the device that it is a port of. A macvlan link is outside only while it waits. */
function linksOf(
  plan: Plan,
  host: NetnsFacts,
): { readonly netns?: NetnsPath; readonly outside?: string; readonly master?: string } {
  const port = plan.find((step) => step.do === 'link.master');
  if (port !== undefined) {
    const { link, master, netns } = port;
    return { outside: link, master, ...(netns !== undefined && { netns }) };
  }
  const link = plan.find((step) => step.do === 'link.add');
  const isAway = link?.link.kind === 'macvlan' && !host.links.has(link.name);
  return link === undefined || isAway ? {} : { outside: link.name };
}

/** The device that a network's plan is about: the first link in the daemon's namespace that it makes or names. */
export function deviceOf(plan: Plan): string | undefined {
  for (const step of plan) {
    if (step.do === 'link.add' && step.netns === undefined) return step.name;
    if ((step.do === 'link.up' || step.do === 'addr.add') && step.netns === undefined) return step.link;
    if (step.do === 'forward.accept') return step.bridge;
  }
  return undefined;
}

export function linkView(netns: NetnsFacts, name: string): LinkView | undefined {
  const link = netns.links.get(name);
  if (link === undefined) return undefined;
  const { index, kind, mac, mtu, up, carrier } = link;
  const addresses: readonly Prefix[] = netns.addresses
    .filter((address) => address.link === name)
    .map((address) => address.prefix);
  return {
    name,
    index,
    ...(kind !== undefined && { kind }),
    ...(mac && { mac }),
    mtu,
    up,
    carrier,
    addresses,
  };
}

/** Elements of our table and accept rules in Docker's chain that name the device, as the kernel holds them now. */
function rulesOf(device: string, facts: Facts): readonly RuleView[] {
  const rules: RuleView[] = [];
  for (const [set, elements] of facts.elements ?? []) {
    for (const [key, data] of elements) {
      if (!`${key} . ${data}`.split(' . ').includes(device)) continue;
      rules.push({ where: `nft inet cnm @${set}`, what: data === '' ? key : `${key} : ${data}` });
    }
  }
  for (const { family, bridge, network } of facts.accepts) {
    if (bridge !== device) continue;
    const tool = family === 4 ? 'iptables' : 'ip6tables';
    rules.push({
      where: `${tool} DOCKER-USER`,
      what: `accept to and from ${bridge}, comment "cnm ${network}"`,
    });
  }
  return rules;
}
