/** Domain names as keys, as text, and as addresses that are asked for in reverse. Pure. */
import { type Ip, familyOf, ipBytes, ipFromBytes } from '../address/ip.ts';

/**
 * A name as it stands on the wire (RFC 1035 section 3.1): labels with their lengths, in lower case, without the root's closing zero;
 * one latin1 character for each byte. `web.demo` is `\x03web\x04demo`. Names that compare equal have the same key (RFC 4343),
 * and a label that contains a dot is not two labels.
 */
export type NameKey = string;

const LABEL_MAX = 63;
/** RFC 1035 section 3.1: 255 bytes with the root's. */
const NAME_MAX = 254;

/** What no name of ours may contain: such text comes from a slip of the pen, and would break lines and lists that show it. */
const UNFIT = /[\u0000-\u0020\u007f-\u00a0,;"\\]/;

/** The key of a name as people write it, with or without the closing dot. Undefined when it cannot be a name. */
export function nameKey(text: string): NameKey | undefined {
  const bare = text.endsWith('.') ? text.slice(0, -1) : text;
  if (UNFIT.test(bare)) return undefined;
  let key = '';
  for (const label of bare.split('.')) {
    const bytes = Buffer.from(label, 'utf8');
    if (bytes.length === 0 || bytes.length > LABEL_MAX) return undefined;
    key += String.fromCharCode(bytes.length) + lowerCase(bytes.toString('latin1'));
  }
  return key.length > NAME_MAX ? undefined : key;
}

/** As nameKey, for text that is known to be a name. @throws Error when it is none. */
export function keyOf(text: string): NameKey {
  const key = nameKey(text);
  if (key === undefined) throw new Error(`${JSON.stringify(text)} is not a domain name`);
  return key;
}

/** ASCII letters alone (RFC 4343 section 3): other bytes are compared as they are. */
function lowerCase(latin1: string): string {
  return latin1.replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

/** For people: without the closing dot; bytes that are no printable ASCII as \DDD (RFC 4343 section 2.1). The root is `.`. */
export function nameText(key: NameKey): string {
  return key === '' ? '.' : labelsOf(key).map(labelText).join('.');
}

function labelText(label: string): string {
  return label.replace(/[^!-~]|[."\\;]/g, (one) => {
    const code = one.charCodeAt(0);
    return code > 0x20 && code < 0x7f ? `\\${one}` : `\\${String(code).padStart(3, '0')}`;
  });
}

/** Without their lengths. */
export function labelsOf(key: NameKey): readonly string[] {
  const labels: string[] = [];
  for (let at = 0; at < key.length; at += 1 + key.charCodeAt(at)) {
    labels.push(key.slice(at + 1, at + 1 + key.charCodeAt(at)));
  }
  return labels;
}

/** The name with its first label taken off; the root's parent is the root. */
export function parentOf(key: NameKey): NameKey {
  return key.slice(1 + key.charCodeAt(0) || key.length);
}

/** How a name is written into a message. */
export function keyBytes(key: NameKey): Buffer {
  return Buffer.from(`${key}\0`, 'latin1');
}

const IPV4_REVERSE = keyOf('in-addr.arpa');
const IPV6_REVERSE = keyOf('ip6.arpa');

/** RFC 1035 section 3.5, RFC 3596 section 2.5. */
export function reverseKey(address: Ip): NameKey {
  const bytes = [...ipBytes(address)];
  if (familyOf(address) === 4) return keyOf(`${bytes.reverse().join('.')}.in-addr.arpa`);
  const nibbles = bytes.flatMap((byte) => [byte >> 4, byte & 15]).map((nibble) => nibble.toString(16));
  return keyOf(`${nibbles.reverse().join('.')}.ip6.arpa`);
}

/** The address that a whole reverse name stands for; undefined for every other name. */
export function reversedAddress(key: NameKey): Ip | undefined {
  if (key.endsWith(IPV4_REVERSE)) return fromLabels(key, IPV4_REVERSE, 4);
  if (key.endsWith(IPV6_REVERSE)) return fromLabels(key, IPV6_REVERSE, 32);
  return undefined;
}

function fromLabels(key: NameKey, zone: NameKey, count: 4 | 32): Ip | undefined {
  const labels = labelsOf(key);
  if (labels.length !== count + 2 || !key.endsWith(zone)) return undefined;
  const digits = labels.slice(0, count).reverse();
  const shape = count === 4 ? /^(?:0|[1-9]\d?|1\d\d|2[0-4]\d|25[0-5])$/ : /^[0-9a-f]$/;
  if (!digits.every((digit) => shape.test(digit))) return undefined;
  return ipFromBytes(count === 4 ? Uint8Array.from(digits, Number) : Buffer.from(digits.join(''), 'hex'));
}
