/** What steps do to the links of a fake host. */
import { isDeepStrictEqual } from 'node:util';
import { adjust, otherEnd } from './fake-adjust.ts';
import { addLink, checkMac, checkMtu, enslave, moveLink, removeLink } from './fake-host.ts';
import type { FakeLink } from './fake-host.ts';
import { isVlanOf, parentFor, putOn } from './fake-sub-interface.ts';
import { checkVni, tunnelOf } from './fake-tunnels.ts';
import { KernelError } from './kernel.ts';
import { endsOf } from './kinds/link.ts';
import { checkName } from './link-name.ts';
import { sameMark } from './mark.ts';
import type { LinkAdd, LinkMaster, LinkMove, LinkMtu } from './step.ts';

import { findLink, type FakeState, linkAt, netnsAt, type Undo } from './fake-state.ts';

export function linkAdd(state: FakeState, step: LinkAdd): Undo {
  const netns = netnsAt(state, step.netns);
  const present = netns.links.get(step.name);
  if (present !== undefined) return adjust(present, step, otherEnd(state, step));
  const peer = step.link.kind === 'veth' ? step.link.peer : undefined;
  const there = peer?.home === true ? state.host : netns;
  const parent = parentFor(netns, step);
  // Checked before the first end is made, so that a failure leaves nothing: the kernel makes both or none.
  if (peer !== undefined) {
    checkName(peer.name);
    checkMac(peer.name, peer.mac);
    if (there.links.has(peer.name) || (there === netns && peer.name === step.name)) {
      throw new KernelError(`link add ${peer.name}`, 'EEXIST');
    }
  }
  if (step.link.kind === 'vxlan') checkVni(everyLink(state), step.name, step.link);
  const common = {
    kind: step.link.kind,
    mtu: step.mtu ?? parent?.mtu ?? 1500,
    up: false,
    mark: step.mark,
    linkLocal: step.linkLocal ?? true,
  };
  const link = addLink(netns, {
    ...common,
    name: step.name,
    ...(step.mac !== undefined && { mac: step.mac }),
    ...(step.link.kind === 'vxlan' && { vxlan: tunnelOf(step.link) }),
  });
  putOn(link, parent, step.link);
  if (peer !== undefined) {
    const { name, mac } = peer;
    link.peer = addLink(there, { ...common, name, ...(mac !== undefined && { mac }) });
    link.peer.peer = link;
  }
  return () => {
    undoLinkAdd(state, step);
  };
}

function everyLink({ host, netns }: FakeState): readonly FakeLink[] {
  return [host, ...netns.values()].flatMap(({ links }) => [...links.values()]);
}

export function undoLinkAdd(state: FakeState, step: LinkAdd): void {
  for (const { netns, name } of endsOf(step)) {
    const link = findLink(state, netns, name);
    if (link !== undefined && sameMark(link.mark, step.mark) && isVlanOf(link, step.link)) removeLink(link);
  }
}

export function linkMaster(state: FakeState, step: LinkMaster): Undo {
  const link = linkAt(state, step.netns, step.link);
  const master = linkAt(state, step.netns, step.master);
  const { master: before, port } = link;
  const { isolated = false, hairpin = false, suppress = false } = step;
  const flags = { isolated, hairpin, suppress };
  if (before === master && isDeepStrictEqual(port, flags)) return undefined;
  if (before !== master) enslave(link, master);
  link.port = flags;
  return () => {
    // A port that comes back to its former bridge is a new one there.
    if (before === master && port !== undefined) link.port = port;
    else delete link.port;
    if (before === undefined) delete link.master;
    else link.master = before;
  };
}

export function linkMtu(link: FakeLink, step: LinkMtu): Undo {
  if (!sameMark(link.mark, step.mark)) throw new KernelError(`link set ${step.link}`, 'EPERM');
  checkMtu(step.link, step.mtu);
  const before = link.mtu;
  if (before === step.mtu) return undefined;
  link.mtu = step.mtu;
  return () => {
    link.mtu = before;
  };
}

export function linkMove(state: FakeState, step: LinkMove): Undo {
  const to = netnsAt(state, step.to);
  const there = to.links.get(step.as);
  const link = state.host.links.get(step.link);
  // Moved already: it no longer has its old name here, and what has the new name there is ours.
  if (link === undefined && there?.mark !== undefined) return undefined;
  if (link === undefined) throw new KernelError(`link ${step.link}`, 'ENODEV');
  checkMac(step.link, step.mac);
  moveLink(link, to, step.as);
  if (step.mac !== undefined) link.mac = step.mac;
  return () => {
    undoLinkMove(state, step);
  };
}

export function undoLinkMove(state: FakeState, step: LinkMove): void {
  const link = state.netns.get(step.to)?.links.get(step.as);
  if (link?.mark !== undefined) moveLink(link, state.host, step.link);
}
