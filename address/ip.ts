/**
 * IP addresses as values. An `Ip` is its own canonical text (dotted decimal, or RFC 5952), so that `===`, a Map's key and
 * JSON all mean the same address whatever text it was read from. An IPv4-mapped IPv6 address stays an IPv6 address.
 */
import { formatIpv4, ipv4Number, parseIpv4 } from './ipv4.ts';
import { formatIpv6, parseIpv6 } from './ipv6.ts';

export type Ip = string & { readonly __brand: 'Ip' };

/** The address, or undefined for anything that is not exactly one: spaces, leading zeros, zones, prefix lengths. */
export function parseIp(text: string): Ip | undefined {
  // Strict dotted decimal has one spelling only, so the text is canonical already.
  if (parseIpv4(text) !== undefined) return text as Ip;
  const value = parseIpv6(text);
  return value === undefined ? undefined : (formatIpv6(value) as Ip);
}

/** @throws RangeError when `text` is not an address. */
export function ip(text: string): Ip {
  const parsed = parseIp(text);
  if (parsed === undefined) {
    throw new RangeError(
      `${JSON.stringify(text)} is not an IP address: write it as 192.0.2.1 (no leading zeros) or 2001:db8::1 (no zone)`,
    );
  }
  return parsed;
}

export function familyOf(address: Ip): 4 | 6 {
  return address.includes(':') ? 6 : 4;
}

/** The address as an unsigned number of 32 or 128 bits. */
export function ipValue(address: Ip): bigint {
  if (familyOf(address) === 4) return BigInt(ipv4Number(address));
  const value = parseIpv6(address);
  if (value === undefined) throw new RangeError(`${JSON.stringify(address)} is not a canonical IP address`);
  return value;
}

/** @throws RangeError when `value` does not fit the family. */
export function ipFromValue(family: 4 | 6, value: bigint): Ip {
  const bits = family === 4 ? 32n : 128n;
  if (value < 0n || value >> bits !== 0n) {
    throw new RangeError(
      `${value.toString()} is not an IPv${family} address: it must be from 0 to 2^${bits.toString()} - 1`,
    );
  }
  return (family === 4 ? formatIpv4(Number(value)) : formatIpv6(value)) as Ip;
}

/** Network byte order: 4 or 16 bytes. */
export function ipBytes(address: Ip): Uint8Array {
  const family = familyOf(address);
  const hex = ipValue(address)
    .toString(16)
    .padStart(family === 4 ? 8 : 32, '0');
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}

/** @throws RangeError unless there are 4 or 16 bytes. */
export function ipFromBytes(bytes: Uint8Array): Ip {
  if (bytes.length !== 4 && bytes.length !== 16) {
    throw new RangeError(`${bytes.length} bytes are not an IP address: IPv4 has 4 and IPv6 has 16`);
  }
  return ipFromValue(bytes.length === 4 ? 4 : 6, BigInt('0x' + Buffer.from(bytes).toString('hex')));
}

/** For sort(): IPv4 before IPv6, then by value. */
export function compareIp(a: Ip, b: Ip): number {
  const family = familyOf(a);
  if (family !== familyOf(b)) return family === 4 ? -1 : 1;
  if (family === 4) return ipv4Number(a) - ipv4Number(b);
  const difference = ipValue(a) - ipValue(b);
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

/** 0.0.0.0 or `::`: every address of the family. */
export function isAny(address: Ip): boolean {
  return address === '0.0.0.0' || address === '::';
}
