/** Names of what the overlay driver makes: of links at most 15 bytes (IFNAMSIZ - 1), the same for the same id. */
import type { Ip } from '../../address/ip.ts';
import { type Mac, macFromSeed } from '../../address/mac.ts';
import { shortOf } from '../../cnm/short-name.ts';

/** Of the file that holds the network's namespace, in the folder for ours: the 12 digits are those by which Docker shows the id. */
export function netnsNameOf(networkId: string): string {
  return `ov-${networkId.slice(0, 12)}`;
}

/** The bridge and the tunnel of a segment, counted from 0: in a namespace of their own they clash with nobody. */
export function segmentNamesOf(number: number): { readonly bridge: string; readonly tunnel: string } {
  return { bridge: `br${number}`, tunnel: `vx${number}` };
}

/** The end of the uplink in the network's namespace. */
export const UPLINK = 'up0';

/** The other end, in the host's: `cnmu` and ten characters of the network's id. */
export function uplinkNameOf(networkId: string): string {
  return `cnmu${shortOf(networkId)}`;
}

/** Each host's router has a MAC of its own: an answer to one must not end at another. Other hosts find it out by this as well (check/). */
export function bridgeMac(local: Ip, vni: number, bridge: string): Mac {
  return macFromSeed(`${local} ${vni} ${bridge}`);
}
