/** What recvmmsg(2) and sendmmsg(2) are given, on a machine of 64 bits (socket.h). */

/** struct mmsghdr: name, its length, iovec, their number, control, its length, flags; then the bytes that were moved. */
export const HEAD = { size: 64, name: 0, nameLength: 8, vector: 16, vectorLength: 24, moved: 56 } as const;
/** struct iovec */
export const VECTOR = { size: 16, base: 0, length: 8 } as const;
