import { open } from 'node:fs/promises';
import { request } from 'node:http';
import { basename, dirname } from 'node:path';
import { Readable } from 'node:stream';
import { PATIENCE } from './command.ts';

export interface Reply {
  readonly status: number;
  /** The decoded JSON, or the text where the body is none. `undefined` for an empty body. */
  readonly body: unknown;
  readonly text: string;
}

/**
 * Milliseconds after which somebody who is asked hangs. Twenty containers at once have needed more than a minute for their starts and removals on
 * a machine with ten times more work than processors, with everything as it should be.
 */
const HANGS_MS = 240_000 * PATIENCE;

/** One HTTP request over a UNIX socket, on a connection of its own. An object is sent as JSON, bytes and streams as they are. */
export async function unixHttp(
  socketPath: string,
  method: string,
  path: string,
  body?: unknown,
  timeout = HANGS_MS,
): Promise<Reply> {
  // sun_path has 108 bytes (unix(7)), and a managed plugin's socket seen from outside has more: go by its open folder.
  const folder = await open(dirname(socketPath));
  try {
    return await exchange(`/proc/self/fd/${folder.fd}/${basename(socketPath)}`, method, path, body, timeout);
  } finally {
    await folder.close();
  }
}

function exchange(
  socketPath: string,
  method: string,
  path: string,
  body: unknown,
  timeout: number,
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { socketPath, method, path, agent: false, timeout, headers: headers(body) },
      (incoming) => {
        collect(incoming).then((text) => {
          resolve({ status: incoming.statusCode ?? 0, text, body: decode(text) });
        }, reject);
      },
    );
    outgoing.once('timeout', () =>
      outgoing.destroy(new Error(`${method} ${path}: no answer in ${timeout} ms`)),
    );
    outgoing.once('error', reject);
    if (body instanceof Readable) body.pipe(outgoing);
    else outgoing.end(encode(body));
  });
}

function encode(body: unknown): Buffer | string | undefined {
  return body === undefined || typeof body === 'string' || body instanceof Buffer
    ? body
    : JSON.stringify(body);
}

function headers(body: unknown): Record<string, string | number> {
  if (body === undefined) return {};
  // Docker takes nothing else for a tar, and any type for JSON that says so.
  if (body instanceof Readable) return { 'content-type': 'application/x-tar' };
  return { 'content-type': 'application/json', 'content-length': Buffer.byteLength(encode(body) ?? '') };
}

async function collect(stream: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

function decode(text: string): unknown {
  if (text === '') return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
