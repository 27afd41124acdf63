/** A second socket in Docker's plugin folder that passes every call on to ours, and keeps what was said. */
import { createServer, type IncomingMessage } from 'node:http';
import { PLUGIN_FOLDER } from '../lab/cnmd.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import type { Owner } from '../lab/lab.ts';
import { unixHttp } from '../lab/unix-http.ts';

export type Json = Readonly<Record<string, unknown>>;

export interface Exchange {
  /** `NetworkDriver.Join` */
  readonly method: string;
  readonly headers: IncomingMessage['headers'];
  /** Empty for a call without arguments. */
  readonly text: string;
  readonly request: Json;
  readonly status: number;
  /** What Docker got, decoded. */
  readonly reply: Json;
}

/** What Docker is told in the place of our answer; undefined = our answer. */
export type Alter = (method: string, request: Json, reply: Json) => Json | undefined;

export interface Recorder {
  readonly exchanges: readonly Exchange[];
  /** Of one call, in the order in which they were answered. */
  of(method: string): readonly Exchange[];
}

/** `driver`: the name under which `docker network create -d` finds it. Gone when the test that owns it ends. */
export async function record(t: Owner, h: DockerHost, driver: string, alter?: Alter): Promise<Recorder> {
  const exchanges: Exchange[] = [];
  const pass = async (request: IncomingMessage): Promise<Exchange> => {
    const method = (request.url ?? '').slice(1);
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString();
    const sent = text === '' ? {} : (JSON.parse(text) as Json);
    const answer = await unixHttp(h.outside(`${PLUGIN_FOLDER}/cnm-bridge.sock`), 'POST', `/${method}`, text);
    const reply = alter?.(method, sent, answer.body as Json) ?? (answer.body as Json);
    return { method, headers: request.headers, text, request: sent, status: answer.status, reply };
  };
  const server = createServer((request, response) => {
    pass(request).then(
      (exchange) => {
        exchanges.push(exchange);
        response.writeHead(exchange.status).end(JSON.stringify(exchange.reply));
      },
      (error: unknown) => response.writeHead(500).end(String(error)),
    );
  });
  // dockerd keeps connections for later, and would meet one that Node closes at that moment.
  server.keepAliveTimeout = 0;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(h.outside(`${PLUGIN_FOLDER}/${driver}.sock`), resolve);
  });
  t.teardown(
    () =>
      new Promise<void>((resolve) => {
        server.close(() => {
          resolve();
        });
        server.closeAllConnections();
      }),
  );
  return { exchanges, of: (method) => exchanges.filter((exchange) => exchange.method === method) };
}
