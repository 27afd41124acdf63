/** All that a tunnel endpoint in user space is, as one text: of two that differ in anything one does not stand for the other. Pure. */
import type { VtepRun } from './step.ts';

export function vtepName({ netns, link, vni, local, port, peers, learning }: Omit<VtepRun, 'do'>): string {
  return [netns, link, vni, local, port, ...peers, ...(learning === false ? ['nolearning'] : [])].join(' ');
}
