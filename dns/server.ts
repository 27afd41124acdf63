/** The sockets of askers. A door has a UDP and a TCP socket, which come as descriptors when they are in another namespace. */
import { createSocket, type Socket as DatagramSocket } from 'node:dgram';
import { createServer, type Server, type Socket } from 'node:net';
import type { Door, Resolver } from './resolver.ts';

/** A bound socket of another namespace, or an address to bind here. A descriptor is ours from now on. */
export type Binding = { readonly fd: number } | { readonly address: string; readonly port: number };

/** As Kernel.drainDatagrams: what has come in and what else waits at a socket, and the answers to it, many in one system call. */
export type Drain = (
  fd: number,
  onDatagram: (message: Buffer, address: string, port: number, answer: (reply: Uint8Array) => void) => void,
  first: { readonly message: Buffer; readonly address: string; readonly port: number },
) => void;

export interface Serving {
  close(): Promise<void>;
}

/** What is in a queue when the answers do not keep up with the queries; the kernel drops what does not fit. Bytes. */
const RECEIVE_BUFFER = 2 ** 20;

/**
 * Resolves when it is bound. With `drain`, `dgram` tells that something has come in, and reads the first; what waits behind it is read, and all
 * is answered, many at a time. It needs a descriptor of IPv4. @throws what bind says: EADDRINUSE, EADDRNOTAVAIL
 */
export async function serveUdp(
  binding: Binding,
  family: 4 | 6,
  door: Door,
  resolver: Resolver,
  drain?: Drain,
): Promise<Serving> {
  const socket = await boundSocket(binding, family);
  let open = true;
  const send = (reply: Buffer, port: number, address: string) => {
    if (open) socket.send(reply, port, address);
  };
  const handle: Parameters<Drain>[1] = (query, address, port, answer) => {
    let here = true;
    resolver.handle(query, 'udp', door, address, (reply) => {
      if (here) answer(reply);
      else send(reply, port, address);
    });
    here = false;
  };
  const batched = drain !== undefined && 'fd' in binding && family === 4 ? binding.fd : undefined;
  socket.on('message', (message, { address, port }) => {
    // libuv may have read on after the socket was closed, and the descriptor may be another's by now.
    if (!open) return;
    if (batched !== undefined) drain?.(batched, handle, { message, address, port });
    // From port 0 anybody can send, and nobody can be answered there: `send` would throw.
    else if (port !== 0)
      resolver.handle(message, 'udp', door, address, (reply) => {
        send(reply, port, address);
      });
  });
  return {
    close: () =>
      new Promise((closed) => {
        open = false;
        socket.close(closed);
      }),
  };
}

async function boundSocket(binding: Binding, family: 4 | 6): Promise<DatagramSocket> {
  // Answers go to addresses: nothing is looked up, so nothing waits for a thread.
  const socket = createSocket({
    type: family === 6 ? 'udp6' : 'udp4',
    lookup: (host, _options, found) => {
      found(null, host, family);
    },
  });
  const { promise, resolve, reject } = Promise.withResolvers<undefined>();
  socket.once('error', reject);
  socket.bind('fd' in binding ? { fd: binding.fd } : { ...binding, exclusive: true }, () => {
    resolve(undefined);
  });
  try {
    await promise;
  } catch (error) {
    socket.close();
    throw error;
  }
  socket.removeListener('error', reject);
  // Such as ENETUNREACH for one client: the others are still to be served.
  socket.on('error', () => undefined);
  try {
    socket.setRecvBufferSize(RECEIVE_BUFFER);
  } catch {
    // The system's own will do.
  }
  return socket;
}

/** A client that cannot be answered has gone. */
const ignore = () => undefined;

/** Per door. RFC 7766 section 6.2.2 leaves it to the server. */
const CONNECTIONS_MAX = 200;
/** Milliseconds without a query, or for the whole of one (RFC 7766 section 6.2.3: in the order of seconds). */
export interface Patience {
  readonly idle: number;
  readonly message: number;
}

const PATIENCE: Patience = { idle: 10_000, message: 5_000 };
/** Queries of one connection that wait for their answers; further ones are not read until then. */
const PIPELINE = 64;
/** Bytes that a client does not fetch. */
const BACKLOG = 2 ** 18;

export async function serveTcp(
  binding: Binding,
  door: Door,
  resolver: Resolver,
  patience = PATIENCE,
): Promise<Serving> {
  const connections = new Set<Socket>();
  const server = createServer({ noDelay: true }, (socket) => {
    // In the order in which they have last said something.
    const heard = () => {
      connections.delete(socket);
      connections.add(socket);
    };
    heard();
    socket.on('data', heard);
    socket.on('close', () => connections.delete(socket));
    serveConnection(socket, door, resolver, patience);
    // The one that has said nothing for the longest time makes room for the newcomer.
    if (connections.size > CONNECTIONS_MAX) [...connections][0]?.destroy();
  });
  await listening(server, binding);
  server.on('error', ignore);
  return {
    close: () =>
      new Promise((closed) => {
        server.close(() => {
          closed();
        });
        for (const socket of connections) socket.destroy();
      }),
  };
}

function listening(server: Server, binding: Binding): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const done = () => {
      server.removeListener('error', reject);
      resolve();
    };
    if ('fd' in binding) server.listen({ fd: binding.fd }, done);
    else server.listen({ host: binding.address, port: binding.port, exclusive: true }, done);
  });
}

/** Messages with their lengths before them (RFC 1035 section 4.2.2), answered as the answers come (RFC 7766 section 6.2.1.1). */
function serveConnection(socket: Socket, door: Door, resolver: Resolver, patience: Patience): void {
  const client = socket.remoteAddress ?? '';
  let held: Buffer = Buffer.alloc(0);
  let waiting = 0;
  let slow: NodeJS.Timeout | undefined;
  const answer = (query: Buffer) => {
    waiting += 1;
    let answered = false;
    const done = (reply?: Buffer) => {
      if (answered) return;
      answered = true;
      waiting -= 1;
      if (reply !== undefined && socket.writable) send(socket, reply);
      if (waiting < PIPELINE && socket.isPaused()) {
        socket.resume();
        read();
      }
    };
    if (!resolver.handle(query, 'tcp', door, client, done)) done();
  };
  const read = () => {
    // Nobody hears the answers to what still lies here.
    if (socket.destroyed) return;
    while (waiting < PIPELINE && held.length >= 2 && held.length >= 2 + held.readUInt16BE(0)) {
      const end = 2 + held.readUInt16BE(0);
      const query = Buffer.from(held.subarray(2, end));
      held = held.subarray(end);
      clearTimeout(slow);
      slow = undefined;
      answer(query);
    }
    if (waiting >= PIPELINE) socket.pause();
    // For the whole message: more bytes, one by one, give no more time.
    else if (held.length > 0) slow ??= setTimeout(() => socket.destroy(), patience.message);
  };
  socket.setTimeout(patience.idle, () => socket.destroy());
  socket.on('error', ignore);
  socket.on('close', () => {
    clearTimeout(slow);
  });
  socket.on('data', (part: Buffer) => {
    held = held.length === 0 ? part : Buffer.concat([held, part]);
    read();
  });
}

function send(socket: Socket, reply: Buffer): void {
  const length = Buffer.alloc(2);
  length.writeUInt16BE(reply.length);
  socket.write(Buffer.concat([length, reply]));
  if (socket.writableLength > BACKLOG) socket.destroy();
}
