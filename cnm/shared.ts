/**
 * What several networks have in common, for example the VLAN interface that they are all on. Each network's plan makes it, in the
 * same words; made twice is made once. The inverse of a plan leaves out what another network's plan still has: so the last network
 * takes it along, whatever order they go in, and there is no counter that a crash could leave wrong.
 */
import type { Plan, Step } from '../kernel/step.ts';
import type { Context } from './context.ts';
import { SHARED } from './driver.ts';
import type { NetworkId } from './model.ts';

/** The key under which what is shared is made and undone: nobody takes away what another is just finding there. */
const SHARING = 'shared';

/** Runs `work` alone, where the plan has something to share. */
export function sharing<T>({ queues }: Context, plan: Plan, work: () => Promise<T>): Promise<T> {
  return plan.some(isShared) ? queues.run(SHARING, work) : work();
}

function isShared(step: Step): boolean {
  return (step.do === 'link.add' && step.mark.network === SHARED.network) || step.do === 'link.promisc';
}

/** The steps of a network's plan that no other network has, in whatever state that is: one that is going will undo them itself. */
export function ownSteps({ records }: Context, network: NetworkId, plan: Plan): Plan {
  const others = records.networks().filter(({ id }) => id !== network);
  const theirs = new Set(others.flatMap((other) => other.plan.map((step) => JSON.stringify(step))));
  return plan.filter((step) => !theirs.has(JSON.stringify(step)));
}
