/** What this host holds of a network in a namespace of its own, as the kernel has it now. From its stored plan and facts. Pure. */
import type { NetworkRecord } from '../cnm/model.ts';
import type { Facts, NetnsFacts } from '../kernel/facts.ts';
import type { VtepCounters } from '../kernel/kernel.ts';
import type { LinkAdd, NetnsPath, Plan, UplinkTranslate, VtepRun } from '../kernel/step.ts';
import { vtepName } from '../kernel/vtep-name.ts';
import { linkView, type Picture } from './chain.ts';
import type { PresenceView, SegmentView, TunnelView, UplinkView } from './views.ts';

/** The namespace that a network has on this host; undefined where it has none. */
export function presenceNetns({ presence = [] }: Pick<NetworkRecord, 'presence'>): NetnsPath | undefined {
  return presence.find((step) => step.do === 'netns.add')?.path;
}

export function presenceView(
  network: NetworkRecord,
  { facts, vteps = new Map() }: Pick<Picture, 'facts' | 'vteps'>,
): PresenceView | undefined {
  const netns = presenceNetns(network);
  if (netns === undefined) return undefined;
  const plan = network.presence ?? [];
  const bridges = plan.filter(
    (step): step is LinkAdd => step.do === 'link.add' && step.link.kind === 'bridge',
  );
  return {
    netns,
    exists: facts.netns.has(netns),
    segments: bridges.map(({ name }) => segmentView(name, plan, facts.netns.get(netns), vteps)),
    ...uplinkView(plan, facts),
  };
}

function uplinkView(plan: Plan, facts: Facts): { readonly uplink?: UplinkView } {
  const translate = plan.find((step): step is UplinkTranslate => step.do === 'uplink.translate');
  const pair = plan.find((step) => step.do === 'link.add' && step.name === translate?.link);
  if (translate === undefined || pair?.do !== 'link.add' || pair.link.kind !== 'veth') return {};
  const held = facts.netns.get(translate.netns);
  const link = held && linkView(held, pair.name);
  const hostName = pair.link.peer.name;
  const hostLink = linkView(facts.host, hostName);
  return {
    uplink: {
      name: pair.name,
      ...(link && { link }),
      hostName,
      ...(hostLink && { hostLink }),
      pairs: translate.pairs,
    },
  };
}

function segmentView(
  bridgeName: string,
  plan: Plan,
  held: NetnsFacts | undefined,
  vteps: ReadonlyMap<string, VtepCounters>,
): SegmentView {
  const bridge = held && linkView(held, bridgeName);
  const tunnels = plan.filter(
    (step): step is LinkAdd => step.do === 'link.add' && ['vxlan', 'tun'].includes(step.link.kind),
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
        const vtep = plan.find((step): step is VtepRun => step.do === 'vtep.run' && step.link === name);
        if (vtep !== undefined) return { name, ...(link && { link }), ...inUserSpace(vtep, vteps) };
        const settings = held?.links.get(name)?.vxlan;
        const peers = plan.flatMap((step) => (step.do === 'fdb.add' && step.link === name ? [step.dst] : []));
        return { name, ...(link && { link }), ...(settings && { settings }), peers };
      }),
  };
}

function inUserSpace(
  vtep: VtepRun,
  vteps: ReadonlyMap<string, VtepCounters>,
): Pick<TunnelView, 'peers' | 'userspace'> {
  const { vni, local, port, peers } = vtep;
  const counters = vteps.get(vtepName(vtep));
  return { peers, userspace: { vni, local, port, ...(counters && { counters }) } };
}
