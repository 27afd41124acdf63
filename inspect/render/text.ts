/** Words that all drawings share. Pure. */
import type { LinkView, Named, SubnetView } from '../views.ts';

/** How text is coloured; the identity where the output is no terminal. */
export interface Paint {
  bold(text: string): string;
  dim(text: string): string;
  red(text: string): string;
  green(text: string): string;
  yellow(text: string): string;
}

const same = (text: string) => text;
export const PLAIN: Paint = { bold: same, dim: same, red: same, green: same, yellow: same };

/** The twelve digits by which Docker shows ids, too. */
export function short(id: string): string {
  return id.slice(0, 12);
}

export function called(object: Named): string {
  return object.name ?? short(object.id);
}

/**
 * Names of Docker's networks and containers are others' text: what would move a terminal's cursor is shown as an escape.
 */
export function printable(text: string): string {
  return text.replace(/[\u0000-\u001f\u007f-\u009f]/g, (char) => {
    return `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`;
  });
}

/** One link in one line, as `ip -br` has it with what matters added. */
export function linkLine(link: LinkView): string {
  const state = !link.up ? 'down' : link.carrier ? 'up' : 'up, no carrier';
  const mac = link.mac === undefined ? [] : [`mac ${link.mac}`];
  return [link.name, state, `mtu ${link.mtu}`, ...mac, ...link.addresses].join('  ');
}

export function subnetLine({ pool, gateway, range, aux }: SubnetView): string {
  const parts: string[] = [pool];
  if (gateway !== undefined) parts.push(`gateway ${withoutLength(gateway)}`);
  if (range !== undefined) parts.push(`range ${range}`);
  for (const [key, address] of Object.entries(aux)) parts.push(`${key}=${withoutLength(address)}`);
  return parts.join('  ');
}

function withoutLength(prefix: string): string {
  return prefix.replace(/\/\d+$/, '');
}
