/** neigh.announce. */
import { announcement } from '../announcement.ts';
import { changeNeighbour } from '../rtnetlink.ts';
import type { NeighbourAnnounce } from '../step.ts';
import type { Kind, Operation } from './kind.ts';
import { linkOf } from './present-link.ts';

export const neighbourAnnounce: Kind<NeighbourAnnounce> = {
  looks: ({ netns, link }) => [{ netns, name: link }],

  apply(step, view) {
    const { index } = linkOf(view, step.netns, step.link, step);
    // What a packet socket sends is not heard by the host itself.
    const own = step.addresses.map((address): Operation => ({
      via: 'rtnetlink',
      netns: step.netns,
      request: changeNeighbour(index, address, step.mac),
      // ENOENT: it never asked for the address. The table is an aid, whatever may be wrong with it.
      tolerates: () => true,
    }));
    const frames = step.addresses.map((address) => announcement(address, step.mac));
    return [...own, { via: 'frames', netns: step.netns, index, frames }];
  },

  inverse: () => [],
  satisfied: () => true,
};
