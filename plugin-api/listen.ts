/** HTTP on a unix socket, as Docker's plugin client needs it: for the plugins' sockets and for the admin socket. */
import { chmod, lstat, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { RequestListener, Server } from 'node:http';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { basename, dirname, join } from 'node:path';
import type { Duplex } from 'node:stream';

export interface ListenOptions {
  /** Permissions of the socket file, for example 0o600: write permission is the right to connect (unix(7)). */
  readonly mode: number;
  /** Milliseconds within which a request must arrive, once its first byte has. Handlers take as long as they need. Default 30 000. */
  readonly arrival?: number;
  /** Milliseconds that close() waits for requests under way. Default 10 000. */
  readonly drain?: number;
}

export interface Listening {
  readonly path: string;
  /** Removes the socket file, ends idle connections, and waits for what is under way, at most `drain` ms. */
  close(): Promise<void>;
}

/** sun_path of unix(7) holds 108 bytes with the closing NUL; a longer path would be cut off in silence. */
const PATH_MAX_BYTES = 107;
/**
 * Connections that wait while we are busy. On a unix socket one too many is refused at once (EAGAIN), which dockerd makes
 * a second of waiting of. The kernel cuts it to net.core.somaxconn.
 */
const BACKLOG = 4096;
const DRAIN = 10_000;
/** How often close() looks for connections that became idle. */
const DRAIN_STEP = 10;
const ARRIVAL = 30_000;

/**
 * @throws Error when another process answers on `path`, when `path` is no socket, or when it is too long.
 */
export async function listenUnix(
  app: RequestListener,
  path: string,
  options: ListenOptions,
): Promise<Listening> {
  if (Buffer.byteLength(path) > PATH_MAX_BYTES) {
    throw new Error(`Cannot listen on ${path}: a socket's path has at most ${PATH_MAX_BYTES} bytes`);
  }
  await mkdir(dirname(path), { recursive: true });
  await refuseLive(path);
  const server = httpServer(app, options.arrival ?? ARRIVAL);
  const sockets = trackSockets(server);
  await bindInPrivate(server, path, options.mode);
  const { ino } = await lstat(path);
  return {
    path,
    close: () => close(server, sockets, { path, ino }, options.drain ?? DRAIN),
  };
}

/**
 * dockerd keeps its connections open and reuses them. Closing an idle one can cross a request on its way, whose retry
 * then arrives empty (moby issue 35459): therefore no idle connection is ever closed, only requests that do not arrive.
 */
function httpServer(app: RequestListener, arrival: number): Server {
  const server = createServer(
    { headersTimeout: arrival / 3, requestTimeout: arrival, connectionsCheckingInterval: arrival / 6 },
    app,
  );
  server.keepAliveTimeout = 0;
  server.on('clientError', (error: NodeJS.ErrnoException, socket: Duplex) => {
    // Node also counts a connection that has not sent anything yet as a request that is late. Go's client keeps such
    // connections in reserve, when another one became free while it dialled.
    const silent = 'bytesRead' in socket && socket.bytesRead === 0;
    if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT' && silent) return;
    refuseBytes(socket, error.code);
  });
  return server;
}

/** What cannot even be read as HTTP gets an answer too. */
function refuseBytes(socket: Duplex, code: string | undefined): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const [status, message] =
    code === 'ERR_HTTP_REQUEST_TIMEOUT'
      ? ['408 Request Timeout', 'The request did not arrive in time']
      : code === 'HPE_HEADER_OVERFLOW'
        ? ['431 Request Header Fields Too Large', 'The headers of the request are too large']
        : ['400 Bad Request', 'The request is not HTTP'];
  const body = JSON.stringify({ Err: message });
  const head = [
    `HTTP/1.1 ${status}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
  ];
  socket.end([...head, 'Connection: close', '', body].join('\r\n'), () => socket.destroy());
}

function trackSockets(server: Server): ReadonlySet<Socket> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket) => {
    sockets.add(socket);
    socket.once('close', () => sockets.delete(socket));
  });
  return sockets;
}

/** A socket file outlives the process that made it. Only one that refuses connections is stale. */
async function refuseLive(path: string): Promise<void> {
  const found = await lstat(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new Error(`Cannot listen on ${path}: a file that is no socket is there; move it away`);
  }
  const errno = await dial(path);
  if (errno === 'ECONNREFUSED' || errno === 'ENOENT') return;
  throw new Error(
    `Cannot listen on ${path}: another process ${errno === undefined ? 'answers' : `holds it (${errno})`}; ` +
      'stop that one first, or choose another path',
  );
}

/** Why connecting failed, or undefined when it did not. */
function dial(path: string): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(undefined);
    });
    socket.once('error', (error) => {
      resolve(errnoOf(error) ?? error.message);
    });
  });
}

/**
 * Bound inside a directory that only we can enter, given its mode there, and only then moved to its place: at no moment
 * can anybody connect who may not, and a stale file is replaced in one step.
 */
async function bindInPrivate(server: Server, path: string, mode: number): Promise<void> {
  const folder = await mkdtemp(join(dirname(path), `.${basename(path).slice(0, 3)}`));
  try {
    const hidden = join(folder, 's');
    if (Buffer.byteLength(hidden) > PATH_MAX_BYTES) {
      throw new Error(`Cannot listen on ${path}: its folder's path is too long`);
    }
    await listening(server, hidden);
    await chmod(hidden, mode);
    await rename(hidden, path);
  } catch (error) {
    server.close();
    throw error;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function listening(server: Server, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ path, backlog: BACKLOG }, () => {
      server.off('error', reject);
      // Later errors of the listening socket (EMFILE in accept) pass by themselves; they must not end the process.
      server.on('error', () => undefined);
      resolve();
    });
  });
}

interface SocketFile {
  readonly path: string;
  readonly ino: number;
}

async function close(
  server: Server,
  sockets: ReadonlySet<Socket>,
  file: SocketFile,
  drain: number,
): Promise<void> {
  await removeOwn(file);
  const closed = new Promise<void>((resolve) => {
    server.close(() => {
      resolve();
    });
  });
  const sweep = setInterval(() => {
    endIdle(server, sockets);
  }, DRAIN_STEP);
  const deadline = setTimeout(() => {
    server.closeAllConnections();
  }, drain);
  await closed;
  clearInterval(sweep);
  clearTimeout(deadline);
}

/** Connections whose reply is still being written wait for the next sweep: Node counts them as idle already. */
function endIdle(server: Server, sockets: ReadonlySet<Socket>): void {
  const all = [...sockets];
  for (const socket of all) if (socket.bytesRead === 0) socket.destroy();
  if (all.every((socket) => socket.writableLength === 0)) server.closeIdleConnections();
}

/** Not the file of another process that has replaced it. */
async function removeOwn({ path, ino }: SocketFile): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (found?.ino === ino) await rm(path, { force: true });
}

function errnoOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
