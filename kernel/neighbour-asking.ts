/** Asks who has an address, by packet sockets (packet(7)) on links of any namespace, and hears all that is said about it there. */
import { close, closeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Asker, NeighbourSaying } from './kernel.ts';
import { KernelError } from './kernel.ts';
import { question, readNeighbourFrame } from './neighbour-question.ts';
import { withNetns } from './netns.ts';
import type { Syscalls } from './syscall.ts';
import type { Ip } from '../address/ip.ts';

const AF_PACKET = 17;
const SOCK_RAW_CLOEXEC = 0o2000003;
const ETH_P_ALL = 0x0003;
const SOCKADDR_LL_LENGTH = 20;
const PACKET_TYPE_AT = 10;
const PACKET_OUTGOING = 4;
const SIOCGIFINDEX = 0x8933;
/** struct ifreq: the name, then a union of 24 bytes. */
const IFREQ = { size: 40, name: 16 } as const;
/** What a question or an answer is recognised by. */
const HEAD_BYTES = 128;
/** As many times as DAD may ask (RFC 5227 section 1.1, PROBE_NUM). */
const ROUNDS = 3;
const LOOK_EVERY_MS = 10;

/** @throws KernelError ENODEV when a link is not there, ENETDOWN when it is down, EPERM without CAP_NET_RAW. */
export async function askNeighbours(
  sys: Syscalls,
  askers: readonly Asker[],
  addresses: readonly Ip[],
  patience: number,
): Promise<readonly NeighbourSaying[]> {
  const ears: Ear[] = [];
  const heard: NeighbourSaying[] = [];
  try {
    for (const asker of askers) ears.push(listen(sys, asker));
    for (let round = 0; round < ROUNDS && !isAnswered(heard, askers); round += 1) {
      for (const { fd, to, asker } of ears)
        for (const address of addresses) sys.sendTo(fd, question(address, asker.mac), to);
      await hear(sys, ears, addresses, heard, performance.now() + patience / ROUNDS);
    }
    return heard;
  } finally {
    // On another thread: the kernel lets all processors pass before it closes one (packet_release(), synchronize_net()).
    for (const { fd } of ears) close(fd);
  }
}

interface Ear {
  readonly asker: Asker;
  readonly fd: number;
  /** struct sockaddr_ll: by which link. */
  readonly to: Buffer;
}

function listen(sys: Syscalls, asker: Asker): Ear {
  const open = (): Ear => {
    const fd = sys.socket(AF_PACKET, SOCK_RAW_CLOEXEC, 0);
    try {
      const request = Buffer.alloc(IFREQ.size);
      request.write(asker.link, 0, IFREQ.name - 1);
      sys.ioctl(fd, SIOCGIFINDEX, request);
      const to = Buffer.alloc(SOCKADDR_LL_LENGTH);
      to.writeUInt16LE(AF_PACKET, 0);
      // In network byte order.
      to.writeUInt16BE(ETH_P_ALL, 2);
      to.writeInt32LE(request.readInt32LE(IFREQ.name), 4);
      sys.bind(fd, to);
      return { asker, fd, to };
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  };
  return asker.netns === undefined ? open() : withNetns(sys, asker.netns, open);
}

async function hear(
  sys: Syscalls,
  ears: readonly Ear[],
  addresses: readonly Ip[],
  heard: NeighbourSaying[],
  until: number,
): Promise<void> {
  const [into, from] = [Buffer.alloc(HEAD_BYTES), Buffer.alloc(SOCKADDR_LL_LENGTH)];
  while (performance.now() < until) {
    for (const { asker, fd } of ears) {
      for (;;) {
        const length = received(sys, fd, into, from);
        if (length === undefined) break;
        const frame = readNeighbourFrame(into.subarray(0, Math.min(length, HEAD_BYTES)));
        if (frame === undefined || !addresses.includes(frame.address)) continue;
        heard.push({ ...frame, by: asker.link, outgoing: from[PACKET_TYPE_AT] === PACKET_OUTGOING });
      }
    }
    if (ears.every(({ asker }) => isAnswered(heard, [asker]))) return;
    await sleep(LOOK_EVERY_MS);
  }
}

/** A link that goes down or away meanwhile hears nothing more. */
function received(sys: Syscalls, fd: number, into: Buffer, from: Buffer): number | undefined {
  try {
    return sys.receive(fd, into, from);
  } catch (error) {
    if (error instanceof KernelError) return undefined;
    throw error;
  }
}

function isAnswered(heard: readonly NeighbourSaying[], askers: readonly Asker[]): boolean {
  return askers.every(({ link, mac }) =>
    heard.some(({ what, by, to }) => what === 'answer' && by === link && to === mac),
  );
}
