import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, get } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { whenReady } from './readiness.ts';

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

/** A server whose handler answers with the path, behind `whenReady`; on an address of the loopback interface. */
async function serve(t: Test, ready: Promise<unknown>, boundMs: number) {
  const answer = (request: IncomingMessage, response: ServerResponse) =>
    response.end(JSON.stringify({ path: request.url }));
  const server = createServer(whenReady(answer, ready, boundMs)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  return (path: string): Promise<Answer> =>
    new Promise((resolve, reject) => {
      get({ host: '127.0.0.1', port, path, agent: false }, (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.on('end', () => {
          resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) });
        });
      }).on('error', reject);
    });
}

t.test('before it is ready: handshakes are answered, other requests wait', async (t) => {
  const { promise, resolve } = Promise.withResolvers<undefined>();
  const ask = await serve(t, promise, 10_000);
  for (const path of ['/Plugin.Activate', '/NetworkDriver.GetCapabilities', '/IpamDriver.GetCapabilities'])
    t.strictSame(await ask(path), { status: 200, body: { path } });
  let answered = false;
  const waiting = ask('/NetworkDriver.CreateNetwork').finally(() => (answered = true));
  await ask('/Plugin.Activate');
  t.notOk(answered, 'CreateNetwork waits');
  resolve(undefined);
  t.strictSame(await waiting, { status: 200, body: { path: '/NetworkDriver.CreateNetwork' } });
  t.strictSame(await ask('/x'), { status: 200, body: { path: '/x' } });
});

t.test(
  'one that waits too long, or for a start that failed, is told so in the form that Docker reads',
  async (t) => {
    const never = await serve(t, new Promise(() => undefined), 20);
    t.match(await never('/NetworkDriver.Join'), { status: 503, body: { Err: /try again/ } });
    const failed = await serve(t, Promise.reject(new Error('no kernel')), 10_000);
    t.match(await failed('/v1/networks'), { status: 503, body: { error: { code: 'unavailable' } } });
  },
);
