/**
 * Netlink sockets of our own: synchronous, many requests in one sendmsg, errors with the kernel's own words.
 *
 * The kernel does a request's whole work inside sendmsg(), on the calling thread, so that nothing is gained by waiting for
 * the answer; the `netlink` package's native socket, which does wait, aborts the process on ENOBUFS. Its codecs are used.
 */
import { closeSync } from 'node:fs';
import { formatMessage, getString, parseAttributes, parseMessages, readS32 } from 'netlink/dist/structs.js';
import type { NetlinkMessage } from 'netlink/dist/structs.js';
import { errnoName } from './errno.ts';
import { KernelError } from './kernel.ts';
import { withNetns } from './netns.ts';
import {
  AF_NETLINK,
  SO_RCVBUFFORCE,
  SO_SNDBUFFORCE,
  SOCK_CLOEXEC,
  SOCK_RAW,
  SOL_SOCKET,
} from './socket-numbers.ts';
import type { Syscalls } from './syscall.ts';

export const NETLINK_ROUTE = 0;
export const NETLINK_NETFILTER = 12;

/** nlmsg_flags, linux/netlink.h. */
export const NLM_F_ACK = 0x4;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;
const NLM_F_REQUEST = 0x1;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_ACK_TLVS = 0x200;
const NLM_F_DUMP = 0x300;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLMSGERR_ATTR_MSG = 1;
/** Behind the errno stands the header of the request that failed; NETLINK_CAP_ACK keeps its payload out. */
const ERROR_TLVS_AT = 4 + 16;

const SOL_NETLINK = 270;
const NETLINK_ADD_MEMBERSHIP = 1;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
/** struct sockaddr_nl: nl_family, padding, nl_pid, nl_groups. */
const SOCKADDR_LENGTH = 12;
const SOCKADDR_PID_AT = 4;
const ANY_PORT = Buffer.of(AF_NETLINK, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

/** Limits, not allocations. A receive buffer of this size holds the answers to some 4000 requests. */
const BUFFER_BYTES = 4 * 1024 * 1024;
/** netlink_dump() fills at most 32 KiB at a time (NLMSG_GOODSIZE and max_recvmsg_len). */
const DATAGRAM_BYTES = 64 * 1024;
const DUMP_ATTEMPTS = 10;

/** One message to the kernel; NLM_F_REQUEST, sequence number and length are filled in. */
export interface NetlinkRequest {
  readonly type: number;
  readonly flags: number;
  readonly data: Uint8Array;
}

/** A request that the kernel refused: its place among those sent together, and why. */
export interface NetlinkFailure {
  readonly index: number;
  readonly errno: string;
  readonly detail: string;
}

export interface NetlinkOutcome {
  readonly failures: readonly NetlinkFailure[];
  /** What GET requests were answered, by the request's place. */
  readonly replies: ReadonlyMap<number, NetlinkMessage>;
}

export interface NetlinkSocket {
  /**
   * Send all requests in one sendmsg and take in what the kernel answers. It works through them in order and goes on
   * after one that fails (rtnetlink) or undoes them all (nfnetlink batches). Only the last request that carries
   * NLM_F_ACK is waited for, or the last of all when none does: errors come unasked, and fewer answers fit any buffer.
   * @throws KernelError when the exchange itself fails: EMSGSIZE, ENOBUFS, or EPROTO when no answer came.
   */
  transact(requests: readonly NetlinkRequest[]): NetlinkOutcome;
  /** The same with the work on another thread. Nothing else may be asked of this socket meanwhile. */
  transactAside(requests: readonly NetlinkRequest[]): Promise<NetlinkOutcome>;
  /**
   * A dump, decoded message by message (what `decode` keeps must not alias the message), again from the start when the
   * kernel says that it changed in between (NLM_F_DUMP_INTR).
   */
  dump<T>(request: NetlinkRequest, decode: (message: NetlinkMessage) => T | undefined): readonly T[];
  /** Take in notifications that are there already. @throws KernelError ENOBUFS when some were lost. */
  drain(listen: (message: NetlinkMessage) => void): void;
  join(group: number): void;
  close(): void;
}

/** A socket in the daemon's namespace, or in the one at `netns`; it stays there without entering it again. */
export function openNetlinkSocket(sys: Syscalls, protocol: number, netns?: string): NetlinkSocket {
  const open = (): number => sys.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
  const fd = netns === undefined ? open() : withNetns(sys, netns, open);
  try {
    for (const option of [NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK]) {
      sys.setsockopt(fd, SOL_NETLINK, option, 1);
    }
    growBuffers(sys, fd);
    // Any free port. Notifications go round a socket without one: it looks like the sender's own, which is 0 for the
    // kernel (net/netlink/af_netlink.c: do_one_broadcast).
    sys.bind(fd, ANY_PORT);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return new Socket(sys, fd);
}

/** Beyond net.core.rmem_max only with CAP_NET_ADMIN in the first user namespace; without it the defaults must do. */
function growBuffers(sys: Syscalls, fd: number): void {
  try {
    sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES);
    sys.setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, BUFFER_BYTES);
  } catch (error) {
    if (!(error instanceof KernelError && error.errno === 'EPERM')) throw error;
  }
}

class Socket implements NetlinkSocket {
  readonly #sys: Syscalls;
  readonly #fd: number;
  readonly #datagram = Buffer.allocUnsafe(DATAGRAM_BYTES);
  readonly #sender = Buffer.alloc(SOCKADDR_LENGTH);
  #seq = 1;
  #closed = false;

  constructor(sys: Syscalls, fd: number) {
    this.#sys = sys;
    this.#fd = fd;
  }

  transact(requests: readonly NetlinkRequest[]): NetlinkOutcome {
    const { first, data } = this.#encode(requests);
    this.#sys.send(this.#fd, data);
    return this.#answers(first, requests);
  }

  async transactAside(requests: readonly NetlinkRequest[]): Promise<NetlinkOutcome> {
    const { first, data } = this.#encode(requests);
    await this.#sys.sendAside(this.#fd, data);
    return this.#answers(first, requests);
  }

  #answers(first: number, requests: readonly NetlinkRequest[]): NetlinkOutcome {
    const failures: NetlinkFailure[] = [];
    const replies = new Map<number, NetlinkMessage>();
    const awaited = lastAcked(requests);
    for (let answered = awaited < 0; !answered;) {
      const messages = this.#receive();
      if (messages === undefined) {
        // nfnetlink that rejects a whole batch answers its first message only.
        if (failures.length > 0) break;
        throw new KernelError('netlink', 'EPROTO', 'the kernel did not acknowledge');
      }
      for (const message of messages) {
        const index = message.seq - first;
        if (index < 0 || index >= requests.length) continue;
        if (message.type !== NLMSG_ERROR) {
          replies.set(index, { ...message, data: Buffer.from(message.data) });
          continue;
        }
        const failure = errorOf(message);
        if (failure !== undefined) failures.push({ index, ...failure });
        answered ||= index === awaited;
      }
    }
    return { failures, replies };
  }

  #encode(requests: readonly NetlinkRequest[]): { first: number; data: Buffer } {
    const first = this.#seq;
    // 31 bits: `seq - first` then never wraps within one exchange.
    this.#seq = (first + requests.length) % 0x7fff0000;
    const awaited = lastAcked(requests);
    const parts = requests.flatMap(({ type, flags, data }, i) => {
      const asked = NLM_F_REQUEST | (i === awaited ? NLM_F_ACK : 0);
      return padded(formatMessage({ type, flags: flags | asked, seq: first + i, port: 0, data }));
    });
    return { first, data: Buffer.concat(parts) };
  }

  /** One datagram's messages; they alias the receive buffer. Undefined: nothing is there. */
  #receive(): readonly NetlinkMessage[] | undefined {
    for (;;) {
      const length = this.#sys.receive(this.#fd, this.#datagram, this.#sender);
      if (length === undefined) return undefined;
      // Any process with CAP_NET_ADMIN may send to our port: only the kernel's is 0.
      if (this.#sender.readUInt32LE(SOCKADDR_PID_AT) !== 0) continue;
      if (length > this.#datagram.length) throw new KernelError('netlink', 'EMSGSIZE', `${length} bytes`);
      return parseMessages(this.#datagram.subarray(0, length));
    }
  }

  dump<T>(request: NetlinkRequest, decode: (message: NetlinkMessage) => T | undefined): readonly T[] {
    for (let attempt = 0; attempt < DUMP_ATTEMPTS; attempt += 1) {
      const dumped = this.#dumpOnce(request, decode);
      if (dumped !== undefined) return dumped;
    }
    throw new KernelError('netlink dump', 'EINTR', `changed ${DUMP_ATTEMPTS} times while it was read`);
  }

  #dumpOnce<T>(request: NetlinkRequest, decode: (message: NetlinkMessage) => T | undefined): T[] | undefined {
    // An ack instead of NLMSG_DONE would be asked for by NLM_F_ACK: the flags say what is wanted, and no more.
    const seq = this.#sendOne({ ...request, flags: request.flags | NLM_F_DUMP });
    const kept: T[] = [];
    let consistent = true;
    for (;;) {
      const messages = this.#receive();
      if (messages === undefined) throw new KernelError('netlink dump', 'EPROTO', 'it has no end');
      for (const message of messages) {
        if (message.seq !== seq) continue;
        consistent &&= (message.flags & NLM_F_DUMP_INTR) === 0;
        if (message.type === NLMSG_ERROR || message.type === NLMSG_DONE) {
          const failure = errorOf(message);
          if (failure?.errno === 'EINTR') return undefined;
          if (failure !== undefined) throw new KernelError('netlink dump', failure.errno, failure.detail);
          return consistent ? kept : undefined;
        }
        const one = consistent ? decode(message) : undefined;
        if (one !== undefined) kept.push(one);
      }
    }
  }

  #sendOne({ type, flags, data }: NetlinkRequest): number {
    const seq = this.#seq;
    this.#seq = (seq + 1) % 0x7fff0000;
    const message = formatMessage({ type, flags: flags | NLM_F_REQUEST, seq, port: 0, data });
    this.#sys.send(this.#fd, Buffer.concat(padded(message)));
    return seq;
  }

  drain(listen: (message: NetlinkMessage) => void): void {
    for (let messages = this.#receive(); messages !== undefined; messages = this.#receive()) {
      for (const message of messages) listen(message);
    }
  }

  join(group: number): void {
    this.#sys.setsockopt(this.#fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    closeSync(this.#fd);
  }
}

function lastAcked(requests: readonly NetlinkRequest[]): number {
  const asked = requests.findLastIndex(({ flags }) => (flags & NLM_F_ACK) !== 0);
  return asked >= 0 ? asked : requests.length - 1;
}

/** NLMSG_ALIGN: messages start at multiples of 4. */
function padded(parts: Uint8Array[]): Uint8Array[] {
  const length = parts.reduce((sum, part) => sum + part.length, 0);
  return length % 4 === 0 ? parts : [...parts, Buffer.alloc(4 - (length % 4))];
}

/** The errno of an NLMSG_ERROR or NLMSG_DONE and the text of its extended acknowledgement; undefined: no error. */
function errorOf(message: NetlinkMessage): { errno: string; detail: string } | undefined {
  if (message.data.length < 4) return undefined;
  const errno = readS32.call(message.data, 0);
  if (errno === 0) return undefined;
  let detail = '';
  const tlvsAt = message.type === NLMSG_DONE ? 4 : ERROR_TLVS_AT;
  if ((message.flags & NLM_F_ACK_TLVS) !== 0) {
    parseAttributes(message.data.subarray(tlvsAt), ({ type, data }) => {
      if (type === NLMSGERR_ATTR_MSG) detail = getString(data);
    });
  }
  return { errno: errnoName(errno), detail };
}
