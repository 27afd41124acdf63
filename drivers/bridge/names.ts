/** Names of the links that the bridge driver makes: at most 15 bytes (IFNAMSIZ - 1), the same for the same id. */
import { shortOf } from '../../cnm/short-name.ts';

/** `cnm` and the 12 digits by which Docker shows the network's id. */
export function bridgeNameOf(networkId: string): string {
  return `cnm${networkId.slice(0, 12)}`;
}

/** Of the device that what comes from the container is led through, where that is limited. */
export function ifbNameOf(endpointId: string): string {
  return `ifb${shortOf(endpointId)}`;
}

/** `cnmg` and the same of the network's id; packets go `i`n at one end and come `o`ut at the other. */
export function gateNamesOf(networkId: string): { readonly entrance: string; readonly exit: string } {
  const stem = `cnmg${shortOf(networkId)}`;
  return { entrance: `${stem}i`, exit: `${stem}o` };
}
