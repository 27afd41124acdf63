/** What frames that ask and tell of neighbours are put together from (RFC 826, RFC 4861); numbers in network order. Pure. */
export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_IPV6 = 0x86dd;
export const BROADCAST = Buffer.alloc(6, 0xff);
export const ICMPV6 = 58;
export const SOLICITATION = 135;
export const ADVERTISEMENT = 136;
export const TARGET_LINK_LAYER_ADDRESS = 2;

export function u16(value: number): Buffer {
  return Buffer.of(value >> 8, value & 0xff);
}
