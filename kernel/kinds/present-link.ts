/** A link that is there: looked for, and changed. */
import { describe } from '../describe.ts';
import { KernelError } from '../kernel.ts';
import { changeLink } from '../rtnetlink.ts';
import type { LinkChange } from '../rtnetlink.ts';
import type { KernelLink } from '../decode.ts';
import type { NetnsPath, Step } from '../step.ts';
import type { RtnetlinkOperation, View } from './kind.ts';

/** ENODEV: the link went away between look and act, with whatever we wanted to take from it. */
export function isGone(errno: string): boolean {
  return errno === 'ENODEV';
}

/** @throws KernelError ENODEV */
export function linkOf(view: View, netns: NetnsPath | undefined, name: string, step: Step): KernelLink {
  const link = view.link(netns, name);
  if (link === undefined) {
    const where = netns === undefined ? '' : ` in ${netns}`;
    throw new KernelError(describe(step), 'ENODEV', `there is no link ${name}${where}`);
  }
  return link;
}

/** In one message, as far as the kernel takes them in one: it applies the alias before AF_SPEC and the flags (do_setlink()). */
export function change(
  netns: NetnsPath | undefined,
  link: KernelLink,
  to: LinkChange,
  undo?: LinkChange,
): RtnetlinkOperation {
  return {
    via: 'rtnetlink',
    netns,
    request: changeLink(link.index, to),
    ...(undo !== undefined && link.made === undefined && { undo: changeLink(link.index, undo) }),
  };
}
