/** neigh.probe. */
import type { NeighbourProbe } from '../step.ts';
import type { Kind } from './kind.ts';
import { linkOf } from './present-link.ts';

export const neighbourProbe: Kind<NeighbourProbe> = {
  looks: ({ link }) => [{ netns: undefined, name: link }],

  apply(step, view) {
    linkOf(view, undefined, step.link, step);
    return [{ via: 'probe', probe: step }];
  },

  inverse: () => [],
  satisfied: () => true,
};
