/** link.move: a link from the daemon's namespace to another one, and home. */
import { describe } from '../describe.ts';
import type { Facts } from '../facts.ts';
import { KernelError } from '../kernel.ts';
import { checkName } from '../link-name.ts';
import type { LinkMove } from '../step.ts';
import type { Kind } from './kind.ts';
import { change, isGone, linkOf } from './present-link.ts';

export const linkMove: Kind<LinkMove> = {
  looks: ({ link, to, as }) => [
    { netns: undefined, name: link },
    { netns: to, name: as },
    { netns: to, name: link },
  ],

  /**
   * The kernel moves first and renames then (do_setlink()): with the new name taken, the link would be over there under
   * its old one. Hence the look before, and an undo that also serves a half-done move.
   */
  apply(step, view) {
    checkName(step.as);
    const there = view.link(step.to, step.as);
    if (view.link(undefined, step.link) === undefined && there?.mark !== undefined) return [];
    const link = linkOf(view, undefined, step.link, step);
    if (there !== undefined) {
      throw new KernelError(describe(step), 'EEXIST', `${step.to} has a link ${step.as} already`);
    }
    view.drop(undefined, step.link);
    view.unknow(step.to, step.as);
    const to = { netnsFd: view.handle(step.to), name: step.as };
    const mac = step.mac === undefined ? {} : { mac: step.mac };
    return [{ ...change(undefined, link, { ...to, ...mac }), undo: 'inverse' }];
  },

  inverse(step, view) {
    const link = [step.as, step.link]
      .map((name) => view.link(step.to, name))
      .find((found) => found?.mark !== undefined);
    if (link === undefined) return [];
    view.drop(step.to, link.name);
    view.unknow(undefined, step.link);
    const home = { netnsFd: view.handle(undefined), name: step.link };
    return [{ ...change(step.to, link, home), tolerates: isGone }];
  },

  satisfied: (step, facts: Facts) => facts.netns.get(step.to)?.links.get(step.as)?.mark !== undefined,
};
