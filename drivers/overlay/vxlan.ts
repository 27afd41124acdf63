/**
 * The VXLAN header of RFC 7348 section 5, on and off. Pure, and nothing is copied: a decoded frame is a view of the datagram, and a
 * header is written into room that was kept in front of the frame.
 *
 *      0                   1                   2                   3
 *      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 *     |R|R|R|R|I|R|R|R|            Reserved                           |
 *     |                VXLAN Network Identifier (VNI) |   Reserved    |
 *
 * The I flag must be set. Every other bit that is not the VNI's is sent as zero and ignored when it comes, as the RFC has it. (Linux drops
 * what has reserved bits set, unless IFLA_VXLAN_RESERVED_BITS says otherwise: vxlan_rcv().)
 */

export const VXLAN_HEADER_BYTES = 8;
/** Destination and source address, and the type: no Ethernet frame is shorter. */
export const ETHERNET_HEADER_BYTES = 14;
/** What the RFC's port number is, RFC 7348 section 5, "Destination Port". */
export const VXLAN_PORT = 4789;
/** 24 bits. */
export const VNI_LIMIT = 0x1000000;

const FLAG_VNI = 0x08;

/**
 * Why a datagram is dropped. `short`: it has no whole header. `no-vni`: the I flag is clear, so that the VNI means nothing. `runt`: what
 * is in it is no Ethernet frame.
 */
export type Malformed = 'short' | 'no-vni' | 'runt';

export type Decoded =
  | { readonly vni: number; readonly frame: Uint8Array; readonly malformed?: undefined }
  | { readonly malformed: Malformed };

/** Made once: a flood of bad datagrams costs no memory. */
const MALFORMED: Readonly<Record<Malformed, Decoded>> = {
  short: { malformed: 'short' },
  'no-vni': { malformed: 'no-vni' },
  runt: { malformed: 'runt' },
};

/** A UDP payload; `frame` is a view of it, good for as long as its bytes stay. */
export function decodeVxlan(datagram: Uint8Array): Decoded {
  const malformed = malformedVxlan(datagram);
  if (malformed !== undefined) return MALFORMED[malformed];
  return { vni: vniOf(datagram), frame: datagram.subarray(VXLAN_HEADER_BYTES) };
}

/** For whoever handles many and needs no view: what is wrong with a datagram, before `vniOf` is asked. */
export function malformedVxlan(datagram: Uint8Array): Malformed | undefined {
  if (datagram.length < VXLAN_HEADER_BYTES) return 'short';
  if (((datagram[0] ?? 0) & FLAG_VNI) === 0) return 'no-vni';
  if (datagram.length < VXLAN_HEADER_BYTES + ETHERNET_HEADER_BYTES) return 'runt';
  return undefined;
}

/** Of a datagram that is not malformed. */
export function vniOf(datagram: Uint8Array): number {
  return ((datagram[4] ?? 0) << 16) | ((datagram[5] ?? 0) << 8) | (datagram[6] ?? 0);
}

/**
 * The header, into the eight bytes at `at`.
 * @throws RangeError when the VNI has not 24 bits, or the eight bytes are not there.
 */
export function writeVxlanHeader(into: Uint8Array, at: number, vni: number): void {
  if (!isVni(vni)) throw new RangeError(`VNI ${vni} is not a whole number from 0 to ${VNI_LIMIT - 1}`);
  if (!(at >= 0 && at + VXLAN_HEADER_BYTES <= into.length))
    throw new RangeError(`there are no ${VXLAN_HEADER_BYTES} bytes at ${at} of ${into.length}`);
  into[at] = FLAG_VNI;
  into[at + 1] = 0;
  into[at + 2] = 0;
  into[at + 3] = 0;
  into[at + 4] = vni >>> 16;
  into[at + 5] = vni >>> 8;
  into[at + 6] = vni;
  into[at + 7] = 0;
}

/**
 * The datagram for the frame that stands in `buffer` from `start` to `end`, where the eight bytes in front of it are free: they get the
 * header, and a view of both is the datagram.
 * @throws RangeError when the VNI has not 24 bits, or there is no room in front of `start`.
 */
export function encodeVxlan(buffer: Uint8Array, start: number, end: number, vni: number): Uint8Array {
  writeVxlanHeader(buffer, start - VXLAN_HEADER_BYTES, vni);
  return buffer.subarray(start - VXLAN_HEADER_BYTES, end);
}

export function isVni(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value < VNI_LIMIT;
}
