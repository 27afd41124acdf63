/** link.mtu. */
import { describe } from '../describe.ts';
import { KernelError } from '../kernel.ts';
import { sameMark } from '../mark.ts';
import { changeLink } from '../rtnetlink.ts';
import type { LinkMtu } from '../step.ts';
import type { Kind } from './kind.ts';
import { linkOf } from './present-link.ts';

export const linkMtu: Kind<LinkMtu> = {
  looks: ({ netns, link }) => [{ netns, name: link }],

  apply(step, view) {
    const { netns, mtu, mark } = step;
    const link = linkOf(view, netns, step.link, step);
    if (!sameMark(link.mark, mark))
      throw new KernelError(describe(step), 'EPERM', `the link ${step.link} is not the one that was meant`);
    if (link.mtu === mtu) return [];
    view.put(netns, { ...link, mtu });
    return [
      {
        via: 'rtnetlink',
        netns,
        request: changeLink(link.index, { mtu }),
        undo: changeLink(link.index, { mtu: link.mtu }),
      },
    ];
  },

  inverse: () => [],
  satisfied: () => true,
};
