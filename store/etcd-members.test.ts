/** Connections to etcd that do not come about: what answers here speaks HTTP/2 and refuses, as an etcd may that one is not let into. */
import { createServer as createHttp2 } from 'node:http2';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import t, { type Test } from 'tap';
import { until } from '../tests/until.ts';
import { openEtcd } from './etcd.ts';

/** Milliseconds, in which a connection comes about also on a loaded machine. */
const DEADLINE = 1000;

/** PERMISSION_DENIED, of every call. */
function refusing() {
  const server = createHttp2();
  server.on('stream', (stream) => {
    stream.respond(
      { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '7' },
      { endStream: true },
    );
  });
  return server;
}

/** As a proxy is that goes on when what is behind it has gone: the first connections are accepted, and nothing ever comes. */
async function silentFirst(t: Test, count: number) {
  const sockets: Socket[] = [];
  const behind = refusing();
  const server = createServer((socket) => {
    sockets.push(socket);
    if (sockets.length > count) behind.emit('connection', socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, sockets };
}

t.test('a connection that does not come about is made anew', async (t) => {
  const { port, sockets } = await silentFirst(t, 1);
  const store = openEtcd({ members: [`127.0.0.1:${port}`], deadline: DEADLINE });
  t.match(await store.get('a'), { ok: false, reason: 'unreachable' });
  await until('an answer', async () => {
    const found = await store.get('a');
    return !found.ok && found.reason === 'refused';
  });
  const count = sockets.length;
  for (let calls = 0; calls < 5; calls += 1) await store.get('a');
  t.equal(sockets.length, count, 'one that is there is kept');
  await store.close();
});

t.test('with several members, and with a watch that hangs on the former connection', async (t) => {
  const [one, two] = [await silentFirst(t, 1), await silentFirst(t, 1)];
  const members = [one, two].map(({ port }) => `127.0.0.1:${port}`);
  const store = openEtcd({ members, deadline: DEADLINE });
  const told: string[] = [];
  const watch = store.watch(
    'a/',
    (event) => told.push(event.kind === 'interrupted' ? event.message : event.kind),
    1,
  );
  await until('the watch to be answered', async () => {
    await store.get('a');
    return one.sockets.length > 1 && two.sockets.length > 1;
  });
  const found = await store.get('a');
  t.match(found, { ok: false, reason: 'refused' });
  watch.close();
  await store.close();
  t.match(told, [/./], 'it is interrupted once');
});
