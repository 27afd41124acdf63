/** Create and delete networks. */
import { isDeepStrictEqual } from 'node:util';
import { describe } from '../kernel/describe.ts';
import type { Plan } from '../kernel/step.ts';
import { abandon, apply, type Context, driverOf, PLANNING, revert } from './context.ts';
import { dismantleEndpoint } from './endpoints.ts';
import { IPV6_DISABLED } from './families.ts';
import { CnmError } from './errors.ts';
import { withoutNullPool } from './leasing.ts';
import { dismantlePresence } from './presence.ts';
import type { NetworkId, NetworkRecord, NetworkSpec } from './model.ts';
import { ownSteps, sharing } from './shared.ts';

export function createNetwork(context: Context, given: NetworkSpec): Promise<void> {
  return context.queues.run(given.id, async () => {
    const spec = withoutNullPool(context, given);
    const known = context.records.network(spec.id);
    if (known?.state === 'ready') {
      assertSame(known, spec);
      return;
    }
    if (known !== undefined) await dismantleNetwork(context, known);
    const agreed = await agreement(context, spec, 'join');
    try {
      const record = await context.queues.run(PLANNING, () => planNetwork(context, { ...spec, ...agreed }));
      await establishNetwork(context, record);
    } catch (error) {
      disagree(context, agreed);
      throw error;
    }
  });
}

/** What the network needs at once, and what it will need on this host with its first endpoint. */
export async function dryRun(context: Context, spec: NetworkSpec): Promise<Plan> {
  const asked = withoutNullPool(context, spec);
  const { plan, presence } = await planned(context, {
    ...asked,
    ...(await agreement(context, asked, 'look')),
  });
  return [...plan, ...presence];
}

/** @throws what the driver says against it. */
async function planned(
  context: Context,
  spec: NetworkSpec,
): Promise<
  Pick<NetworkRecord, 'plan' | 'found'> & { readonly warnings: readonly string[]; readonly presence: Plan }
> {
  const facts = await context.kernel.facts({ firewall: false, sysctls: [IPV6_DISABLED] });
  const driver = driverOf(context, spec.driver);
  const plan = driver.network(spec, facts, context.records.networks());
  const found = driver.found?.(spec, facts);
  const { warnings = [] } = driver.appearance?.(spec, facts) ?? {};
  const presence = driver.presence?.(spec, facts, context.host()) ?? [];
  return { plan, ...(found && { found }), warnings, presence };
}

/** Docker's deletes take the endpoints with them: it has forgotten them, and ignores an error (libnetwork.md §0.2). */
export function deleteNetwork(context: Context, id: NetworkId): Promise<void> {
  return context.queues.run(id, async () => {
    const network = context.records.network(id);
    if (network === undefined) return;
    const endpoints = context.records.endpoints(id);
    if (network.origin === 'cnm' && endpoints.length > 0) {
      const names = endpoints.map((endpoint) => endpoint.name ?? endpoint.id.slice(0, 12)).join(', ');
      throw new CnmError(
        'network-busy',
        `Network ${network.name ?? id} has active endpoints (${names}); remove them first`,
      );
    }
    await dismantleNetwork(context, network);
    context.log.info({ network: id.slice(0, 12) }, 'network deleted');
  });
}

/** To be called in the network's queue. Brings a record of any state to nothing. */
export async function dismantleNetwork(context: Context, network: NetworkRecord): Promise<void> {
  for (const endpoint of context.records.endpoints(network.id)) await dismantleEndpoint(context, endpoint);
  await context.leases?.giveBackAll(network.id);
  const left = context.records.network(network.id) ?? network;
  if (left.state !== 'removing') await context.records.putNetwork({ ...left, state: 'removing' });
  await dismantlePresence(context, { ...left, state: 'removing' });
  await sharing(context, network.plan, async () => {
    const own = ownSteps(context, network.id, network.plan);
    await revert(context, `delete network ${network.id.slice(0, 12)}`, own);
    await context.records.dropNetwork(network.id);
  });
  disagree(context, network);
}

/** With the other hosts that have the network. @throws CnmError */
async function agreement(
  context: Context,
  spec: NetworkSpec,
  how: 'join' | 'look',
): Promise<Pick<NetworkSpec, 'agreement'>> {
  const terms = driverOf(context, spec.driver).sharing?.terms(spec);
  if (terms === undefined || context.control === undefined) return {};
  return { agreement: await context.control.agree(terms, how) };
}

/** The other hosts are told that this one does not have the network, unless another of its networks is the same there. */
function disagree({ records, control }: Context, { agreement }: Pick<NetworkSpec, 'agreement'>): void {
  if (agreement === undefined) return;
  if (!records.networks().some((other) => other.agreement?.id === agreement.id)) control?.leave(agreement);
}

/** Stores the record before the next network is planned, so that the next one sees its bridge name and subnets. */
async function planNetwork(context: Context, spec: NetworkSpec): Promise<NetworkRecord> {
  const { warnings, plan, found } = await planned(context, spec);
  for (const warning of warnings) context.log.warn({ network: spec.id.slice(0, 12) }, warning);
  const createdAt = context.now().toISOString();
  const record: NetworkRecord = { ...spec, plan, ...(found && { found }), state: 'applying', createdAt };
  await context.records.putNetwork(record);
  return record;
}

async function establishNetwork(context: Context, record: NetworkRecord): Promise<void> {
  const { id, plan } = record;
  await sharing(context, plan, async () => {
    try {
      await apply(context, `create network ${id.slice(0, 12)}`, plan);
      await context.records.putNetwork({ ...record, state: 'ready' });
    } catch (error) {
      const own = ownSteps(context, id, plan);
      await abandon(context, `network ${id}`, own, () => context.records.dropNetwork(id));
      throw error;
    }
  });
  context.log.info({ network: record.id.slice(0, 12), driver: record.driver }, 'network created');
  context.log.debug(
    { network: record.id.slice(0, 12), plan: record.plan.map(describe) },
    'the plan of the network',
  );
}

function assertSame(known: NetworkRecord, spec: NetworkSpec): void {
  for (const field of Object.keys(spec) as (keyof NetworkSpec)[]) {
    // The name is Docker's to tell later; it does not make another network.
    if (field === 'name' || isDeepStrictEqual(known[field], spec[field])) continue;
    const [had, wanted] = [JSON.stringify(known[field]), JSON.stringify(spec[field])];
    throw new CnmError(
      'network-conflict',
      `Network ${spec.id} exists already with ${field} ${had}; asked for ${wanted}`,
    );
  }
}
