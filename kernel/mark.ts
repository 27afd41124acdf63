/** Our mark on links: group and alias. See `Mark` in step.ts. */
import type { Mark } from './step.ts';

/** IFLA_GROUP of every link that we make: 'cnm' in ASCII. */
export const LINK_GROUP = 0x636e6d;

/** The mark that an alias and a group make; undefined: a stranger's link. A link of ours that a crash left without alias has network ''. */
export function markOf(alias: string | undefined, group: number | undefined): Mark | undefined {
  const [, network, endpoint] = /^cnm (\S+)(?: (\S+))?$/.exec(alias ?? '') ?? [];
  if (network !== undefined) return endpoint === undefined ? { network } : { network, endpoint };
  return group === LINK_GROUP && (alias ?? '') === '' ? { network: '' } : undefined;
}

export function sameMark(a: Mark | undefined, b: Mark): boolean {
  return a?.network === b.network && a.endpoint === b.endpoint;
}

/** Whether a link with mark `a` may be taken for the one that `b` marks: it is, or a crash came before its alias. */
export function mayBe(a: Mark | undefined, b: Mark): boolean {
  return sameMark(a, b) || a?.network === '';
}
