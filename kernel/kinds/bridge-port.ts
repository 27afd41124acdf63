/** link.master: a link as a port of a bridge, with the port's settings. */
import { changePort } from '../rtnetlink.ts';
import type { PortFlags } from '../rtnetlink.ts';
import type { LinkMaster } from '../step.ts';
import { netnsFacts } from './kind.ts';
import type { Kind, Operation } from './kind.ts';
import { change, isGone, linkOf } from './present-link.ts';

export const linkMaster: Kind<LinkMaster> = {
  looks: ({ netns, link, master }) => [
    { netns, name: link },
    { netns, name: master },
  ],

  apply(step, view) {
    const link = linkOf(view, step.netns, step.link, step);
    const master = linkOf(view, step.netns, step.master, step);
    const former = link.master === master.index ? portFlags(link) : NO_FLAGS;
    const flags = portFlags(step);
    view.put(step.netns, { ...link, master: master.index, suppress: false, ...flags });
    const join = change(step.netns, link, { master: master.index }, { master: link.master });
    const set: Operation = {
      via: 'rtnetlink',
      netns: step.netns,
      request: changePort(link.index, { ...off(former), ...flags }),
      undo: changePort(link.index, { ...off(flags), ...former }),
    };
    return [...(link.master === master.index ? [] : [join]), ...(sameFlags(flags, former) ? [] : [set])];
  },

  inverse(step, view) {
    const link = view.link(step.netns, step.link);
    const master = view.link(step.netns, step.master);
    if (link?.mark === undefined || master === undefined || link.master !== master.index) return [];
    view.put(step.netns, { ...link, master: 0 });
    return [{ ...change(step.netns, link, { master: 0 }), tolerates: isGone }];
  },

  satisfied(step, facts) {
    const link = netnsFacts(facts, step.netns)?.links.get(step.link);
    if (link?.master !== step.master) return false;
    return sameFlags(portFlags(link), portFlags(step));
  },
};

/** A port that has just joined its bridge has none (new_nbp()). */
const NO_FLAGS: PortFlags = { isolated: false, hairpin: false };

function portFlags({ isolated, hairpin, suppress }: Partial<PortFlags>): PortFlags {
  // Left out where it is off: a kernel that does not know it (before 4.15) need not.
  return { isolated: isolated ?? false, hairpin: hairpin ?? false, ...(suppress === true && { suppress }) };
}

/** What has to be said for a flag that is to be off again. */
function off({ suppress }: PortFlags): Partial<PortFlags> {
  return suppress === true ? { suppress: false } : {};
}

function sameFlags(a: PortFlags, b: PortFlags): boolean {
  return a.isolated === b.isolated && a.hairpin === b.hairpin && a.suppress === b.suppress;
}
