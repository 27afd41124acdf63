/** What stands in the options of a DHCP message. A value of a wrong length is as good as none. Pure. */
import { ipBytes, ipFromBytes, type Ip } from '../../address/ip.ts';
import { networkOf, prefixOf } from '../../address/prefix.ts';
import type { StaticRoute } from '../../cnm/model.ts';
import { type DhcpMessage, type Option, OPTION, UNSPECIFIED } from './message.ts';

export function numberOf({ options }: DhcpMessage, code: Option, bytes: 1 | 2 | 4): number | undefined {
  const value = options.get(code);
  return value?.length === bytes ? Buffer.from(value).readUIntBE(0, bytes) : undefined;
}

export function addressesOf({ options }: DhcpMessage, code: Option): readonly Ip[] {
  const value = options.get(code);
  if (value === undefined || value.length % 4 !== 0) return [];
  return Array.from({ length: value.length / 4 }, (_, index) =>
    ipFromBytes(value.subarray(index * 4, index * 4 + 4)),
  );
}

/** Without what no text should have; RFC 2132 section 2: a zero at the end may be there and means nothing. */
export function textOf({ options }: DhcpMessage, code: Option): string | undefined {
  const value = options.get(code);
  const text = value === undefined ? '' : Buffer.from(value).toString('latin1');
  const clean = text.replace(/[\u0000-\u001f\u007f-\u00ff]/g, '').trim();
  return clean === '' ? undefined : clean;
}

/** Option 1 as a prefix length; without one, that of the address's class (RFC 1122 section 3.3.1.1 has no better). */
export function maskLength(message: DhcpMessage): number {
  const [mask] = addressesOf(message, OPTION.subnetMask);
  if (mask !== undefined) {
    const bits = [...ipBytes(mask)].map((byte) => byte.toString(2).padStart(8, '0')).join('');
    if (/^1+0*$/.test(bits)) return bits.lastIndexOf('1') + 1;
  }
  const first = ipBytes(message.yiaddr)[0] ?? 0;
  return first < 128 ? 8 : first < 192 ? 16 : 24;
}

/**
 * Option 121 (RFC 3442): the width of a destination, its significant bytes, and a router; 0.0.0.0 is on the link. Undefined: there is none,
 * or it is broken; then option 3 counts.
 */
export function classlessRoutes({ options }: DhcpMessage): readonly StaticRoute[] | undefined {
  const value = options.get(OPTION.classlessRoutes);
  if (value === undefined) return undefined;
  const routes: StaticRoute[] = [];
  for (let at = 0; at < value.length;) {
    const width = value[at] ?? 0;
    const significant = Math.ceil(width / 8);
    const end = at + 1 + significant + 4;
    if (width > 32 || end > value.length) return undefined;
    const to = new Uint8Array(4);
    to.set(value.subarray(at + 1, at + 1 + significant));
    const router = ipFromBytes(value.subarray(end - 4, end));
    // RFC 3442: bits beyond the width are to be masked away.
    const destination = networkOf(prefixOf(ipFromBytes(to), width));
    routes.push({ destination, ...(router !== UNSPECIFIED && { nextHop: router }) });
    at = end;
  }
  return routes.length === 0 ? undefined : routes;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u16(value: number): Buffer {
  return Buffer.of(value >> 8, value & 0xff);
}
