/** fdb.add, fdb.port and neigh.add: each table has one place for an address, and a newer entry takes it. */
import { entryName } from '../entry.ts';
import type { EntryStep } from '../entry.ts';
import {
  addForwarding,
  addNeighbour,
  addPortEntry,
  deleteForwarding,
  deleteNeighbour,
  deletePortEntry,
} from '../forwarding.ts';
import type { NetlinkRequest } from '../netlink.ts';
import type { FdbAdd, FdbPort, NeighbourAdd } from '../step.ts';
import { netnsFacts } from './kind.ts';
import type { Kind, Operation, View } from './kind.ts';
import { linkOf } from './present-link.ts';

/** The message for an entry, on the link of that index. */
interface Messages<S extends EntryStep> {
  readonly put: (index: number, step: S) => NetlinkRequest;
  readonly remove: (index: number, step: S) => NetlinkRequest;
}

const tunnels = entry<FdbAdd>({
  put: (index, { mac, dst }) => addForwarding(index, mac, dst),
  remove: (index, { mac, dst }) => deleteForwarding(index, mac, dst),
});

/** A TAP device has no table: the program behind it has. */
export const fdbAdd: Kind<FdbAdd> = {
  ...tunnels,
  apply: (step, view) =>
    isTap(step, view) ? [{ via: 'place', verb: 'put', entry: step }] : tunnels.apply(step, view),
  inverse: (step, view) =>
    isTap(step, view) ? [{ via: 'place', verb: 'remove', entry: step }] : tunnels.inverse(step, view),
};

export const fdbPort = entry<FdbPort>({
  put: (index, { mac }) => addPortEntry(index, mac),
  remove: (index, { mac }) => deletePortEntry(index, mac),
});

export const neighbourAdd = entry<NeighbourAdd>({
  put: (index, { address, mac }) => addNeighbour(index, address, mac),
  remove: (index, { address }) => deleteNeighbour(index, address),
});

function isTap({ netns, link }: FdbAdd, view: View): boolean {
  return view.link(netns, link)?.kind === 'tun';
}

function entry<S extends EntryStep>({ put, remove }: Messages<S>): Kind<S> {
  return {
    looks: ({ netns, link }) => [{ netns, name: link }],

    apply(step, view) {
      const link = linkOf(view, step.netns, step.link, step);
      const undo = remove(link.index, step);
      // On a link that the same call makes it goes with the link.
      const done: Operation = { via: 'rtnetlink', netns: step.netns, request: put(link.index, step) };
      return [link.made === undefined ? { ...done, undo } : done];
    },

    inverse(step, view) {
      const link = view.link(step.netns, step.link);
      if (link?.mark === undefined) return [];
      const tolerates = (errno: string) => ['ENOENT', 'ENODEV', 'EINVAL'].includes(errno);
      return [{ via: 'rtnetlink', netns: step.netns, request: remove(link.index, step), tolerates }];
    },

    satisfied: (step, facts) => netnsFacts(facts, step.netns)?.entries?.has(entryName(step)) === true,
  };
}
