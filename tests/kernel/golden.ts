/** Messages of iproute2's programs, as they went out. */

export interface Message {
  readonly type: number;
  readonly flags: number;
  /** In hexadecimal digits. */
  readonly data: string;
}

/** Without length, sequence number and port, and without the flags REQUEST and ACK. */
export function golden(hex: string): Message {
  const bytes = Buffer.from(hex, 'hex');
  return {
    type: bytes.readUInt16LE(4),
    flags: bytes.readUInt16LE(6) & ~0x5,
    data: bytes.subarray(16).toString('hex'),
  };
}
