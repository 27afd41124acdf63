/**
 * As much of the registry protocol (OCI distribution specification 1.1) as `docker plugin push` and `docker plugin
 * upgrade` use, in memory: `node registry.ts PORT`, on the loopback interface, for anybody who can reach it there.
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';

interface Content {
  readonly type: string;
  readonly bytes: Buffer;
}

/** Blobs and manifests by digest, manifests also by tag. */
const contents = new Map<string, Content>();

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function digestOf(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://registry');
  const [, , kind, name] = /^\/v2\/(.+)\/(blobs\/uploads|blobs|manifests)\/(.*)$/.exec(url.pathname) ?? [];
  const body = await bodyOf(request);
  if (url.pathname === '/v2/') response.writeHead(200).end();
  else if (kind === 'blobs/uploads' && request.method === 'POST')
    response.writeHead(202, { Location: `${url.pathname}1` }).end();
  else if (request.method === 'PUT' && kind !== undefined && name !== undefined) put(kind, name, body);
  else get(name ?? '');

  function put(kind: string, name: string, bytes: Buffer): void {
    const digest = digestOf(bytes);
    const type = request.headers['content-type'] ?? 'application/octet-stream';
    contents.set(digest, { type, bytes });
    if (kind === 'manifests') contents.set(name, { type, bytes });
    response.writeHead(201, { 'Docker-Content-Digest': digest, Location: url.pathname }).end();
  }

  function get(key: string): void {
    const found = contents.get(key);
    if (found === undefined) {
      response.writeHead(404).end();
      return;
    }
    const { type, bytes } = found;
    const headers = {
      'Content-Type': type,
      'Content-Length': bytes.length,
      'Docker-Content-Digest': digestOf(bytes),
    };
    response.writeHead(200, headers).end(request.method === 'HEAD' ? undefined : bytes);
  }
}

createServer((request, response) => {
  void answer(request, response);
}).listen(Number(process.argv[2]), '127.0.0.1', () => {
  process.stdout.write('ready\n');
});
