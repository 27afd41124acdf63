/** Plans as a whole: compared with facts, and shortened for their undoing. Pure. */
import type { Facts } from './facts.ts';
import { satisfied } from './kinds/index.ts';
import { endsOf } from './kinds/link.ts';
import type { NetnsPath, Plan, Step } from './step.ts';

/** The steps that the facts do not bear out, in the plan's order. */
export function missing(plan: Plan, facts: Facts): readonly Step[] {
  return plan.filter((step) => !satisfied(step, facts));
}

/**
 * The steps that have to be undone for the whole plan to be undone, in the plan's order. What dies with a link that the
 * plan itself made, with a namespace that it made, or with a link's return from a sandbox, needs no undoing of its own: a
 * container's veth with its addresses and its bridge port goes with one message.
 */
export function condense(plan: Plan): Plan {
  const gone = new Gone();
  return plan.filter((step) => {
    const subsumed = gone.takes(step);
    gone.note(step, subsumed);
    return !subsumed;
  });
}

/** What will be gone when the steps kept so far are undone. */
class Gone {
  readonly #netns = new Set<NetnsPath>();
  /** By place: how many ends the link has that can still be deleted where it was made. */
  readonly #links = new Map<string, { here: number }>();

  takes(step: Step): boolean {
    switch (step.do) {
      case 'link.move':
        // The last end must come home to be found. Nor does the end of `to` take the move along: the link may be another plan's.
        return (this.#links.get(placeOf(undefined, step.link))?.here ?? 0) > 1;
      case 'link.master':
      case 'link.up':
      case 'addr.add':
      case 'route.add':
      case 'fdb.add':
      case 'fdb.port':
      case 'neigh.add':
        return this.#inNetns(step.netns) || this.#links.has(placeOf(step.netns, step.link ?? ''));
      case 'qdisc.set':
      case 'ingress.redirect':
        return this.#links.has(placeOf(undefined, step.link));
      case 'link.add':
        // The kernel ends a namespace some time later: an end at home would still be there, with its routes.
        return this.#inNetns(step.netns) && endsOf(step).every(({ netns }) => this.#inNetns(netns));
      case 'sysctl.set':
      case 'uplink.translate':
        return this.#inNetns(step.netns);
      default:
        return false;
    }
  }

  note(step: Step, subsumed: boolean): void {
    if (step.do === 'netns.add') this.#netns.add(step.path);
    if (step.do === 'link.add') {
      const ends = endsOf(step);
      const link = { here: ends.length };
      for (const { netns, name } of ends) this.#links.set(placeOf(netns, name), link);
    }
    if (step.do === 'link.move') {
      const link = this.#links.get(placeOf(undefined, step.link)) ?? { here: 0 };
      if (subsumed) link.here -= 1;
      // What stands on it over there goes when the pair is deleted, or when it comes home (dev_change_net_namespace()).
      this.#links.set(placeOf(step.to, step.as), { here: 0 });
    }
  }

  #inNetns(netns: NetnsPath | undefined): boolean {
    return netns !== undefined && this.#netns.has(netns);
  }
}

/** A NUL is in no path and in no name. */
function placeOf(netns: NetnsPath | undefined, name: string): string {
  return `${netns ?? ''}\0${name}`;
}

/** The keys that a plan sets in a namespace; undefined: in the daemon's. */
export function sysctlsOf(plan: Plan, netns: NetnsPath | undefined): readonly string[] {
  return plan.flatMap((step) => (step.do === 'sysctl.set' && step.netns === netns ? [step.key] : []));
}
