/** The endpoint that has a port which another one wants: whether it still lives, and whose it is. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Context } from './context.ts';
import { isAlive } from './endpoints.ts';
import type { EndpointRecord } from './model.ts';
import type { PortTaken } from './ports.ts';

/** How long the kernel may take to free a network namespace that Docker has given up, with the links in it. */
const TEARDOWN_MS = 3000;
const LOOK_MS = 50;

/**
 * An endpoint that Docker has forgotten in a crash of its own, without telling us (libnetwork.md §7): its container's namespace is
 * gone, and its link with it. A namespace that is given up already and not yet freed is waited for.
 */
export async function isLost(context: Context, endpoint: EndpointRecord): Promise<boolean> {
  if (endpoint.attachment?.kind === 'cnm') return false;
  const deadline = performance.now() + TEARDOWN_MS;
  while (await isAlive(context, endpoint)) {
    if (performance.now() > deadline || (await hasSandbox(context, endpoint))) return false;
    await sleep(LOOK_MS);
  }
  return true;
}

/** Docker removes the file of a namespace before the kernel frees what was in it. */
async function hasSandbox({ kernel }: Context, { attachment }: EndpointRecord): Promise<boolean> {
  if (attachment === undefined) return false;
  const { netns } = await kernel.facts({ netns: [attachment.key], firewall: false });
  return netns.has(attachment.key);
}

/** How long Docker may take to name a container. */
const NAMES_MS = 1000;

/** Asked for the words of an error alone, and never waited for long: Docker waits for us meanwhile. */
export async function named(
  { engine }: Context,
  error: PortTaken,
  { id }: EndpointRecord,
): Promise<PortTaken> {
  const late = sleep(NAMES_MS, undefined, { ref: false });
  const listed = (await Promise.race([engine?.networks(), late])) ?? [];
  const found = listed.flatMap(({ endpoints }) => endpoints).find((one) => one.id === id);
  return found === undefined ? error : error.ofContainer(found.container);
}
