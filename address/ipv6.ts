/** IPv6 text as an unsigned 128-bit bigint and back: read per RFC 4291 §2.2, written per RFC 5952. */
import { formatIpv4, parseIpv4 } from './ipv4.ts';

const HEXTET = /^[0-9a-f]{1,4}$/i;

/** Any form of RFC 4291 §2.2. A zone (`%eth0`) is no part of an address and is refused. */
export function parseIpv6(text: string): bigint | undefined {
  const plain = withoutDottedTail(text);
  if (plain === undefined) return undefined;
  const gap = plain.indexOf('::');
  const head = hextets(gap < 0 ? plain : plain.slice(0, gap));
  const tail = hextets(gap < 0 ? '' : plain.slice(gap + 2));
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  // '::' stands for one or more groups (RFC 4291 §2.2); a second '::' shows as an empty group in `tail`.
  if (gap < 0 ? missing !== 0 : missing < 1) return undefined;
  const groups = [...head, ...new Array<string>(missing).fill('0'), ...tail];
  return BigInt('0x' + groups.map((group) => group.padStart(4, '0')).join(''));
}

/** `::ffff:1.2.3.4` as `::ffff:102:304`; the dotted part may only be the last 32 bits. */
function withoutDottedTail(text: string): string | undefined {
  if (text.length > 45) return undefined;
  if (!text.includes('.')) return text;
  const colon = text.lastIndexOf(':');
  const value = parseIpv4(text.slice(colon + 1));
  if (colon < 0 || value === undefined) return undefined;
  return `${text.slice(0, colon + 1)}${(value >>> 16).toString(16)}:${(value & 0xffff).toString(16)}`;
}

function hextets(text: string): string[] | undefined {
  if (text === '') return [];
  const groups = text.split(':');
  return groups.every((group) => HEXTET.test(group)) ? groups : undefined;
}

/**
 * RFC 5952: lower case, no leading zeros, '::' for the longest run of two or more zero groups (the first of equals).
 * Mapped addresses keep the dotted tail (§5), as inet_ntop(3) and so `ip addr` print them.
 */
export function formatIpv6(value: bigint): string {
  if (value >> 32n === 0xffffn) return `::ffff:${formatIpv4(Number(value & 0xffffffffn))}`;
  const hex = value.toString(16).padStart(32, '0');
  const groups = Array.from({ length: 8 }, (_, i) => parseInt(hex.slice(4 * i, 4 * i + 4), 16).toString(16));
  const { start, length } = longestZeroRun(groups);
  if (length < 2) return groups.join(':');
  return `${groups.slice(0, start).join(':')}::${groups.slice(start + length).join(':')}`;
}

function longestZeroRun(groups: readonly string[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  let start = 0;
  groups.forEach((group, i) => {
    if (group !== '0') start = i + 1;
    else if (i + 1 - start > best.length) best = { start, length: i + 1 - start };
  });
  return best;
}
