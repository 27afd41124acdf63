/** netns.add and sysctl.set. */
import { dirname } from 'node:path';
import { describe } from '../describe.ts';
import { KernelError } from '../kernel.ts';
import { changeLink } from '../rtnetlink.ts';
import type { NetnsAdd, SysctlSet } from '../step.ts';
import { netnsFacts } from './kind.ts';
import type { Kind } from './kind.ts';

/** LOOPBACK_IFINDEX: register_netdevice() of `lo` comes first in every namespace. */
const LOOPBACK_INDEX = 1;

export const netnsAdd: Kind<NetnsAdd> = {
  looks: () => [],

  apply(step, view) {
    if (dirname(step.path) !== view.netnsDir) {
      throw new KernelError(describe(step), 'EINVAL', `our namespaces are files in ${view.netnsDir}`);
    }
    return [
      { via: 'netns', verb: 'create', path: step.path },
      { via: 'rtnetlink', netns: step.path, request: changeLink(LOOPBACK_INDEX, { up: true }) },
    ];
  },

  inverse: (step, view) =>
    dirname(step.path) === view.netnsDir ? [{ via: 'netns', verb: 'remove', path: step.path }] : [],

  satisfied: (step, facts) => facts.ourNetns.includes(step.path),
};

export const sysctlSet: Kind<SysctlSet> = {
  looks: () => [],

  apply: ({ netns, key, value, keep = false }) => [{ via: 'sysctl', netns, key, value, keep }],

  /** Nothing: a stored plan does not know the former value, and a link's sysctls die with the link. */
  inverse: () => [],

  satisfied: (step, facts) => netnsFacts(facts, step.netns)?.sysctls.get(step.key) === step.value,
};
