/** IPv4 text as an unsigned 32-bit number and back. The only textual form is RFC 6943 §3.1.1's strict one. */

const DOT = 0x2e;
const ZERO = 0x30;

/**
 * Dotted decimal with exactly four octets. A leading zero is refused, because inet_aton(3) reads such an octet as octal
 * and others read it as decimal (RFC 6943 §3.1.1).
 */
export function parseIpv4(text: string): number | undefined {
  if (text.length > 15) return undefined;
  let value = 0;
  let octet = 0;
  let digits = 0;
  let dots = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === DOT) {
      if (digits === 0 || dots === 3) return undefined;
      value = value * 256 + octet;
      octet = 0;
      digits = 0;
      dots++;
      continue;
    }
    if (code < ZERO || code > ZERO + 9 || (digits > 0 && octet === 0)) return undefined;
    octet = octet * 10 + code - ZERO;
    digits++;
    if (octet > 255) return undefined;
  }
  return dots === 3 && digits > 0 ? value * 256 + octet : undefined;
}

export function formatIpv4(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}

/** The number of a text that is known to be canonical: no checks, since this stands on the path of every lease. */
export function ipv4Number(canonical: string): number {
  let value = 0;
  let octet = 0;
  for (let i = 0; i < canonical.length; i++) {
    const code = canonical.charCodeAt(i);
    if (code === DOT) {
      value = value * 256 + octet;
      octet = 0;
    } else octet = octet * 10 + code - ZERO;
  }
  return value * 256 + octet;
}
