/** link.up and link.promisc: what is on or off on a link. */
import type { LinkPromisc, LinkUp } from '../step.ts';
import { netnsFacts } from './kind.ts';
import type { Kind } from './kind.ts';
import { change, isGone, linkOf } from './present-link.ts';
import { portTaken } from './tunnel.ts';

export const linkUp: Kind<LinkUp> = {
  looks: ({ netns, link }) => [{ netns, name: link }],

  apply(step, view) {
    const link = linkOf(view, step.netns, step.link, step);
    if (link.up) return [];
    view.put(step.netns, { ...link, up: true });
    const up = change(step.netns, link, { up: true }, { up: false });
    // A tunnel takes its port when it comes up (vxlan_open()).
    const hint = (errno: string) => (errno === 'EADDRINUSE' ? portTaken(link) : undefined);
    if (link.kind === 'vxlan') return [{ ...up, hint }];
    return [link.kind === 'vlan' ? { ...up, tolerates: (errno: string) => errno === 'ENETDOWN' } : up];
  },

  inverse(step, view) {
    const link = view.link(step.netns, step.link);
    if (link?.mark === undefined || !link.up) return [];
    view.put(step.netns, { ...link, up: false });
    return [{ ...change(step.netns, link, { up: false }), tolerates: isGone }];
  },

  satisfied(step, facts) {
    const links = netnsFacts(facts, step.netns)?.links;
    const link = links?.get(step.link);
    if (link?.vlan === undefined || link.up) return link?.up === true;
    return links?.get(link.parent ?? '')?.up === false;
  },
};

/** On whomsoever's link: it is the stranger's own that the plan is about. */
export const linkPromisc: Kind<LinkPromisc> = {
  looks: ({ link }) => [{ netns: undefined, name: link }],

  apply(step, view) {
    const link = linkOf(view, undefined, step.link, step);
    if (link.promisc) return [];
    view.put(undefined, { ...link, promisc: true });
    return [change(undefined, link, { promisc: true }, { promisc: false })];
  },

  inverse(step, view) {
    const link = view.link(undefined, step.link);
    if (link?.promisc !== true) return [];
    view.put(undefined, { ...link, promisc: false });
    return [{ ...change(undefined, link, { promisc: false }), tolerates: isGone }];
  },

  satisfied: (step, { host }) => host.links.get(step.link)?.promisc === true,
};
