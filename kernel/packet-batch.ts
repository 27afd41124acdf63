/**
 * Datagrams received and sent many at a time by a thread that moves packets: one recvmmsg(2) and one sendmmsg(2) for up to 64, of any size
 * that UDP has, to and from either family. The places stand still, so that a frame is read into where it is sent from.
 */
import { KernelError } from './kernel.ts';
import { HEAD, VECTOR } from './message-header.ts';
import type { Syscalls } from './syscall.ts';

/** Places of a batch. */
export const BATCH = 64;
/** struct sockaddr_in6, the longer one. */
const NAME_BYTES = 28;
const VECTORS = BATCH * HEAD.size;
const NAMES = VECTORS + BATCH * VECTOR.size;
const PLACES = NAMES + BATCH * NAME_BYTES;

/** For one direction: receiving leaves marks of its own in the headers. */
export class PacketBatch {
  readonly #sys: Syscalls;
  readonly #address: bigint;
  readonly #bytes: Buffer;
  readonly #room: number;
  readonly #places: readonly Buffer[];
  readonly #names: readonly Buffer[];
  #queued = 0;

  /** @param room bytes of a place. */
  constructor(sys: Syscalls, room: number) {
    this.#sys = sys;
    this.#room = room;
    const { address, bytes } = sys.memory(PLACES + BATCH * room);
    this.#address = address;
    this.#bytes = bytes;
    const numbers = Array.from({ length: BATCH }, (_, n) => n);
    this.#places = numbers.map((n) => bytes.subarray(PLACES + n * room, PLACES + (n + 1) * room));
    this.#names = numbers.map((n) => bytes.subarray(NAMES + n * NAME_BYTES, NAMES + (n + 1) * NAME_BYTES));
    for (const n of numbers) {
      this.#point(n * HEAD.size + HEAD.name, NAMES + n * NAME_BYTES);
      this.#point(n * HEAD.size + HEAD.vector, VECTORS + n * VECTOR.size);
      bytes.writeUInt32LE(1, n * HEAD.size + HEAD.vectorLength);
      this.#vector(n, n, room);
    }
  }

  /** Nothing of it may be touched after that. */
  close(): void {
    this.#sys.free(this.#address);
  }

  #point(at: number, to: number): void {
    this.#bytes.writeBigUInt64LE(this.#address + BigInt(to), at);
  }

  #vector(n: number, place: number, length: number): void {
    const at = VECTORS + n * VECTOR.size;
    this.#point(at + VECTOR.base, PLACES + place * this.#room);
    this.#bytes.writeUInt32LE(length, at + VECTOR.length);
  }

  /** How many datagrams were there: they stand in the places from 0 on. @throws KernelError such as ECONNREFUSED of one that was sent before */
  receive(fd: number): number {
    for (let n = 0; n < BATCH; n += 1) this.#bytes.writeUInt32LE(NAME_BYTES, n * HEAD.size + HEAD.nameLength);
    return this.#sys.receiveMany(fd, this.#address, BATCH);
  }

  /** A view, good until the next `receive`; what was longer than a place is cut. */
  received(n: number): Buffer {
    return this.place(n).subarray(0, this.#bytes.readUInt32LE(n * HEAD.size + HEAD.moved));
  }

  /** As a socket address. */
  sender(n: number): Buffer {
    return this.#names[n] ?? Buffer.alloc(0);
  }

  place(n: number): Buffer {
    return this.#places[n] ?? Buffer.alloc(0);
  }

  get isFull(): boolean {
    return this.#queued === BATCH;
  }

  /** What stands in a place goes to an address with the next `send`, and stays there until then. One place may go to many. */
  queue(place: number, length: number, to: Uint8Array): void {
    const n = this.#queued;
    this.#names[n]?.set(to);
    this.#bytes.writeUInt32LE(to.length, n * HEAD.size + HEAD.nameLength);
    this.#vector(n, place, length);
    this.#queued += 1;
  }

  /** How many of those in the queue were sent, and how many there was no room for; the others are told of one by one. */
  send(fd: number, onError: (errno: string) => void): { readonly sent: number; readonly unsent: number } {
    const queued = this.#queued;
    this.#queued = 0;
    let sent = 0;
    for (let done = 0; done < queued;) {
      try {
        const heads = this.#address + BigInt(done * HEAD.size);
        const more = this.#sys.sendMany(fd, heads, queued - done);
        if (more === 0) return { sent, unsent: queued - done };
        done += more;
        sent += more;
      } catch (error) {
        if (!(error instanceof KernelError)) throw error;
        // It is the first of the rest that failed, such as with ENETUNREACH; the others are still to go.
        onError(error.errno);
        done += 1;
      }
    }
    return { sent, unsent: 0 };
  }
}
