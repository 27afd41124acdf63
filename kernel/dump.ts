/** Facts of one namespace, from one pass of dumps. */
import type { Prefix } from '../address/prefix.ts';
import type { AddressFact, LinkFact, NetnsFacts, RouteFact } from './facts.ts';
import type { NetlinkSocket } from './netlink.ts';
import { decodeAddress, decodeLink, decodeRoute } from './decode.ts';
import { dumpAddresses, dumpLinks, dumpRoutes } from './rtnetlink.ts';
import type { KernelLink, KernelRoute } from './decode.ts';
import { asksEntries, entryName } from './entry.ts';
import type { EntryStep } from './entry.ts';
import { decodeEntry, dumpForwarding, dumpNeighbours } from './forwarding.ts';
import type { KernelEntry } from './forwarding.ts';
import type { NetnsPath, Step } from './step.ts';
import { decodeBucket, decodeRedirect, dumpIngressFilters, dumpQdiscs } from './traffic-control.ts';

/** `sysctls` are read elsewhere: through files, and from inside the namespace. */
export function dumpNetns(socket: NetlinkSocket, sysctls: ReadonlyMap<string, string>): NetnsFacts {
  const links = socket.dump(dumpLinks(), decodeLink);
  const names = new Map(links.map(({ index, name }) => [index, name]));
  const addresses = socket.dump(dumpAddresses(), decodeAddress);
  const routes = ([4, 6] as const).flatMap((family) => socket.dump(dumpRoutes(family), decodeRoute));
  return {
    links: new Map(links.map((link) => [link.name, linkFact(link, names)])),
    addresses: addresses.flatMap(({ index, prefix }) => addressFact(names.get(index), prefix)),
    routes: routes.map((route) => routeFact(route, names)),
    sysctls,
  };
}

/** Qdiscs and redirections of the links whose steps ask for them; nothing is read where none does. */
export function withTraffic(facts: NetnsFacts, socket: NetlinkSocket, steps: readonly Step[]): NetnsFacts {
  const links = new Map(facts.links);
  const put = (name: string | undefined, more: Partial<LinkFact>): void => {
    const link = name === undefined ? undefined : links.get(name);
    if (link !== undefined) links.set(link.name, { ...link, ...more });
  };
  const names = new Map([...facts.links.values()].map(({ index, name }) => [index, name]));
  const limited = new Set(steps.flatMap((step) => (step.do === 'qdisc.set' ? [step.link] : [])));
  const buckets = limited.size === 0 ? [] : socket.dump(dumpQdiscs(), decodeBucket);
  for (const { index, ...bucket } of buckets) {
    const name = names.get(index);
    if (name !== undefined && limited.has(name)) put(name, { bucket });
  }
  for (const name of new Set(steps.flatMap((step) => (step.do === 'ingress.redirect' ? [step.link] : [])))) {
    const link = links.get(name);
    if (link === undefined) continue;
    const [to] = socket.dump(dumpIngressFilters(link.index), decodeRedirect);
    const redirectedTo = to === undefined ? undefined : names.get(to);
    if (redirectedTo !== undefined) put(name, { redirectedTo });
  }
  return { ...facts, links };
}

/** The permanent entries of the namespace, where steps ask for them; `more`: those of tunnel endpoints in user space. */
export function withEntries(
  facts: NetnsFacts,
  socket: NetlinkSocket,
  steps: readonly Step[],
  netns?: NetnsPath,
  more: readonly EntryStep[] = [],
): NetnsFacts {
  if (!asksEntries(steps, netns)) return facts;
  const names = new Map([...facts.links.values()].map(({ index, name }) => [index, name]));
  const held = [dumpForwarding(), dumpNeighbours(4), dumpNeighbours(6)].flatMap((request) =>
    socket.dump(request, decodeEntry).flatMap((entry) => {
      const link = names.get(entry.index);
      return link === undefined ? [] : [entryStep(entry, link, netns)];
    }),
  );
  return { ...facts, entries: new Map([...held, ...more].map((step) => [entryName(step), step])) };
}

function entryStep(entry: KernelEntry, link: string, netns: NetnsPath | undefined): EntryStep {
  const { mac } = entry;
  const at = { ...(netns !== undefined && { netns }), link, mac };
  switch (entry.kind) {
    case 'tunnel':
      return { do: 'fdb.add', ...at, dst: entry.dst };
    case 'port':
      return { do: 'fdb.port', ...at };
    case 'neighbour':
      return { do: 'neigh.add', ...at, address: entry.address };
  }
}

function linkFact(
  { master, peerIndex, peerElsewhere, ...link }: KernelLink,
  names: ReadonlyMap<number, string>,
): LinkFact {
  const bridge = names.get(master);
  const isOn = link.kind === 'macvlan' || link.kind === 'vlan';
  const parent = isOn && !peerElsewhere ? names.get(peerIndex ?? 0) : undefined;
  return {
    ...link,
    ...(bridge !== undefined && { master: bridge }),
    ...(parent !== undefined && { parent }),
    ...(peerIndex !== undefined && { peerIndex, peerElsewhere }),
  };
}

/** A link that went between two dumps took its addresses along. */
function addressFact(link: string | undefined, prefix: AddressFact['prefix']): readonly AddressFact[] {
  return link === undefined ? [] : [{ link, prefix }];
}

function routeFact({ index, ...route }: KernelRoute, names: ReadonlyMap<number, string>): RouteFact {
  const link = index === undefined ? undefined : names.get(index);
  return { ...route, ...(link !== undefined && { link }) };
}

/** Whether the link has this address, and it bears our protocol number. */
export function holdsOurAddress(socket: NetlinkSocket, index: number, prefix: Prefix): boolean {
  return socket
    .dump(dumpAddresses(), decodeAddress)
    .some((held) => held.ours && held.index === index && held.prefix === prefix);
}
