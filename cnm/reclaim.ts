/**
 * What Docker has forgotten. Docker replays nothing and, after a crash or a lost connection, forgets networks and
 * endpoints without telling their driver (libnetwork.md §0, §7). So we compare with Docker's own list, never inside a
 * handler, and remove only what all of these agree on: it came from Docker, it is old enough not to be in the middle of
 * its creation, Docker did not list it twice in a row, and no living sandbox holds its link.
 */
import type { Kernel } from '../kernel/kernel.ts';
import type { Cnm, EngineNetwork, EngineView } from './cnm.ts';
import { isHeld, whereabouts } from './holder.ts';
import type { Log } from './log.ts';
import type { EndpointRecord, NetworkRecord } from './model.ts';

export interface ReclaimOptions {
  readonly cnm: Cnm;
  readonly kernel: Kernel;
  readonly view: EngineView;
  readonly log: Log;
  /** Milliseconds that a record must have existed before it can count as forgotten. Default 15 s, more than a slow start takes between our reply and Docker's listing. */
  readonly minimumAge?: number;
  /** Milliseconds between the two looks. Default 5 s. */
  readonly interval?: number;
  readonly now?: () => number;
}

export interface Reclaimer {
  /** One look. Returns what was removed by it; undefined when Docker did not answer. */
  look(): Promise<readonly string[] | undefined>;
}

export function createReclaimer(options: ReclaimOptions): Reclaimer {
  const { cnm, view, log, minimumAge = 15_000, interval = 5_000, now = Date.now } = options;
  /** Since when each record has been missing from Docker's list. */
  let missingSince = new Map<string, number>();

  return {
    async look() {
      const listed = await view.networks();
      if (listed === undefined) return undefined;
      const forgotten = candidates(cnm, listed, now() - minimumAge);
      const before = missingSince;
      missingSince = new Map(forgotten.map((one) => [one.key, before.get(one.key) ?? now()]));
      const due = forgotten.filter((one) => now() - (before.get(one.key) ?? now()) >= interval);
      const removed: string[] = [];
      for (const one of await notHeld(options.kernel, due)) {
        await one.remove();
        log.warn({ object: one.key }, 'removed: Docker has forgotten it');
        removed.push(one.key);
      }
      return removed;
    },
  };
}

interface Candidate {
  readonly key: string;
  /** The endpoints that go with it. */
  readonly endpoints: readonly EndpointRecord[];
  readonly remove: () => Promise<void>;
}

function candidates(cnm: Cnm, listed: readonly EngineNetwork[], olderThan: number): readonly Candidate[] {
  const byId = new Map(listed.map((network) => [network.id, network]));
  const old = (record: { readonly createdAt: string }) => Date.parse(record.createdAt) <= olderThan;
  return cnm
    .networks()
    .filter((network) => network.origin === 'docker' && old(network))
    .flatMap((network) => ofNetwork(cnm, network, byId.get(network.id)))
    .filter((candidate) => candidate.endpoints.every(old));
}

function ofNetwork(
  cnm: Cnm,
  network: NetworkRecord,
  listed: EngineNetwork | undefined,
): readonly Candidate[] {
  const endpoints = cnm.endpoints(network.id);
  if (listed === undefined) {
    return [{ key: `network ${network.id}`, endpoints, remove: () => cnm.deleteNetwork(network.id) }];
  }
  const alive = new Set(listed.endpoints.map((endpoint) => endpoint.id));
  return endpoints
    .filter((endpoint) => !alive.has(endpoint.id))
    .map((endpoint) => ({
      key: `endpoint ${endpoint.id}`,
      endpoints: [endpoint],
      remove: () => cnm.deleteEndpoint(network.id, endpoint.id),
    }));
}

/** Those with no endpoint whose link is in a living sandbox. */
async function notHeld(kernel: Kernel, due: readonly Candidate[]): Promise<readonly Candidate[]> {
  if (due.length === 0) return [];
  const netns = whereabouts(due.flatMap(({ endpoints }) => endpoints));
  const facts = await kernel.facts({ firewall: false, netns });
  return due.filter(({ endpoints }) => !endpoints.some((endpoint) => isHeld(endpoint, facts)));
}
