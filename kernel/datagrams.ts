/**
 * The datagrams that wait at a socket, received and answered many at a time (recvmmsg(2), sendmmsg(2)): two system calls for up to 64
 * questions, where one at a time costs two each and a turn of the event loop. IPv4 alone: its addresses have one size.
 */
import { ip, ipBytes, ipFromBytes, type Ip } from '../address/ip.ts';
import { type Datagram, KernelError, type OnDatagram } from './kernel.ts';
import { HEAD, VECTOR } from './message-header.ts';
import { AF_INET } from './socket-numbers.ts';
import type { Syscalls } from './syscall.ts';

const AT_ONCE = 64;
/** Then other sockets have their turn. */
const BURSTS = 4;
/** Bytes of a message; what is longer arrives cut. */
const MESSAGE = 4096;

/** struct sockaddr_in */
const NAME = { size: 16, port: 2, address: 4 } as const;

/** Addresses in their written form, kept: the same few clients ask again and again. */
const ADDRESSES_KEPT = 4096;

interface Sender {
  readonly address: Ip;
  readonly bytes: Uint8Array;
}

/** One for all sockets: nothing is awaited between the receiving and the answering of a burst. */
export class Datagrams {
  readonly #sys: Syscalls;
  readonly #received: Table;
  readonly #answers: Table;
  readonly #addresses = new Map<number, Ip>();
  readonly #senders = new Map<string, Sender>();

  constructor(sys: Syscalls) {
    this.#sys = sys;
    this.#received = new Table(sys);
    this.#answers = new Table(sys);
  }

  /** Until none waits, or many have been handled. A socket that is broken has none. */
  drain(fd: number, onDatagram: OnDatagram, first?: Datagram): void {
    let answers = first === undefined ? 0 : this.#handleFirst(first, onDatagram);
    for (let burst = 0; burst < BURSTS; burst += 1) {
      // One place is the first one's.
      const count = this.#receive(fd, AT_ONCE - answers);
      for (let n = 0; n < count; n += 1) {
        const answer = (reply: Uint8Array) => {
          if (!this.#answers.put(answers, reply)) return;
          this.#answers.nameAs(answers, this.#received, n);
          answers += 1;
        };
        this.#handle(n, onDatagram, answer);
      }
      this.#send(fd, answers);
      answers = 0;
      if (count < AT_ONCE - 1) return;
    }
  }

  /** How many answers there are: one or none. */
  #handleFirst({ message, address, port }: Datagram, onDatagram: OnDatagram): number {
    let answers = 0;
    // See below.
    if (port === 0) return 0;
    const sender = this.#senderOf(address);
    onDatagram(message, sender.address, port, (reply) => {
      if (!this.#answers.put(0, reply)) return;
      this.#answers.name(0, sender.bytes, port);
      answers = 1;
    });
    return answers;
  }

  #senderOf(text: string): Sender {
    const known = this.#senders.get(text);
    if (known !== undefined) return known;
    const address = ip(text);
    const sender = { address, bytes: ipBytes(address) };
    if (this.#senders.size >= ADDRESSES_KEPT) this.#senders.clear();
    this.#senders.set(text, sender);
    return sender;
  }

  #receive(fd: number, count: number): number {
    try {
      return this.#sys.receiveMany(fd, this.#received.heads, count);
    } catch (error) {
      // Such as ECONNREFUSED of an answer before: the next call goes on.
      if (error instanceof KernelError) return 0;
      throw error;
    }
  }

  #handle(n: number, onDatagram: OnDatagram, answer: (reply: Uint8Array) => void): void {
    const port = this.#received.port(n);
    // From port 0 anybody can send, and nobody can be answered there.
    if (port === 0) return;
    onDatagram(this.#received.message(n), this.#written(this.#received.address(n)), port, answer);
  }

  #written(address: number): Ip {
    const known = this.#addresses.get(address);
    if (known !== undefined) return known;
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(address);
    const written = ipFromBytes(bytes);
    if (this.#addresses.size >= ADDRESSES_KEPT) this.#addresses.clear();
    this.#addresses.set(address, written);
    return written;
  }

  #send(fd: number, count: number): void {
    for (let sent = 0; sent < count;) {
      try {
        const more = this.#sys.sendMany(fd, this.#answers.headsFrom(sent), count - sent);
        if (more === 0) return;
        sent += more;
      } catch (error) {
        if (!(error instanceof KernelError)) throw error;
        // Such as ENETUNREACH for one client, and it is the first of the rest: the others are still to be answered.
        sent += 1;
      }
    }
  }
}

/** The memory of AT_ONCE messages: headers, vectors, addresses and contents, with the pointers between them set once. */
class Table {
  /** Where the kernel is to look. */
  readonly heads: bigint;
  readonly #bytes: Buffer;
  static readonly #vectors = AT_ONCE * HEAD.size;
  static readonly #names = Table.#vectors + AT_ONCE * VECTOR.size;
  static readonly #contents = Table.#names + AT_ONCE * NAME.size;

  constructor(sys: Syscalls) {
    const { address, bytes } = sys.memory(Table.#contents + AT_ONCE * MESSAGE);
    this.heads = address;
    this.#bytes = bytes;
    for (let n = 0; n < AT_ONCE; n += 1) {
      const head = n * HEAD.size;
      const vector = Table.#vectors + n * VECTOR.size;
      const pointer = (at: number, to: number) => bytes.writeBigUInt64LE(address + BigInt(to), at);
      pointer(head + HEAD.name, Table.#names + n * NAME.size);
      bytes.writeUInt32LE(NAME.size, head + HEAD.nameLength);
      pointer(head + HEAD.vector, vector);
      bytes.writeUInt32LE(1, head + HEAD.vectorLength);
      pointer(vector + VECTOR.base, Table.#contents + n * MESSAGE);
      bytes.writeUInt32LE(MESSAGE, vector + VECTOR.length);
    }
  }

  headsFrom(n: number): bigint {
    return this.heads + BigInt(n * HEAD.size);
  }

  /** A copy: its place is taken by the next burst. */
  message(n: number): Buffer {
    const at = Table.#contents + n * MESSAGE;
    const length = this.#bytes.readUInt32LE(n * HEAD.size + HEAD.moved);
    const message = Buffer.allocUnsafe(length);
    this.#bytes.copy(message, 0, at, at + length);
    return message;
  }

  port(n: number): number {
    return this.#bytes.readUInt16BE(Table.#names + n * NAME.size + NAME.port);
  }

  address(n: number): number {
    return this.#bytes.readUInt32BE(Table.#names + n * NAME.size + NAME.address);
  }

  /** At place `n`. False when it is too long. */
  put(n: number, contents: Uint8Array): boolean {
    if (contents.length > MESSAGE) return false;
    this.#bytes.set(contents, Table.#contents + n * MESSAGE);
    this.#bytes.writeUInt32LE(contents.length, Table.#vectors + n * VECTOR.size + VECTOR.length);
    return true;
  }

  /** Place `n` is for whoever has sent message `sender` of `from`. */
  nameAs(n: number, from: Table, sender: number): void {
    const name = Table.#names + sender * NAME.size;
    from.#bytes.copy(this.#bytes, Table.#names + n * NAME.size, name, name + NAME.size);
  }

  name(n: number, address: Uint8Array, port: number): void {
    const name = Table.#names + n * NAME.size;
    this.#bytes.fill(0, name, name + NAME.size);
    this.#bytes.writeUInt16LE(AF_INET, name);
    this.#bytes.writeUInt16BE(port, name + NAME.port);
    this.#bytes.set(address, name + NAME.address);
  }
}
