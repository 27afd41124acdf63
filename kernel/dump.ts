/** Facts of one namespace, from one pass of dumps. */
import type { AddressFact, LinkFact, NetnsFacts, RouteFact } from './facts.ts';
import type { NetlinkSocket } from './netlink.ts';
import { decodeAddress, decodeLink, decodeRoute } from './decode.ts';
import { dumpAddresses, dumpLinks, dumpRoutes } from './rtnetlink.ts';
import type { KernelLink, KernelRoute } from './decode.ts';

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

function linkFact(
  { master, peerIndex, peerElsewhere, ...link }: KernelLink,
  names: ReadonlyMap<number, string>,
): LinkFact {
  const bridge = names.get(master);
  return {
    ...link,
    ...(bridge !== undefined && { master: bridge }),
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
