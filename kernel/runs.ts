/** How a plan is cut into runs: steps that can be looked up together and then sent together. */
import type { NetnsPath, Plan, Step } from './step.ts';

/** Consecutive steps of one namespace, of one firewall transaction, or of one look at the tracked connections. */
export function runsOf(plan: Plan, alone: boolean): readonly (readonly Step[])[] {
  const runs: { lane: string | undefined; steps: Step[] }[] = [];
  for (const step of plan) {
    const lane = alone ? undefined : laneOf(step);
    const last = runs.at(-1);
    if (last !== undefined && lane !== undefined && last.lane === lane) last.steps.push(step);
    else runs.push({ lane, steps: [step] });
  }
  return runs.map(({ steps }) => steps);
}

/** Undefined: it goes alone. */
function laneOf(step: Step): string | undefined {
  switch (step.do) {
    case 'link.add':
      // Whoever makes a TAP device does not choose its index: it has to be looked up.
      return step.link.kind === 'tun' ? undefined : `netns ${step.netns ?? ''}`;
    case 'link.master':
    case 'link.mtu':
    case 'link.up':
    case 'addr.add':
    case 'route.add':
    case 'fdb.add':
    case 'fdb.port':
    case 'neigh.add':
    case 'neigh.announce':
      return `netns ${step.netns ?? ''}`;
    case 'link.promisc':
    case 'qdisc.set':
    case 'ingress.redirect':
      return 'netns ';
    case 'nft.element':
      return 'elements';
    case 'port.hold':
      return 'ports';
    case 'conntrack.forget':
      return 'conntrack';
    // Where it leaves the link has to be looked up again (View.unknow).
    case 'neigh.probe':
    case 'link.move':
    case 'sysctl.set':
    case 'forward.accept':
    case 'vtep.run':
    case 'encrypted.guard':
    case 'uplink.translate':
    case 'netns.add':
      return undefined;
    case 'xfrm.state.add':
    case 'xfrm.policy.add':
      return 'xfrm';
  }
}

/** The namespaces other than the daemon's that a step concerns. */
export function namespacesOf(step: Step): readonly NetnsPath[] {
  switch (step.do) {
    case 'link.move':
      return [step.to];
    case 'netns.add':
      return [step.path];
    case 'nft.element':
    case 'forward.accept':
    case 'port.hold':
    case 'conntrack.forget':
    case 'link.promisc':
    case 'qdisc.set':
    case 'ingress.redirect':
    case 'neigh.probe':
    case 'xfrm.state.add':
    case 'xfrm.policy.add':
    case 'encrypted.guard':
      return [];
    default:
      return step.netns === undefined ? [] : [step.netns];
  }
}
