/** Names of what the overlay driver makes: of links at most 15 bytes (IFNAMSIZ - 1), the same for the same id. */
import { createHash } from 'node:crypto';
import type { Ip } from '../../address/ip.ts';
import { type Mac, macFromSeed } from '../../address/mac.ts';

/** Of the file that holds the network's namespace, in the folder for ours: the 12 digits are those by which Docker shows the id. */
export function netnsNameOf(networkId: string): string {
  return `ov-${networkId.slice(0, 12)}`;
}

/** The bridge and the tunnel of a segment, counted from 0: in a namespace of their own they clash with nobody. */
export function segmentNamesOf(number: number): { readonly bridge: string; readonly tunnel: string } {
  return { bridge: `br${number}`, tunnel: `vx${number}` };
}

/** The two ends of an endpoint's veth pair: `h` stays in the network's namespace, `c` goes into the container. */
export function vethNamesOf(endpointId: string): { readonly host: string; readonly container: string } {
  const digest = createHash('sha256').update(endpointId).digest('hex');
  // Ten characters of the whole id's hash, 50 bits: ids that begin alike differ.
  const short = BigInt(`0x${digest.slice(0, 14)}`)
    .toString(36)
    .padStart(10, '0')
    .slice(-10);
  return { host: `veth${short}h`, container: `veth${short}c` };
}

/** Each host's router has a MAC of its own: an answer to one must not end at another. Other hosts find it out by this as well (check/). */
export function bridgeMac(local: Ip, vni: number, bridge: string): Mac {
  return macFromSeed(`${local} ${vni} ${bridge}`);
}
