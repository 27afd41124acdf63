/** qdisc.set and ingress.redirect. */
import { describe } from '../describe.ts';
import { KernelError } from '../kernel.ts';
import type { KernelLink } from '../decode.ts';
import type { NetlinkRequest } from '../netlink.ts';
import type { IngressRedirect, QdiscSet } from '../step.ts';
import {
  addIngress,
  deleteBucket,
  deleteIngress,
  redirectIngress,
  sameBucket,
  setBucket,
} from '../traffic-control.ts';
import type { Kind, RtnetlinkOperation, View } from './kind.ts';
import { linkOf } from './present-link.ts';

/**
 * Two requests each: the first fails where there is something already, so that a plan that fails takes back only what it brought; the
 * second sets it as wanted in any case.
 */
export const qdiscSet: Kind<QdiscSet> = {
  looks: ({ link }) => [{ netns: undefined, name: link }],

  apply(step, view) {
    const link = ownLink(step, view);
    return [
      bring(setBucket(link.index, step, 'add'), link, deleteBucket(link.index)),
      request(setBucket(link.index, step, 'replace')),
    ];
  },

  inverse(step, view) {
    const link = view.link(undefined, step.link);
    return link?.mark === undefined ? [] : [take(deleteBucket(link.index))];
  },

  satisfied: (step, facts) => sameBucket(facts.host.links.get(step.link)?.bucket, step),
};

export const ingressRedirect: Kind<IngressRedirect> = {
  looks: ({ link, to }) => [
    { netns: undefined, name: link },
    { netns: undefined, name: to },
  ],

  apply(step, view) {
    const link = ownLink(step, view);
    const to = linkOf(view, undefined, step.to, step);
    return [
      bring(addIngress(link.index), link, deleteIngress(link.index)),
      request(redirectIngress(link.index, to.index)),
    ];
  },

  inverse(step, view) {
    const link = view.link(undefined, step.link);
    return link?.mark === undefined ? [] : [take(deleteIngress(link.index))];
  },

  satisfied: (step, facts) => facts.host.links.get(step.link)?.redirectedTo === step.to,
};

/** What is on a stranger's link is the stranger's. @throws KernelError ENODEV, EEXIST */
function ownLink(step: QdiscSet | IngressRedirect, view: View): KernelLink {
  const link = linkOf(view, undefined, step.link, step);
  if (link.mark !== undefined) return link;
  throw new KernelError(describe(step), 'EEXIST', `${step.link} is not a link of ours`);
}

function request(one: NetlinkRequest): RtnetlinkOperation {
  return { via: 'rtnetlink', netns: undefined, request: one };
}

/** On a link that the same call makes it goes with the link. */
function bring(one: NetlinkRequest, link: KernelLink, undo: NetlinkRequest): RtnetlinkOperation {
  return {
    ...request(one),
    tolerates: (errno) => errno === 'EEXIST',
    ...(link.made === undefined && { undo }),
  };
}

/** ENOENT and EINVAL: the link has none, or only the one that the kernel gives every link. */
function take(one: NetlinkRequest): RtnetlinkOperation {
  return { ...request(one), tolerates: (errno) => ['ENOENT', 'EINVAL', 'ENODEV'].includes(errno) };
}
