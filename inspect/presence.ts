/** What this host holds of a network in a namespace of its own, as the kernel has it now. From its stored plan and facts. Pure. */
import type { NetworkRecord } from '../cnm/model.ts';
import type { Facts } from '../kernel/facts.ts';
import type { LinkAdd, NetnsPath, Plan } from '../kernel/step.ts';
import { linkView } from './chain.ts';
import type { PresenceView, SegmentView } from './views.ts';

/** The namespace that a network has on this host; undefined where it has none. */
export function presenceNetns({ presence = [] }: Pick<NetworkRecord, 'presence'>): NetnsPath | undefined {
  return presence.find((step) => step.do === 'netns.add')?.path;
}

export function presenceView(network: NetworkRecord, facts: Facts): PresenceView | undefined {
  const netns = presenceNetns(network);
  if (netns === undefined) return undefined;
  const plan = network.presence ?? [];
  const bridges = plan.filter(
    (step): step is LinkAdd => step.do === 'link.add' && step.link.kind === 'bridge',
  );
  return {
    netns,
    exists: facts.netns.has(netns),
    segments: bridges.map(({ name }) => segmentView(name, plan, netns, facts)),
  };
}

function segmentView(bridgeName: string, plan: Plan, netns: NetnsPath, facts: Facts): SegmentView {
  const held = facts.netns.get(netns);
  const bridge = held && linkView(held, bridgeName);
  const tunnels = plan.filter(
    (step): step is LinkAdd => step.do === 'link.add' && step.link.kind === 'vxlan',
  );
  const isPort = (name: string) =>
    plan.some((step) => step.do === 'link.master' && step.link === name && step.master === bridgeName);
  return {
    bridgeName,
    ...(bridge && { bridge }),
    tunnels: tunnels
      .filter(({ name }) => isPort(name))
      .map(({ name }) => {
        const link = held && linkView(held, name);
        const settings = held?.links.get(name)?.vxlan;
        const peers = plan.flatMap((step) => (step.do === 'fdb.add' && step.link === name ? [step.dst] : []));
        return { name, ...(link && { link }), ...(settings && { settings }), peers };
      }),
  };
}
