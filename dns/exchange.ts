/** One question put to one server, from a port of its own. */
import { createSocket, type Socket } from 'node:dgram';
import { connect } from 'node:net';
import { FLAG, HEADER } from './wire.ts';
import type { Upstream } from './upstream.ts';

/** The reply, or why there is none. */
export type Done = (reply: Buffer | Error) => void;

/** Datagrams that do not answer our question are left alone up to this number: then somebody is guessing (RFC 5452 section 9.2). */
const FORGERIES_MAX = 100;

/**
 * By UDP from a random port (RFC 5452 section 4.5): the kernel chooses it, and takes packets of this server only. Answers to other
 * questions are passed over, and the right one waited for. Calls `done` at most once, never before it returns.
 * @returns The way to stop.
 */
export function askUdp({ address, port }: Upstream, message: Buffer, done: Done): () => void {
  const type = address.includes(':') ? 'udp6' : 'udp4';
  // Addresses only: nothing is looked up, and nothing waits.
  const lookup = (
    host: string,
    _options: unknown,
    found: (error: null, address: string, family: number) => void,
  ) => {
    found(null, host, type === 'udp6' ? 6 : 4);
  };
  const socket = createSocket({ type, lookup });
  let forgeries = 0;
  const finish = finishing(() => socket.close(), done);
  socket.on('error', finish.with);
  socket.on('message', (reply: Buffer) => {
    if (answers(reply, message)) finish.with(reply);
    else if ((forgeries += 1) > FORGERIES_MAX)
      finish.with(new Error('too many answers to questions that were not asked'));
  });
  // What is wrong at once (no descriptors, no route) is told at once, and `done` must not be called before we return.
  queueMicrotask(() => {
    if (!finish.over()) start(socket, port, address, message, finish);
  });
  return finish.stop;
}

/** Without a callback, which would be given the error (no route, no permission) in the place of the socket's listeners. */
function start(socket: Socket, port: number, address: string, message: Buffer, { over }: Finish): void {
  // It may have been closed between the connecting and this.
  socket.once('connect', () => {
    if (!over()) socket.send(message);
  });
  socket.connect(port, address);
}

interface Finish {
  readonly with: (outcome: Buffer | Error) => void;
  readonly stop: () => void;
  readonly over: () => boolean;
}

/** Ends once, whatever comes first. */
function finishing(release: () => void, done: Done): Finish {
  let over = false;
  const end = (outcome: Buffer | Error | undefined) => {
    if (over) return;
    over = true;
    release();
    if (outcome !== undefined) done(outcome);
  };
  return {
    with: end,
    stop: () => {
      end(undefined);
    },
    over: () => over,
  };
}

/** RFC 1035 section 4.2.2. A connection for each question: it is rare. */
export function askTcp({ address, port }: Upstream, message: Buffer, done: Done): () => void {
  const socket = connect({ host: address, port });
  const finish = finishing(() => socket.destroy(), done);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(message.length);
  let received = Buffer.alloc(0);
  socket.on('error', finish.with);
  socket.on('close', () => {
    finish.with(new Error('the server closed the connection'));
  });
  socket.on('connect', () => socket.write(Buffer.concat([length, message])));
  socket.on('data', (part: Buffer) => {
    received = Buffer.concat([received, part]);
    if (received.length < 2 || received.length < 2 + received.readUInt16BE(0)) return;
    const reply = received.subarray(2, 2 + received.readUInt16BE(0));
    finish.with(answers(reply, message) ? reply : new Error('it answered another question'));
  });
  return finish.stop;
}

/** Same number, same question in the same letters, and an answer (RFC 5452 section 9.1). */
export function answers(reply: Buffer, message: Buffer): boolean {
  if (reply.length < HEADER || reply.readUInt16BE(0) !== message.readUInt16BE(0)) return false;
  if ((reply.readUInt16BE(2) & (FLAG.QR | FLAG.OPCODE)) !== FLAG.QR) return false;
  // A server that could not read the question leaves it out.
  const failed = (reply[3] ?? 0) & 15;
  if (reply.length === HEADER && reply.readUInt16BE(4) === 0) return failed !== 0;
  const end = questionEnd(message);
  return (
    reply.length >= end &&
    reply.readUInt16BE(4) === 1 &&
    reply.compare(message, HEADER, end, HEADER, end) === 0
  );
}

/** Of a message that we wrote. */
function questionEnd(message: Buffer): number {
  let at = HEADER;
  while ((message[at] ?? 0) !== 0) at += 1 + (message[at] ?? 0);
  return at + 5;
}
