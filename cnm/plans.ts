/** Plans of records as wholes. Pure. */
import type { Plan } from '../kernel/step.ts';
import type { EndpointRecord, NetworkRecord } from './model.ts';

/** Everything that exists in the kernel for a network, in the order in which it was made. */
export function wholeNetwork({ plan, presence = [] }: NetworkRecord): Plan {
  return [...plan, ...presence];
}

/** Everything that exists in the kernel for an endpoint, in the order in which it was made. */
export function wholeEndpoint({ plan, attachment, external }: EndpointRecord): Plan {
  return [...plan, ...(attachment?.plan ?? []), ...(external?.plan ?? [])];
}

/** The steps of the one that are not, to the letter, in the other. */
export function without(plan: Plan, others: Plan): Plan {
  const known = new Set(others.map((step) => JSON.stringify(step)));
  return plan.filter((step) => !known.has(JSON.stringify(step)));
}
