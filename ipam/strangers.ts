/**
 * Subnets of Docker's other networks. Most have a route on the host, but not all: a macvlan's has none, and a bridge's is
 * gone while its driver is. Docker's list must not be asked for while a request of Docker's waits for us, so it is that of
 * the last look (daemon/upkeep.ts).
 */
import { lengthOf, networkOf } from '../address/prefix.ts';
import type { Prefix } from '../address/prefix.ts';
import type { EngineNetwork } from '../cnm/cnm.ts';
import type { Ipam } from './ipam.ts';

export interface Strangers {
  look(listed: readonly EngineNetwork[]): void;
  prefixes(): readonly Prefix[];
}

export function createStrangers(ipam: () => Pick<Ipam, 'pools'>): Strangers {
  let known: readonly Prefix[] = [];
  return {
    look(listed) {
      // Our own pools are known anyway, and free the moment they are released.
      const ours = new Set(
        ipam()
          .pools()
          .map(({ pool }) => pool),
      );
      const subnets = listed.flatMap(({ subnets = [] }) => subnets.map(({ pool }) => networkOf(pool)));
      // Docker's null IPAM says of a network that it has all addresses (libnetwork.md section 0.1).
      known = [...new Set(subnets)].filter((pool) => !ours.has(pool) && lengthOf(pool) > 0);
    },
    prefixes: () => known,
  };
}
