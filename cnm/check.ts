/** The active self-test of a network: what its driver finds in the facts, and what comes of frames that it has sent. Nothing of it stays. */
import type { Ip } from '../address/ip.ts';
import { apply, type Context, driverOf, networkOf, revert } from './context.ts';
import type { Finding, Questions } from './driver.ts';
import type { NetworkId } from './model.ts';

/** Long enough for a host that sleeps, or that has a bridge in its way which just learns. */
const PATIENCE_MS = 2000;

/**
 * @param targets Addresses to ask for, besides those that the driver thinks of.
 * @returns Nothing where the driver has no test.
 */
export async function checkNetwork(
  context: Context,
  id: NetworkId,
  targets: readonly Ip[],
): Promise<readonly Finding[]> {
  const { driver } = networkOf(context, id);
  return context.queues.run(`${id} check`, async () => {
    const facts = await context.kernel.facts({ firewall: false });
    const network = networkOf(context, id);
    const check = driverOf(context, driver).check?.(network, facts, context.host(), targets);
    if (check === undefined) return [];
    const { findings, questions } = check;
    return questions === undefined ? findings : [...findings, ...(await ask(context, id, questions))];
  });
}

async function ask(context: Context, id: NetworkId, questions: Questions): Promise<readonly Finding[]> {
  const { plan, askers, addresses } = questions;
  context.checks.add(plan);
  try {
    await apply(context, `check network ${id.slice(0, 12)}`, plan);
    return questions.judge(await context.kernel.askNeighbours(askers, addresses, PATIENCE_MS));
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return [{ what: 'test', result: 'failed', detail: error.message }];
  } finally {
    await revert(context, `check network ${id.slice(0, 12)}`, plan).finally(() =>
      context.checks.delete(plan),
    );
  }
}
