/** The facts of a fake host: what a dump of the real kernel would say. */
import { familyOfPrefix, lengthOf, networkOf } from '../address/prefix.ts';
import { asksEntries, entryName } from './entry.ts';
import type { EntryStep } from './entry.ts';
import type { Facts, LinkFact, NetnsFacts, RouteFact } from './facts.ts';
import type { FakeLink, FakeNetns } from './fake-host.ts';
import { sysctlSlot } from './fake-host.ts';
import type { FakeState } from './fake-state.ts';
import type { FactsQuery } from './kernel.ts';
import { sysctlsOf } from './plan.ts';
import type { NetnsPath, Step } from './step.ts';

export function fakeFacts(state: FakeState, query: FactsQuery): Facts {
  const steps = (query.plans ?? []).flat();
  const firewall = query.firewall ?? true;
  const paths = new Set([...steps.flatMap(netnsOf), ...(query.netns ?? [])]);
  const netns = new Map<NetnsPath, NetnsFacts>();
  for (const path of paths) {
    const one = state.netns.get(path);
    if (one !== undefined)
      netns.set(path, withTranslation(netnsFacts(one, steps, [], query.entries), one, steps, firewall));
  }
  return {
    host: netnsFacts(state.host, steps, query.sysctls ?? [], query.entries),
    netns,
    ourNetns: [...state.netns.values()].flatMap(({ ours, path }) =>
      ours && path !== undefined ? [path] : [],
    ),
    elements: firewall
      ? state.elements && new Map([...state.elements].map(([set, held]) => [set, new Map(held)]))
      : undefined,
    rulesetCurrent: firewall && state.elements !== undefined,
    accepts: firewall ? [...state.accepts] : [],
    acceptChain: firewall ? { ...state.acceptChain } : { v4: false, v6: false },
    heldPorts: state.ports.ours(),
    vteps: new Set(state.vteps),
    xfrm: { states: [...state.ipsec.states.values()], policies: [...state.ipsec.policies.values()] },
    guards: new Set(state.ipsec.guards.keys()),
    noEsp: state.ipsec.missing,
  };
}

function withTranslation(
  facts: NetnsFacts,
  { path, translation }: FakeNetns,
  steps: readonly Step[],
  firewall: boolean,
): NetnsFacts {
  const asks = steps.some((step) => step.do === 'uplink.translate' && step.netns === path);
  return firewall && asks && translation !== undefined ? { ...facts, translation } : facts;
}

function netnsOf(step: Step): NetnsPath[] {
  if (step.do === 'link.move') return [step.to];
  if (step.do === 'netns.add') return [step.path];
  return 'netns' in step ? [step.netns] : [];
}

function netnsFacts(
  netns: FakeNetns,
  steps: readonly Step[],
  sysctls: readonly string[],
  entries = true,
): NetnsFacts {
  const links = [...netns.links.values()];
  return {
    links: new Map(links.map((link) => [link.name, linkFact(link)])),
    addresses: links.flatMap((link) => [...link.addresses].map((prefix) => ({ link: link.name, prefix }))),
    routes: [...links.flatMap(connectedRoutes), ...netns.routes.map(routeFact)],
    sysctls: sysctlFacts(netns, [...sysctls, ...sysctlsOf(steps, netns.path)]),
    ...(entries && asksEntries(steps, netns.path) && { entries: new Map(links.flatMap(entryFacts)) }),
  };
}

function entryFacts({ entries }: FakeLink): readonly (readonly [string, EntryStep])[] {
  return [...entries.values()].map((entry) => [entryName(entry), entry]);
}

const NO_FLAGS = { isolated: false, hairpin: false, suppress: false };

function linkFact(link: FakeLink): LinkFact {
  const { name, index, kind, mtu, mac, up, master, port = NO_FLAGS, peer, mark, bucket, redirectedTo } = link;
  const { parent, macvlanMode, vlan, vxlan } = link;
  // A bridge has a carrier when a port has one, a veth when both ends are up.
  const carrier =
    kind === 'bridge'
      ? up && [...link.netns.links.values()].some((port) => port.master === link && port.up)
      : up && (peer === undefined || peer.up) && (parent === undefined || parent.up);
  const other = peer ?? parent;
  return {
    name,
    index,
    mtu,
    up,
    carrier,
    promisc: link.promisc ?? false,
    promiscuity: (link.promisc === true ? 1 : 0) + [...link.children].filter(isPromiscuous).length,
    ...(link.nic && { nic: link.nic }),
    ...(kind !== undefined && { kind }),
    ...(mac !== undefined && { mac }),
    ...(master !== undefined && { master: master.name, ...port }),
    ...(other !== undefined && { peerIndex: other.index, peerElsewhere: other.netns !== link.netns }),
    ...(parent?.netns === link.netns && { parent: parent.name }),
    ...(macvlanMode !== undefined && { macvlanMode }),
    ...(vlan !== undefined && { vlan }),
    ...(mark !== undefined && { mark }),
    ...(vxlan !== undefined && { vxlan }),
    // Its own index and that of the namespace which it sends from (vxlan_get_link_net()).
    ...(vxlan !== undefined && link.netns.path !== undefined && { peerIndex: index, peerElsewhere: true }),
    ...(bucket !== undefined && { bucket }),
    ...(redirectedTo !== undefined && { redirectedTo: redirectedTo.name }),
  };
}

function isPromiscuous({ macvlanMode, up }: FakeLink): boolean {
  return macvlanMode === 'passthru' && up;
}

/** The kernel adds a route to the subnet of every address of a link that is up; a /32 or /128 has none. */
export function connectedRoutes(link: FakeLink): RouteFact[] {
  if (!link.up || link.name === 'lo') return [];
  return [...link.addresses]
    .filter((prefix) => lengthOf(prefix) < (familyOfPrefix(prefix) === 4 ? 32 : 128))
    .map((prefix) => ({ to: networkOf(prefix), link: link.name, table: 254, ours: false }));
}

function routeFact({ to, via, link, ours }: FakeNetns['routes'][number]): RouteFact {
  return {
    to,
    table: 254,
    ours,
    ...(via !== undefined && { via }),
    ...(link !== undefined && { link: link.name }),
  };
}

function sysctlFacts(netns: FakeNetns, keys: readonly string[]): ReadonlyMap<string, string> {
  const values = new Map<string, string>();
  for (const key of keys) {
    const slot = sysctlSlot(netns, key);
    if (slot !== undefined) values.set(key, slot.values.get(slot.key) ?? slot.initial);
  }
  return values;
}
