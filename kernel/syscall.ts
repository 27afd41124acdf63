/**
 * The few system calls that Node has no function for, through libc. All of them are synchronous: they return at once
 * (sockets are used with MSG_DONTWAIT), and a namespace may only be entered where nothing can be awaited.
 */
import { createRequire } from 'node:module';
import type koffi from 'koffi';
import { errnoName } from './errno.ts';
import { KernelError } from './kernel.ts';
import { SOL_SOCKET } from './socket-numbers.ts';

export interface Syscalls {
  /** @throws KernelError, as all of these do, with the call's name as operation. */
  socket(domain: number, type: number, protocol: number): number;
  bind(fd: number, address: Uint8Array): void;
  listen(fd: number, backlog: number): void;
  setsockopt(fd: number, level: number, option: number, value: number): void;
  /** Of one that takes a structure. */
  setOption(fd: number, level: number, option: number, value: Uint8Array): void;
  /** Let a socket receive nothing, by a filter (SO_ATTACH_FILTER, socket(7)). */
  dropAll(fd: number): void;
  /** Let it receive what these instructions let through, at most 32. */
  filter(fd: number, instructions: readonly Instruction[]): void;
  send(fd: number, data: Uint8Array): void;
  /** On a thread of libuv's pool, for what the kernel takes long over. */
  sendAside(fd: number, data: Uint8Array): Promise<void>;
  /** The same, to an address as a `struct sockaddr`. @throws KernelError EIO, whatever the kernel said. */
  sendToAside(fd: number, data: Uint8Array, address: Uint8Array): Promise<void>;
  /**
   * The next datagram without waiting: its whole length, which is more than `into` holds when it was cut, or undefined
   * when there is none. The sender's address is written to `from`.
   */
  receive(fd: number, into: Uint8Array, from: Uint8Array): number | undefined;
  /** Now or not at all: false when the socket has no room. */
  sendTo(fd: number, data: Uint8Array, address: Uint8Array): boolean;
  /** Of descriptors that do not wait. Undefined, or false: there is nothing, there is no room. */
  read(fd: number, into: Uint8Array): number | undefined;
  write(fd: number, data: Uint8Array): boolean;
  /** `fds`: an array of `struct pollfd`. How many have something; waits for `timeout` ms at most. */
  poll(fds: Uint8Array, timeout: number): number;
  /** `argument`: what the request takes a pointer to, or a number. */
  ioctl(fd: number, request: number, argument: Uint8Array | number): void;
  /**
   * Memory that stays where it is until it is freed, for structures with pointers in them: `bytes` is what stands at `address`, and is not to
   * be touched after that.
   */
  memory(size: number): { readonly address: bigint; readonly bytes: Buffer };
  free(address: bigint): void;
  /** Into `count` of struct mmsghdr, without waiting; how many datagrams there were. */
  receiveMany(fd: number, heads: bigint, count: number): number;
  /** Of `count` of struct mmsghdr those that there is room for, without waiting; how many that were. Throws when it is the first that fails. */
  sendMany(fd: number, heads: bigint, count: number): number;
  setns(fd: number, type: number): void;
  unshare(flags: number): void;
  mount(source: string, target: string, flags: number): void;
  umount(target: string, flags: number): void;
}

/** An instruction of linux/filter.h: code, how many to skip when true and when false, operand. */
export type Instruction = readonly [code: number, ifTrue: number, ifFalse: number, operand: number];

const MSG_TRUNC = 0x20;
/** struct pollfd: descriptor, events asked for, events seen. */
export const POLLFD_BYTES = 8;
const MSG_DONTWAIT = 0x40;

type Native = (...args: readonly unknown[]) => number;
interface Aside {
  async(
    fd: number,
    data: Uint8Array,
    length: number,
    flags: number,
    address: Uint8Array | null,
    addressLength: number,
    done: (error: unknown, sent: number) => void,
  ): void;
}
/** Undefined: EAGAIN, which is no error where nobody waits. */
type Attempt = (...args: readonly unknown[]) => number | undefined;

/**
 * Loads koffi here and not on import: only a process that touches the kernel pays for it. `null` is the running program,
 * which has its libc in it, whichever that is.
 */
export function loadSyscalls(): Syscalls {
  const ffi = createRequire(import.meta.url)('koffi') as typeof koffi;
  const libc = ffi.load(null);
  const attempted = (name: string, prototype: string): Attempt => {
    const call = libc.func(prototype) as Native;
    return (...args) => {
      for (;;) {
        const result = call(...args);
        if (result >= 0) return result;
        const errno = errnoName(ffi.errno());
        if (errno === 'EAGAIN') return undefined;
        if (errno !== 'EINTR') throw new KernelError(name, errno);
      }
    };
  };
  const sendto = libc.func('int64_t sendto(int, const void *, size_t, int, const void *, uint32_t)') as Aside;
  return { ...bindings(attempted, filterPrograms(ffi)), ...aside(sendto), ...many(ffi, attempted) };
}

type Many = Pick<Syscalls, 'memory' | 'free' | 'receiveMany' | 'sendMany'>;

function many(ffi: typeof koffi, attempted: (name: string, prototype: string) => Attempt): Many {
  const recvmmsg = attempted('recvmmsg', 'int recvmmsg(int, void *, unsigned int, int, void *)');
  const sendmmsg = attempted('sendmmsg', 'int sendmmsg(int, void *, unsigned int, int)');
  return {
    memory(size) {
      const address = ffi.alloc('uint8_t', size) as bigint;
      return { address, bytes: Buffer.from(ffi.view(address, size)) };
    },
    free(address) {
      ffi.free(address);
    },
    receiveMany: (fd, heads, count) => recvmmsg(fd, heads, count, MSG_DONTWAIT, null) ?? 0,
    sendMany: (fd, heads, count) => sendmmsg(fd, heads, count, MSG_DONTWAIT) ?? 0,
  };
}

/** `errno` belongs to the other thread and cannot be asked for here. */
function aside(sendto: Aside): Pick<Syscalls, 'sendAside' | 'sendToAside'> {
  const sendToAside = (fd: number, data: Uint8Array, to: Uint8Array | null): Promise<void> =>
    new Promise((resolve, reject) => {
      sendto.async(fd, data, data.length, 0, to, to?.length ?? 0, (error, sent) => {
        if (error === null && sent === data.length) resolve();
        else reject(new KernelError('send', 'EIO', error instanceof Error ? error.message : ''));
      });
    });
  return { sendToAside, sendAside: (fd, data) => sendToAside(fd, data, null) };
}

const SO_ATTACH_FILTER = 26;

/** BPF_RET | BPF_K with 0, the number of bytes to let through. */
const DROP_ALL: readonly Instruction[] = [[0x06, 0, 0, 0]];
const INSTRUCTION_BYTES = 8;
const INSTRUCTIONS_MAX = 32;

/** struct sock_fprog: the number of instructions, and where they stand: in memory that stays. The kernel copies them at the call. */
function filterPrograms(ffi: typeof koffi): (instructions: readonly Instruction[]) => Uint8Array {
  const address = ffi.alloc('uint8_t', INSTRUCTIONS_MAX * INSTRUCTION_BYTES) as bigint;
  const memory = Buffer.from(ffi.view(address, INSTRUCTIONS_MAX * INSTRUCTION_BYTES));
  return (instructions) => {
    for (const [index, [code, ifTrue, ifFalse, operand]] of instructions.entries()) {
      const at = index * INSTRUCTION_BYTES;
      memory.writeUInt16LE(code, at);
      memory.writeUInt8(ifTrue, at + 2);
      memory.writeUInt8(ifFalse, at + 3);
      memory.writeUInt32LE(operand, at + 4);
    }
    const program = Buffer.alloc(16);
    program.writeUInt16LE(instructions.length, 0);
    program.writeBigUInt64LE(address, 8);
    return program;
  };
}

function bindings(
  attempted: (name: string, prototype: string) => Attempt,
  programOf: (instructions: readonly Instruction[]) => Uint8Array,
): Omit<Syscalls, 'sendAside' | 'sendToAside' | keyof Many> {
  const checked = (name: string, prototype: string): Native => {
    const call = attempted(name, prototype);
    return (...args) => {
      const result = call(...args);
      if (result === undefined) throw new KernelError(name, 'EAGAIN');
      return result;
    };
  };
  const socket = checked('socket', 'int socket(int, int, int)');
  const bind = checked('bind', 'int bind(int, const void *, uint32_t)');
  const listen = checked('listen', 'int listen(int, int)');
  const setsockopt = checked('setsockopt', 'int setsockopt(int, int, int, const void *, uint32_t)');
  const send = checked('send', 'int64_t send(int, const void *, size_t, int)');
  const recvfrom = attempted('recvfrom', 'int64_t recvfrom(int, void *, size_t, int, void *, void *)');
  const sendto = attempted(
    'sendto',
    'int64_t sendto(int, const void *, size_t, int, const void *, uint32_t)',
  );
  const read = attempted('read', 'int64_t read(int, void *, size_t)');
  const write = attempted('write', 'int64_t write(int, const void *, size_t)');
  const poll = checked('poll', 'int poll(void *, ulong, int)');
  const ioctlPointer = checked('ioctl', 'int ioctl(int, ulong, void *)');
  const ioctlNumber = checked('ioctl', 'int ioctl(int, ulong, long)');
  const setns = checked('setns', 'int setns(int, int)');
  const unshare = checked('unshare', 'int unshare(int)');
  const mount = checked('mount', 'int mount(const char *, const char *, const char *, ulong, const void *)');
  const umount2 = checked('umount2', 'int umount2(const char *, int)');
  const filter: Syscalls['filter'] = (fd, instructions) => {
    const program = programOf(instructions);
    setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, program, program.length);
  };
  return {
    socket,
    bind: (fd, address) => void bind(fd, address, address.length),
    setsockopt: (fd, level, option, value) => void setsockopt(fd, level, option, Int32Array.of(value), 4),
    setOption: (fd, level, option, value) => void setsockopt(fd, level, option, value, value.length),
    listen: (fd, backlog) => void listen(fd, backlog),
    dropAll: (fd) => {
      filter(fd, DROP_ALL);
    },
    filter,
    send: (fd, data) => void send(fd, data, data.length, 0),
    receive(fd, into, from) {
      const flags = MSG_DONTWAIT | MSG_TRUNC;
      return recvfrom(fd, into, into.length, flags, from, Uint32Array.of(from.length));
    },
    sendTo: (fd, data, address) =>
      sendto(fd, data, data.length, MSG_DONTWAIT, address, address.length) !== undefined,
    read: (fd, into) => read(fd, into, into.length),
    write: (fd, data) => write(fd, data, data.length) !== undefined,
    poll: (fds, timeout) => poll(fds, fds.length / POLLFD_BYTES, timeout),
    ioctl(fd, request, argument) {
      if (typeof argument === 'number') ioctlNumber(fd, request, argument);
      else ioctlPointer(fd, request, argument);
    },
    setns: (fd, type) => void setns(fd, type),
    unshare: (flags) => void unshare(flags),
    mount: (source, target, flags) => void mount(source, target, 'none', flags, null),
    umount: (target, flags) => void umount2(target, flags),
  };
}
