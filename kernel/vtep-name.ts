/** All that a tunnel endpoint in user space is, as one text: of two that differ in anything one does not stand for the other. Pure. */
import type { VtepRun } from './step.ts';

export function vtepName(vtep: Omit<VtepRun, 'do'>): string {
  return [endpointOf(vtep), ...vtep.peers].join(' ');
}

/** What stays the same when its peers become others: its device and its socket. */
function endpointOf({ netns, link, vni, local, port, learning }: Omit<VtepRun, 'do'>): string {
  return [netns, link, vni, local, port, learning === false ? 'by entries to' : 'to'].join(' ');
}

/** Of the names of those that run, the one whose device and socket `vtep` would have. */
export function formerVtep(running: Iterable<string>, vtep: VtepRun): string | undefined {
  const start = endpointOf(vtep);
  return [...running].find((name) => name.startsWith(start));
}
