/** Names of links, or pieces of them, that follow from an id: at most 15 bytes has the whole (IFNAMSIZ - 1). */
import { createHash } from 'node:crypto';

/** Ten characters of a hash of the whole id (50 bits, so that ids which begin alike differ); the same for the same id. */
export function shortOf(id: string): string {
  const digest = createHash('sha256').update(id).digest('hex');
  return BigInt(`0x${digest.slice(0, 14)}`)
    .toString(36)
    .padStart(10, '0')
    .slice(-10);
}

/** The two ends of an endpoint's veth pair: `h` stays with the host or the network, `c` goes into the container. */
export function vethNamesOf(endpointId: string): { readonly host: string; readonly container: string } {
  const stem = `veth${shortOf(endpointId)}`;
  return { host: `${stem}h`, container: `${stem}c` };
}
