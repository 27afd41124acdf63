/** TAP devices: Ethernet frames to and from a program (Documentation/networking/tuntap.rst). */
import { closeSync, constants, openSync } from 'node:fs';
import { errnoOf } from './errno.ts';
import { KernelError } from './kernel.ts';
import type { Syscalls } from './syscall.ts';

const DEVICE = '/dev/net/tun';
/** linux/if_tun.h */
const TUNSETIFF = 0x400454ca;
const TUNSETPERSIST = 0x400454cb;
const IFF_TAP = 0x0002;
/** Frames alone, without the protocol and flags that would stand before them. */
const IFF_NO_PI = 0x1000;
/** struct ifreq: 16 bytes of name, then the flags. */
const IFREQ_BYTES = 40;
const FLAGS_AT = 16;

/** In the namespace that the thread is in. It stays when nobody has it open. @throws KernelError */
export function createTap(sys: Syscalls, name: string): void {
  const fd = attachTap(sys, name);
  try {
    sys.ioctl(fd, TUNSETPERSIST, 1);
  } finally {
    closeSync(fd);
  }
}

/**
 * A descriptor of the device of that name, which reads and writes one frame at a time and does not wait. The device belongs to the
 * namespace that the thread is in, now and later. @throws KernelError EBUSY when another program has it.
 */
export function attachTap(sys: Syscalls, name: string): number {
  const fd = open();
  try {
    const request = Buffer.alloc(IFREQ_BYTES);
    request.write(name, 'latin1');
    request.writeUInt16LE(IFF_TAP | IFF_NO_PI, FLAGS_AT);
    sys.ioctl(fd, TUNSETIFF, request);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error instanceof KernelError ? new KernelError(`tap ${name}`, error.errno) : error;
  }
}

function open(): number {
  try {
    // O_CLOEXEC is set by Node.
    return openSync(DEVICE, constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    throw new KernelError(`open ${DEVICE}`, errnoOf(error), 'a tunnel in user space needs it: modprobe tun');
  }
}
