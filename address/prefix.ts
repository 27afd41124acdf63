/**
 * An address with a prefix length (CIDR, RFC 4632 §3.1). Host bits may be set: that is how an interface's address is
 * written. `networkOf` clears them. Like an `Ip`, a `Prefix` is its own canonical text.
 */
import { familyOf, ipFromValue, ipValue, parseIp } from './ip.ts';
import type { Ip } from './ip.ts';
import { formatIpv4, ipv4Number } from './ipv4.ts';

export type Prefix = string & { readonly __brand: 'Prefix' };

const LENGTH = /^(?:0|[1-9][0-9]{0,2})$/;

/** The prefix, or undefined: the length is needed and has no leading zeros; netmasks are not read. */
export function parsePrefix(text: string): Prefix | undefined {
  const slash = text.indexOf('/');
  if (slash < 0) return undefined;
  const address = parseIp(text.slice(0, slash));
  const length = text.slice(slash + 1);
  if (address === undefined || !LENGTH.test(length) || Number(length) > bitsOf(address)) return undefined;
  return `${address}/${length}` as Prefix;
}

/** @throws RangeError when `text` is not a prefix. */
export function prefix(text: string): Prefix {
  const parsed = parsePrefix(text);
  if (parsed === undefined) {
    throw new RangeError(
      `${JSON.stringify(text)} is not an address with a prefix length: write it as 192.0.2.0/24 or 2001:db8::/64`,
    );
  }
  return parsed;
}

/** @throws RangeError when the address has fewer bits than `length`. */
export function prefixOf(address: Ip, length: number): Prefix {
  const bits = bitsOf(address);
  if (!Number.isInteger(length) || length < 0 || length > bits) {
    throw new RangeError(`${length} is not a prefix length of ${address}: it must be from 0 to ${bits}`);
  }
  return `${address}/${length}` as Prefix;
}

export function addressOf(p: Prefix): Ip {
  return p.slice(0, p.indexOf('/')) as Ip;
}

export function lengthOf(p: Prefix): number {
  return Number(p.slice(p.indexOf('/') + 1));
}

export function familyOfPrefix(p: Prefix): 4 | 6 {
  return p.includes(':') ? 6 : 4;
}

/** The same prefix with its host bits zero. */
export function networkOf(p: Prefix): Prefix {
  return prefixOf(firstOf(p), lengthOf(p));
}

export function hasHostBits(p: Prefix): boolean {
  return firstOf(p) !== addressOf(p);
}

/** False when the families differ. */
export function contains(p: Prefix, address: Ip): boolean {
  const family = familyOfPrefix(p);
  if (family !== familyOf(address)) return false;
  const length = lengthOf(p);
  if (family === 4) {
    const difference = ipv4Number(addressOf(p)) ^ ipv4Number(address);
    return (difference & ipv4Mask(length)) === 0;
  }
  const hostBits = BigInt(128 - length);
  return (ipValue(addressOf(p)) ^ ipValue(address)) >> hostBits === 0n;
}

/** Whether every address of `inner` is in `outer`. */
export function covers(outer: Prefix, inner: Prefix): boolean {
  return lengthOf(outer) <= lengthOf(inner) && contains(outer, addressOf(inner));
}

/** Whether some address is in both: then one covers the other. */
export function overlaps(a: Prefix, b: Prefix): boolean {
  return lengthOf(a) <= lengthOf(b) ? contains(a, addressOf(b)) : contains(b, addressOf(a));
}

/** The lowest address: the network address, and IPv6's subnet-router anycast (RFC 4291 §2.6.1). */
export function firstOf(p: Prefix): Ip {
  const address = addressOf(p);
  if (familyOfPrefix(p) === 4) return formatIpv4(ipv4Number(address) & ipv4Mask(lengthOf(p))) as Ip;
  const hostBits = BigInt(128 - lengthOf(p));
  return ipFromValue(6, (ipValue(address) >> hostBits) << hostBits);
}

/** The highest address. */
export function lastOf(p: Prefix): Ip {
  const address = addressOf(p);
  if (familyOfPrefix(p) === 4) return formatIpv4(ipv4Number(address) | ~ipv4Mask(lengthOf(p))) as Ip;
  return ipFromValue(6, ipValue(address) | ((1n << BigInt(128 - lengthOf(p))) - 1n));
}

/** How many addresses it has, with those that no host may bear. */
export function sizeOf(p: Prefix): bigint {
  return 1n << BigInt(bitsOf(addressOf(p)) - lengthOf(p));
}

/** The directed broadcast address; a /31 (RFC 3021), a /32 and IPv6 have none. */
export function broadcastOf(p: Prefix): Ip | undefined {
  return familyOfPrefix(p) === 4 && lengthOf(p) <= 30 ? lastOf(p) : undefined;
}

/** Whether the address, or every address of the prefix, is a multicast one (RFC 5771 §3, RFC 4291 §2.7). */
export function isMulticast(value: Ip | Prefix): boolean {
  const whole = value.includes('/') ? (value as Prefix) : prefixOf(value as Ip, bitsOf(value as Ip));
  return covers((familyOfPrefix(whole) === 4 ? '224.0.0.0/4' : 'ff00::/8') as Prefix, whole);
}

function bitsOf(address: Ip): 32 | 128 {
  return familyOf(address) === 4 ? 32 : 128;
}

/** A shift by 32 is a shift by 0 in JavaScript, so /0 is told apart. */
function ipv4Mask(length: number): number {
  return length === 0 ? 0 : -1 << (32 - length);
}
