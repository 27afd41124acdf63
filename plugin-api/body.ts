/** A request's body as a JSON value, with bounds on what a sender can make us hold or wait for. */
import type { IncomingMessage } from 'node:http';
import { Refusal } from './refusal.ts';

/**
 * How far beyond the limit a body is still read, and thrown away, before the refusal is sent: a client that is cut off
 * while it writes (Go's, curl) reports the broken pipe instead of our answer, and dockerd would even try again.
 */
const DISCARDED = 8;

const megabytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

function tooLarge(seen: number, limit: number): Refusal {
  return new Refusal(413, `The request is larger than ${megabytes(limit)} (${megabytes(seen)} were sent)`);
}

/** The whole body. @throws Refusal 413 when it is over `limit` bytes, 400 when the sender goes away in the middle. */
export function readBody(request: IncomingMessage, limit: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= limit) chunks.push(chunk);
      else chunks.length = 0;
      if (size > limit * DISCARDED) reject(tooLarge(size, limit));
    });
    request.on('end', () => {
      if (size > limit) reject(tooLarge(size, limit));
      else resolve(chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks));
    });
    const broken = (): void => {
      // Every request closes in the end; to make an error, with its stack, costs more than the rest of a short call.
      if (request.readableEnded) return;
      reject(new Refusal(400, `The request broke off after ${size} bytes`));
    };
    request.on('error', broken);
    request.on('close', broken);
  });
}

/**
 * Whatever Content-Type the request has: dockerd sends none. Depth needs no limit of its own: V8 parses JSON without
 * recursion, and nothing here walks down a value that no schema knows.
 * @throws Refusal 400 for what is not JSON.
 */
export function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8')) as unknown;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Refusal(400, `The request is not JSON: ${reason.slice(0, 200)}`, { cause });
  }
}
