/** Plans compared with facts. Pure. */
import { networkOf } from '../address/prefix.ts';
import type { Facts, LinkFact, NetnsFacts } from './facts.ts';
import type { ForwardAccept, LinkAdd, Mark, NetnsPath, NftElement, Plan, RouteAdd, Step } from './step.ts';

/** The steps that the facts do not bear out, in the plan's order. */
export function missing(plan: Plan, facts: Facts): readonly Step[] {
  return plan.filter((step) => !satisfied(step, facts));
}

export function satisfied(step: Step, facts: Facts): boolean {
  switch (step.do) {
    case 'link.add':
      return linkAdded(step, netnsOf(facts, step.netns));
    case 'link.master':
      return netnsOf(facts, step.netns)?.links.get(step.link)?.master === step.master;
    case 'link.up':
      return netnsOf(facts, step.netns)?.links.get(step.link)?.up === true;
    case 'link.move':
      return facts.netns.get(step.to)?.links.get(step.as)?.mark !== undefined;
    case 'addr.add':
      return (
        netnsOf(facts, step.netns)?.addresses.some(
          ({ link, prefix }) => link === step.link && prefix === step.prefix,
        ) === true
      );
    case 'route.add':
      return routed(step, netnsOf(facts, step.netns));
    case 'sysctl.set':
      return netnsOf(facts, step.netns)?.sysctls.get(step.key) === step.value;
    case 'nft.element':
      return elementPresent(step, facts);
    case 'forward.accept':
      return accepted(step, facts);
    case 'netns.add':
      return facts.ourNetns.includes(step.path);
  }
}

function netnsOf(facts: Facts, path: NetnsPath | undefined): NetnsFacts | undefined {
  return path === undefined ? facts.host : facts.netns.get(path);
}

/** A veth whose one end went into a sandbox is still there: its ends live and die together. */
function linkAdded(step: LinkAdd, netns: NetnsFacts | undefined): boolean {
  const names = step.link.kind === 'veth' ? [step.name, step.link.peer.name] : [step.name];
  return names.some((name) => isOurs(netns?.links.get(name), step));
}

function isOurs(link: LinkFact | undefined, step: LinkAdd): boolean {
  return (
    link !== undefined &&
    link.kind === step.link.kind &&
    sameMark(link.mark, step.mark) &&
    (step.mtu === undefined || step.mtu === link.mtu)
  );
}

function sameMark(a: Mark | undefined, b: Mark): boolean {
  return a?.network === b.network && a.endpoint === b.endpoint;
}

function routed(step: RouteAdd, netns: NetnsFacts | undefined): boolean {
  const to = networkOf(step.to);
  return (
    netns?.routes.some(
      (route) =>
        route.ours &&
        route.to === to &&
        route.via === step.via &&
        (step.link === undefined || route.link === step.link),
    ) === true
  );
}

function elementPresent(step: NftElement, facts: Facts): boolean {
  const data = facts.elements?.get(step.set)?.get(step.key.join(' . '));
  return data === (step.data?.join(' . ') ?? '');
}

function accepted(step: ForwardAccept, facts: Facts): boolean {
  const network = step.mark.network.slice(0, 12);
  const has = (family: 4 | 6): boolean =>
    facts.accepts.some(
      (rule) => rule.family === family && rule.bridge === step.bridge && rule.network === network,
    );
  return (!facts.acceptChain.v4 || has(4)) && (!facts.acceptChain.v6 || has(6));
}
