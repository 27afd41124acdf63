/** 48-bit hardware addresses. A `Mac` is its own canonical text: six pairs of lower-case hex digits with colons. */
import { createHash } from 'node:crypto';
import { familyOf, ipBytes, ipFromBytes } from './ip.ts';
import type { Ip } from './ip.ts';

export type Mac = string & { readonly __brand: 'Mac' };

const FORM = /^[0-9a-f]{2}(?:(?::[0-9a-f]{2}){5}|(?:-[0-9a-f]{2}){5})$/i;

/** Six pairs of hex digits in any case, between colons or between hyphens. */
export function parseMac(text: string): Mac | undefined {
  return FORM.test(text) ? (text.toLowerCase().replaceAll('-', ':') as Mac) : undefined;
}

/** @throws RangeError when `text` is not a hardware address. */
export function mac(text: string): Mac {
  const parsed = parseMac(text);
  if (parsed === undefined) {
    throw new RangeError(`${JSON.stringify(text)} is not a MAC address: write it as 02:42:c0:00:02:01`);
  }
  return parsed;
}

/** Six bytes in the order they go over the wire. */
export function macBytes(address: Mac): Uint8Array {
  return Uint8Array.from(Buffer.from(address.replaceAll(':', ''), 'hex'));
}

/** @throws RangeError unless there are 6 bytes. */
export function macFromBytes(bytes: Uint8Array): Mac {
  if (bytes.length !== 6) throw new RangeError(`${bytes.length} bytes are not a MAC address: it has 6`);
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':') as Mac;
}

/**
 * 02:42 and the four octets, as Docker's bridge made them up to Engine 27: an address that comes back brings its MAC back,
 * so that neighbours' caches stay right.
 * @throws RangeError when the address is not IPv4.
 */
export function macFromIpv4(address: Ip): Mac {
  if (familyOf(address) !== 4)
    throw new RangeError(`${address} is not an IPv4 address: a MAC is made from IPv4 only`);
  return macFromBytes(Uint8Array.of(0x02, 0x42, ...ipBytes(address)));
}

/** The same text gives the same address: 46 bits of its SHA-256, locally administered and unicast (IEEE 802c). */
export function macFromSeed(text: string): Mac {
  const bytes = Uint8Array.from(createHash('sha256').update(text).digest().subarray(0, 6));
  bytes[0] = ((bytes[0] ?? 0) & 0xfc) | 0x02;
  return macFromBytes(bytes);
}

/** Whether the individual/group bit is clear (IEEE 802-2014 §8.2.2). */
export function isUnicast(address: Mac): boolean {
  return ((macBytes(address)[0] ?? 1) & 1) === 0;
}

/** fe80::/64 with the modified EUI-64 of RFC 4291 appendix A: ff:fe in the middle, the universal/local bit inverted. */
export function linkLocalOf(address: Mac): Ip {
  const bytes = macBytes(address);
  const eui64 = Uint8Array.of(...bytes.subarray(0, 3), 0xff, 0xfe, ...bytes.subarray(3));
  eui64[0] = (eui64[0] ?? 0) ^ 0x02;
  return ipFromBytes(Uint8Array.of(0xfe, 0x80, 0, 0, 0, 0, 0, 0, ...eui64));
}
