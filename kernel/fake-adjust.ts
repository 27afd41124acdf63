/** A link of ours on a fake host that is made again: it gets what it has not. */
import { isDeepStrictEqual } from 'node:util';
import { checkMac, checkMtu } from './fake-host.ts';
import type { FakeLink } from './fake-host.ts';
import type { FakeState, Undo } from './fake-state.ts';
import { isVlanOf } from './fake-sub-interface.ts';
import { tunnelOf } from './fake-tunnels.ts';
import { KernelError } from './kernel.ts';
import { sameMark } from './mark.ts';
import type { LinkAdd } from './step.ts';

/** A veth's other end, where it was made. */
export function otherEnd(state: FakeState, { netns, link, mark }: LinkAdd): FakeLink | undefined {
  if (link.kind !== 'veth') return undefined;
  const place = netns === undefined || link.peer.home === true ? state.host : state.netns.get(netns);
  const end = place?.links.get(link.peer.name);
  return end?.kind === 'veth' && sameMark(end.mark, mark) ? end : undefined;
}

/** A link of ours that is there already gets the MTU and MAC that the step asks for. */
export function adjust(link: FakeLink, step: LinkAdd, other?: FakeLink): Undo {
  const isIt =
    link.kind === step.link.kind &&
    isVlanOf(link, step.link) &&
    (step.link.kind !== 'vxlan' || isDeepStrictEqual(link.vxlan, tunnelOf(step.link)));
  if (!sameMark(link.mark, step.mark) || !isIt) {
    throw new KernelError(`link add ${step.name}`, 'EEXIST');
  }
  const before = { mtu: link.mtu, mac: link.mac, other: other?.mtu ?? 0 };
  checkMtu(link.name, step.mtu ?? link.mtu);
  checkMac(link.name, step.mac);
  link.mtu = step.mtu ?? link.mtu;
  if (step.mac !== undefined) link.mac = step.mac;
  if (other !== undefined) other.mtu = step.mtu ?? other.mtu;
  if (link.mtu === before.mtu && link.mac === before.mac && (other?.mtu ?? 0) === before.other)
    return undefined;
  return () => {
    if (other !== undefined) other.mtu = before.other;
    link.mtu = before.mtu;
    if (before.mac === undefined) delete link.mac;
    else link.mac = before.mac;
  };
}
