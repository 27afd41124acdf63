/** addr.add and route.add. */
import { networkOf } from '../../address/prefix.ts';
import { describe } from '../describe.ts';
import { KernelError } from '../kernel.ts';
import { decodeRoute, sameRoute } from '../decode.ts';
import { holdsOurAddress } from '../dump.ts';
import { addAddress, addRoute, deleteAddress, deleteRoute, dumpRoutes, gatewayFits } from '../rtnetlink.ts';
import type { NewRoute } from '../rtnetlink.ts';
import { familyOfPrefix } from '../../address/prefix.ts';
import type { NetlinkSocket } from '../netlink.ts';
import type { AddrAdd, RouteAdd } from '../step.ts';
import { netnsFacts } from './kind.ts';
import type { Kind, View } from './kind.ts';
import { linkOf } from './present-link.ts';

export const addrAdd: Kind<AddrAdd> = {
  looks: ({ netns, link }) => [{ netns, name: link }],

  apply(step, view) {
    const link = linkOf(view, step.netns, step.link, step);
    return [
      {
        via: 'rtnetlink',
        netns: step.netns,
        request: addAddress(link.index, step.prefix),
        // On a link of ours the address is ours; on a stranger's only one that bears our protocol number.
        tolerates: (errno, socket) =>
          errno === 'EEXIST' && (link.mark !== undefined || holdsOurAddress(socket, link.index, step.prefix)),
        ...(link.made === undefined && { undo: deleteAddress(link.index, step.prefix) }),
      },
    ];
  },

  inverse(step, view) {
    const link = view.link(step.netns, step.link);
    if (link === undefined) return [];
    if (link.mark === undefined && !view.ownsAddress(step.netns, link.index, step.prefix)) return [];
    return [
      {
        via: 'rtnetlink',
        netns: step.netns,
        request: deleteAddress(link.index, step.prefix),
        tolerates: (errno) => errno === 'EADDRNOTAVAIL' || errno === 'ENODEV',
      },
    ];
  },

  satisfied: (step, facts) =>
    netnsFacts(facts, step.netns)?.addresses.some(
      ({ link, prefix }) => link === step.link && prefix === step.prefix,
    ) === true,
};

export const routeAdd: Kind<RouteAdd> = {
  looks: ({ netns, link }) => (link === undefined ? [] : [{ netns, name: link }]),

  apply(step, view) {
    if (!gatewayFits(step)) {
      throw new KernelError(describe(step), 'EINVAL', 'destination and gateway are of different families');
    }
    if (step.link !== undefined) linkOf(view, step.netns, step.link, step);
    const route = routeOf(step, view);
    return [
      {
        via: 'rtnetlink',
        netns: step.netns,
        request: addRoute(route),
        // The kernel says EEXIST for any route to the same destination: ours is told from a stranger's by a look.
        tolerates: (errno, socket) => errno === 'EEXIST' && isThere(route, socket),
        undo: deleteRoute(route),
      },
    ];
  },

  inverse(step, view) {
    if (step.link !== undefined && view.link(step.netns, step.link) === undefined) return [];
    return [
      {
        via: 'rtnetlink',
        netns: step.netns,
        request: deleteRoute(routeOf(step, view)),
        tolerates: (errno) => ['ESRCH', 'ENODEV', 'ENETUNREACH'].includes(errno),
      },
    ];
  },

  satisfied: (step, facts) =>
    netnsFacts(facts, step.netns)?.routes.some(
      (route) =>
        route.ours &&
        route.to === networkOf(step.to) &&
        route.via === step.via &&
        (step.link === undefined || route.link === step.link),
    ) === true,
};

function routeOf({ netns, to, via, link }: RouteAdd, view: View): NewRoute {
  const index = link === undefined ? undefined : view.link(netns, link)?.index;
  return { to, ...(via !== undefined && { via }), ...(index !== undefined && { index }) };
}

function isThere(route: NewRoute, socket: NetlinkSocket): boolean {
  return socket
    .dump(dumpRoutes(familyOfPrefix(route.to)), decodeRoute)
    .some((dumped) => sameRoute(dumped, route));
}
