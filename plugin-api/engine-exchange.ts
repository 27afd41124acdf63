/** One request to the Docker Engine, over its API socket. */
import { request } from 'node:http';

export interface EngineRequest {
  readonly socket: string;
  readonly method: string;
  readonly path: string;
  readonly body?: object | undefined;
  readonly signal: AbortSignal;
}

export interface EngineReply {
  readonly status: number;
  readonly text: string;
}

/** Thousands of containers on one network stay far below it. */
const REPLY_MAX = 64 * 2 ** 20;

/** @throws when there is no reply, when it is cut off, too long or, by `signal`, too late. */
export function exchange({ socket, method, path, body, signal }: EngineRequest): Promise<EngineReply> {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { 'Content-Type': 'application/json' };
    const asked = request({ socketPath: socket, method, path, agent: false, headers, signal }, (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        chunks.push(chunk);
        if (size > REPLY_MAX)
          asked.destroy(new Error(`${method} ${path}: the reply is over ${REPLY_MAX} bytes`));
      });
      response.on('error', reject);
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') });
      });
    });
    asked.on('error', reject);
    asked.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
