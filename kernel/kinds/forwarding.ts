/** fdb.add. */
import { addForwarding, deleteForwarding } from '../forwarding.ts';
import type { FdbAdd } from '../step.ts';
import { netnsFacts } from './kind.ts';
import type { Kind } from './kind.ts';
import { linkOf } from './link.ts';

export const fdbAdd: Kind<FdbAdd> = {
  looks: ({ netns, link }) => [{ netns, name: link }],

  apply(step, view) {
    const link = linkOf(view, step.netns, step.link, step);
    return [
      {
        via: 'rtnetlink',
        netns: step.netns,
        request: addForwarding(link.index, step.mac, step.dst),
        // On a link that the same call makes it goes with the link.
        ...(link.made === undefined && { undo: deleteForwarding(link.index, step.mac, step.dst) }),
      },
    ];
  },

  inverse(step, view) {
    const link = view.link(step.netns, step.link);
    if (link?.mark === undefined) return [];
    return [
      {
        via: 'rtnetlink',
        netns: step.netns,
        request: deleteForwarding(link.index, step.mac, step.dst),
        tolerates: (errno) => errno === 'ENOENT' || errno === 'ENODEV',
      },
    ];
  },

  satisfied: (step, facts) =>
    netnsFacts(facts, step.netns)?.forwarding?.some(
      ({ link, mac, dst }) => link === step.link && mac === step.mac && dst === step.dst,
    ) === true,
};
