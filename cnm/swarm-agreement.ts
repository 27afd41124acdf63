/**
 * What Swarm says once may be lost: nodes that were there before this plugin was installed are never told of, nor those that went while it
 * did not run, and a manager that does not lead hears of no network's end (libnetwork.md §3.1). So what is known is compared with what the
 * Engine lists: who gossips about a network with it (`Peers`), and which networks there are.
 */
import type { Ip } from '../address/ip.ts';
import type { Cnm, EngineNetwork } from './cnm.ts';
import type { Log } from './log.ts';

export interface SwarmAgreementOptions {
  readonly cnm: Pick<Cnm, 'nodes' | 'addNode' | 'removeNode' | 'allocations' | 'freeNetwork'>;
  readonly log: Log;
  /** Milliseconds for which the Engine must not have listed what is forgotten. */
  readonly interval: number;
  /** Milliseconds that an allocation must be old: Swarm's managers allocate before they list. */
  readonly minimumAge: number;
  readonly now?: () => number;
}

export interface SwarmAgreement {
  /** One look, with the Engine's list of this moment. */
  look(listed: readonly EngineNetwork[]): Promise<void>;
}

export function createSwarmAgreement(options: SwarmAgreementOptions): SwarmAgreement {
  const { cnm, log, interval, minimumAge, now = Date.now } = options;
  let missingSince = new Map<string, number>();
  return {
    async look(listed) {
      for (const address of unknownPeers(cnm, listed)) {
        await cnm.addNode({ address, self: false });
        log.info({ node: address }, 'a node of the swarm, known from the Engine’s list');
      }
      const gone = [...goneNodes(cnm, listed), ...goneAllocations(cnm, listed, now() - minimumAge)];
      const before = missingSince;
      missingSince = new Map(gone.map(({ key }) => [key, before.get(key) ?? now()]));
      for (const { key, forget } of gone) {
        if (now() - (before.get(key) ?? now()) < interval) continue;
        await forget();
        log.warn({ object: key }, 'forgotten: the swarm has it no more');
      }
    },
  };
}

interface Gone {
  readonly key: string;
  readonly forget: () => Promise<void>;
}

function unknownPeers(cnm: SwarmAgreementOptions['cnm'], listed: readonly EngineNetwork[]): readonly Ip[] {
  const known = new Set(cnm.nodes().map(({ address }) => address));
  const peers = new Set(listed.flatMap((network) => network.peers ?? []));
  return [...peers].filter((peer) => !known.has(peer));
}

/** Every node is on the ingress network, and only there. Where there is none, nobody can be said to be gone. */
function goneNodes(cnm: SwarmAgreementOptions['cnm'], listed: readonly EngineNetwork[]): readonly Gone[] {
  const here = new Set(listed.flatMap(({ ingress = false, peers = [] }) => (ingress ? peers : [])));
  if (here.size === 0) return [];
  return cnm
    .nodes()
    .filter(({ address, self }) => !self && !here.has(address))
    .map(({ address }) => ({ key: `node ${address}`, forget: () => cnm.removeNode(address) }));
}

function goneAllocations(
  cnm: SwarmAgreementOptions['cnm'],
  listed: readonly EngineNetwork[],
  olderThan: number,
): readonly Gone[] {
  const alive = new Set(listed.map(({ id }) => id));
  return cnm
    .allocations()
    .filter(({ id, createdAt }) => !alive.has(id) && Date.parse(createdAt) <= olderThan)
    .map(({ id }) => ({ key: `allocation ${id}`, forget: () => cnm.freeNetwork(id) }));
}
