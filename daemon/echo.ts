/** Whether a machine answers: an echo request (RFC 792, RFC 4443), which its kernel answers whatever runs there. */
import { randomBytes } from 'node:crypto';
import { familyOf, ip, type Ip } from '../address/ip.ts';
import type { Kernel, ProbeSocket } from '../kernel/kernel.ts';

const ANY = { 4: ip('0.0.0.0'), 6: ip('::') } as const;
const TYPES = { 4: { request: 8, reply: 0 }, 6: { request: 128, reply: 129 } } as const;
const HEADER = 8;
/** Milliseconds for an answer, and between looks for it. */
const PATIENCE_MS = 1000;
const LOOK_MS = 20;

/** False, too, where it cannot be asked: by no socket, or by no way. */
export async function isThere(kernel: Pick<Kernel, 'probeSocket'>, address: Ip): Promise<boolean> {
  const family = familyOf(address);
  let socket: ProbeSocket | undefined;
  try {
    socket = kernel.probeSocket({ kind: 'icmp', address: ANY[family] });
    const mark = randomBytes(16);
    socket.send(request(family, mark), address);
    return await answered(socket, family, mark);
  } catch (error) {
    if (error instanceof Error && 'errno' in error) return false;
    throw error;
  } finally {
    socket?.close();
  }
}

async function answered(socket: ProbeSocket, family: 4 | 6, mark: Buffer): Promise<boolean> {
  const end = performance.now() + PATIENCE_MS;
  while (performance.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    const heard: Buffer[] = [];
    socket.drain((message) => heard.push(message));
    if (heard.some((message) => message[0] === TYPES[family].reply && message.subarray(HEADER).equals(mark)))
      return true;
  }
  return false;
}

/** The kernel puts in the checksum of ICMPv6 itself (RFC 3542 section 3.1). */
function request(family: 4 | 6, mark: Buffer): Buffer {
  const message = Buffer.concat([Buffer.of(TYPES[family].request, 0, 0, 0, 0, 0, 0, 1), mark]);
  if (family === 4) message.writeUInt16BE(checksum(message), 2);
  return message;
}

/** RFC 1071, of an even number of bytes. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
