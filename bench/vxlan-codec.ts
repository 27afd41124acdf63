/**
 * Frames per second through the VXLAN codec, on one thread: `node bench/vxlan-codec.ts`. Headers alone, as a data plane does it (no view
 * is made), and whole frames with the views that the plain functions give. Nothing of the frame is copied, so its size does not matter;
 * that it does not is shown.
 */
import {
  decodeVxlan,
  encodeVxlan,
  malformedVxlan,
  vniOf,
  writeVxlanHeader,
} from '../drivers/overlay/vxlan.ts';

const ROUNDS = 5;
const FRAMES = 5_000_000;
/** Different datagrams, so that the optimizer cannot take one answer for all: a power of two. */
const DISTINCT = 256;

interface Case {
  readonly name: string;
  readonly bytes: number;
  readonly run: (datagrams: readonly Uint8Array[], index: number) => number;
}

const cases: readonly Case[] = [64, 1500, 9000].flatMap((bytes) => [
  {
    name: 'decode, header',
    bytes,
    run: (datagrams, index) => {
      const datagram = datagrams[index] ?? new Uint8Array();
      return malformedVxlan(datagram) === undefined ? vniOf(datagram) : -1;
    },
  },
  {
    name: 'decode, with the view of the frame',
    bytes,
    run: (datagrams, index) => {
      const decoded = decodeVxlan(datagrams[index] ?? new Uint8Array());
      return decoded.malformed === undefined ? decoded.vni + decoded.frame.length : -1;
    },
  },
  {
    name: 'encode, header',
    bytes,
    run: (datagrams, index) => {
      writeVxlanHeader(datagrams[index] ?? new Uint8Array(8), 0, index);
      return index;
    },
  },
  {
    name: 'encode, with the view of the datagram',
    bytes,
    run: (datagrams, index) => {
      const buffer = datagrams[index] ?? new Uint8Array(8);
      return encodeVxlan(buffer, 8, buffer.length, index).length;
    },
  },
]);

/** The median of the rounds, in frames per second. */
function measure({ bytes, run }: Case): number {
  const datagrams = Array.from({ length: DISTINCT }, (_, index) => {
    const datagram = Buffer.allocUnsafeSlow(8 + bytes).fill(index);
    writeVxlanHeader(datagram, 0, index);
    return datagram;
  });
  const rates: number[] = [];
  let sum = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const began = performance.now();
    for (let frame = 0; frame < FRAMES; frame += 1) sum += run(datagrams, frame & (DISTINCT - 1));
    rates.push((FRAMES / (performance.now() - began)) * 1000);
  }
  if (sum < 0) throw new Error('a frame was refused');
  return rates.sort((a, b) => a - b)[ROUNDS >> 1] ?? 0;
}

process.stdout.write('| what | frame | million frames/s |\n|---|---|---|\n');
for (const one of cases) {
  const rate = (measure(one) / 1e6).toFixed(1);
  process.stdout.write(`| ${one.name} | ${one.bytes} bytes | ${rate} |\n`);
}
