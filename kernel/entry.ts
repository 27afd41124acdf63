/**
 * Entries: what the tables of a tunnel, of its bridge and of its neighbours hold for one address. Each table has one place for an address,
 * so that a newer entry takes the place of an older one. Pure.
 */
import { mac } from '../address/mac.ts';
import type { Mac } from '../address/mac.ts';
import type { FdbAdd, FdbPort, NeighbourAdd, NetnsPath, Step } from './step.ts';

/** Stands for every destination that has no entry of its own (drivers/net/vxlan/vxlan_core.c, `all_zeros_mac`). */
export const ANY_MAC: Mac = mac('00:00:00:00:00:00');

export type EntryStep = FdbAdd | FdbPort | NeighbourAdd;

export function isEntry(step: Step): step is EntryStep {
  return step.do === 'fdb.add' || step.do === 'fdb.port' || step.do === 'neigh.add';
}

/** The place that the entry takes in its namespace. */
export function slotOf(step: EntryStep): string {
  switch (step.do) {
    case 'fdb.add':
      return `to ${step.link} ${step.mac}${step.mac === ANY_MAC ? ` ${step.dst}` : ''}`;
    case 'fdb.port':
      return `port ${step.link} ${step.mac}`;
    case 'neigh.add':
      return `neighbour ${step.link} ${step.address}`;
  }
}

/** Place and contents: of two that differ in anything, one does not stand for the other. */
export function entryName(step: EntryStep): string {
  switch (step.do) {
    case 'fdb.add':
      return `to ${step.link} ${step.mac} ${step.dst}`;
    case 'fdb.port':
      return slotOf(step);
    case 'neigh.add':
      return `${slotOf(step)} ${step.mac}`;
  }
}

/** Whether the facts of a namespace need its entries: a step makes one, or a link that has them. */
export function asksEntries(steps: readonly Step[], netns: NetnsPath | undefined): boolean {
  return steps.some((step) => {
    if (isEntry(step)) return step.netns === netns;
    return step.do === 'link.add' && step.netns === netns && TUNNELS.includes(step.link.kind);
  });
}

const TUNNELS: readonly string[] = ['vxlan', 'tun'];
