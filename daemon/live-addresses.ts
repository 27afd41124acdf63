/** Which addresses interfaces bear now, on the host and in containers: whoever has one is alive, whatever the lists say. */
import type { Ip } from '../address/ip.ts';
import { addressOf } from '../address/prefix.ts';
import type { Facts } from '../kernel/facts.ts';

/** @param facts of the host and of all namespaces that a container may live in. */
export function liveAddresses({ host, netns }: Pick<Facts, 'host' | 'netns'>): ReadonlySet<Ip> {
  return new Set(
    [host, ...netns.values()].flatMap(({ addresses }) => addresses.map(({ prefix }) => addressOf(prefix))),
  );
}
