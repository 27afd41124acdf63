/** What becomes of a fake link that is there already: link.add and link.mtu. */
import { isDeepStrictEqual } from 'node:util';
import type { FakeLink } from './fake-host.ts';
import { checkMac, checkMtu } from './fake-host.ts';
import { isVlanOf } from './fake-sub-interface.ts';
import { tunnelOf } from './fake-tunnels.ts';
import { KernelError } from './kernel.ts';
import { sameMark } from './mark.ts';
import type { LinkAdd, LinkMtu } from './step.ts';

type Undo = (() => void) | undefined;

/** A link of ours that is there already gets the MTU and MAC that the step asks for, and the other end of a pair, where it is still, the MTU. */
export function adjust(step: LinkAdd, link: FakeLink, ends: readonly FakeLink[]): Undo {
  const isIt =
    link.kind === step.link.kind &&
    isVlanOf(link, step.link) &&
    (step.link.kind !== 'vxlan' || isDeepStrictEqual(link.vxlan, tunnelOf(step.link)));
  if (!sameMark(link.mark, step.mark) || !isIt) {
    throw new KernelError(`link add ${step.name}`, 'EEXIST');
  }
  const { mtu = link.mtu, mac } = step;
  checkMtu(link.name, mtu);
  checkMac(link.name, mac);
  const own = step.mtu === undefined ? [] : ends.filter((end) => sameMark(end.mark, step.mark));
  const before = [link, ...own].map((end) => [end, end.mtu] as const);
  const formerMac = link.mac;
  for (const [end] of before) end.mtu = mtu;
  if (mac !== undefined) link.mac = mac;
  if (before.every(([end, had]) => end.mtu === had) && link.mac === formerMac) return undefined;
  return () => {
    for (const [end, had] of before) end.mtu = had;
    if (formerMac === undefined) delete link.mac;
    else link.mac = formerMac;
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
