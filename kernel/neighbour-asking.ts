/** Asks who has an address, by packet sockets (packet(7)) on links of any namespace, and hears all that is said about it there. */
import { close } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Asker, NeighbourSaying } from './kernel.ts';
import { KernelError } from './kernel.ts';
import { question, readNeighbourFrame } from './neighbour-question.ts';
import { withNetns } from './netns.ts';
import {
  openPacketSocket,
  PACKET_OUTGOING,
  PACKET_TYPE_AT,
  type PacketSocket,
  SOCKADDR_LL_LENGTH,
  VLAN_TAG_PRESENT,
} from './packet-socket.ts';
import type { Instruction, Syscalls } from './syscall.ts';
import type { Ip } from '../address/ip.ts';

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

interface Ear extends PacketSocket {
  readonly asker: Asker;
}

function listen(sys: Syscalls, asker: Asker): Ear {
  const open = (): Ear => ({ asker, ...openPacketSocket(sys, asker.link, NEIGHBOURS, true) });
  return asker.netns === undefined ? open() : withNetns(sys, asker.netns, open);
}

/** As `tcpdump -dd 'not vlan and (arp or icmp6)'` has it, but for the check of the VLAN tag. */
const NEIGHBOURS: readonly Instruction[] = [
  [0x30, 0, 0, VLAN_TAG_PRESENT],
  [0x15, 0, 5, 0],
  [0x28, 0, 0, 12],
  [0x15, 4, 0, 0x0806],
  [0x15, 0, 2, 0x86dd],
  [0x30, 0, 0, 20],
  [0x15, 1, 0, 58],
  [0x06, 0, 0, 0],
  [0x06, 0, 0, 0xffffffff],
];

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
