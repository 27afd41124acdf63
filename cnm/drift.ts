/** Desired state = all stored plans; observed state = one dump of the kernel: where they differ. Changes nothing. */
import type { Facts } from '../kernel/facts.ts';
import type { FactsQuery } from '../kernel/kernel.ts';
import type { Plan } from '../kernel/step.ts';
import type { Difference, Drift } from './cnm.ts';
import type { Context } from './context.ts';
import { wholeEndpoint, wholeNetwork } from './plans.ts';
import { dockersKey, whereabouts } from './holder.ts';
import type { EndpointRecord, State } from './model.ts';
import { awaited, isOrphaned, rememberNames } from './parents.ts';
import { orphans } from './orphans.ts';

/** One stored object with everything that should exist for it, in the order in which it is made. */
export interface Desired {
  readonly object: Difference['object'];
  readonly id: string;
  readonly network?: string;
  readonly plan: Plan;
  readonly endpoint?: EndpointRecord;
}

/** Compares without changing anything; records that are being changed right now are left out. */
export async function drift(context: Context): Promise<Drift> {
  const wanted = desired(context);
  const facts = await context.kernel.facts(query(wanted));
  const differences = differencesOf(context, wanted, facts);
  return { differences, orphans: orphans(context, facts), rulesetCurrent: facts.rulesetCurrent };
}

export function desired(context: Context): readonly Desired[] {
  const { records } = context;
  const ready = (record: { readonly state: State }) => record.state === 'ready';
  return [
    ...records
      .sandboxes()
      .filter(ready)
      .map(({ id, plan }) => ({ object: 'sandbox' as const, id, plan })),
    ...records
      .networks()
      .filter(ready)
      .map((network) => ({
        object: 'network' as const,
        id: network.id,
        plan: [...wholeNetwork(network), ...(context.reach.wanted(network.id) ?? [])],
      })),
    ...records
      .endpoints()
      .filter((endpoint) => !isCutOff(endpoint))
      .map((endpoint) => ({
        object: 'endpoint' as const,
        id: endpoint.id,
        network: endpoint.network,
        plan: wholeEndpoint(endpoint),
        endpoint,
      })),
  ];
}

export function query(wanted: readonly Desired[]): FactsQuery {
  const endpoints = wanted.flatMap(({ endpoint }) => endpoint ?? []);
  return { plans: wanted.map(({ plan }) => plan), netns: whereabouts(endpoints) };
}

export function differencesOf(
  context: Context,
  wanted: readonly Desired[],
  facts: Facts,
): readonly Difference[] {
  rememberNames(context, facts);
  return wanted.map((one) => difference(context, one, facts)).filter((one) => one.missing.length > 0);
}

export function difference(context: Context, wanted: Desired, facts: Facts): Difference {
  const missing = context.kernel.missing(wanted.plan, facts);
  const awaits = awaited(context, missing, facts);
  const { object, id, network } = wanted;
  return {
    ...{ object, id, missing },
    ...(network !== undefined && { network }),
    ...(awaits !== undefined && { awaits }),
    repairable: awaits === undefined && !isLost(wanted, missing, facts),
  };
}

/** A link that Docker had moved into a sandbox of its own and that is gone, for good where we cannot do again what Docker did. */
function isLost({ endpoint }: Desired, missing: Plan, facts: Facts): boolean {
  if (endpoint === undefined || dockersKey(endpoint) === undefined) return false;
  if (missing.some((step) => step.do === 'link.add' && step.link.kind === 'veth')) return true;
  return isOrphaned(missing) && !facts.netns.has(endpoint.attachment?.key ?? '');
}

/** An endpoint whose join or publishing was cut off is undone as a whole: whoever asked got no answer and asks again. */
export function isCutOff(endpoint: EndpointRecord): boolean {
  return (
    endpoint.state !== 'ready' ||
    endpoint.attachment?.state === 'applying' ||
    (endpoint.external !== undefined && endpoint.external.state !== 'ready')
  );
}
