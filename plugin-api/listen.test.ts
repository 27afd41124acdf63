import { link, mkdir, mkdtemp, readdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { Agent, get } from 'node:http';
import type { RequestListener } from 'node:http';
import { connect, createServer } from 'node:net';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { listenUnix } from './listen.ts';
import type { Listening, ListenOptions } from './listen.ts';

const hello: RequestListener = (request, response) => {
  request.resume();
  response.end('hello');
};

async function folder(t: Test): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'cnm-listen-'));
  t.teardown(() => rm(path, { recursive: true, force: true }));
  return path;
}

async function listen(
  t: Test,
  app: RequestListener = hello,
  options?: Partial<ListenOptions>,
): Promise<Listening> {
  const path = join(await folder(t), 'plugins', 'cnm-bridge.sock');
  const listening = await listenUnix(app, path, { mode: 0o600, ...options });
  t.teardown(() => listening.close());
  return listening;
}

function ask(socketPath: string, agent?: Agent): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = get({ socketPath, path: '/', agent: agent ?? false }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => (text += chunk.toString()));
      response.on('end', () => {
        resolve(text);
      });
    });
    asked.on('error', reject);
  });
}

/** A connection that sends `text` and no more, and what comes back until the other side closes. */
function talk(path: string, text: string): { socket: Socket; answer: Promise<string> } {
  const socket = connect(path, () => text !== '' && socket.write(text));
  const answer = new Promise<string>((resolve) => {
    let received = '';
    socket.on('data', (chunk) => (received += chunk.toString()));
    socket.on('error', () => undefined);
    socket.on('close', () => {
      resolve(received);
    });
  });
  return { socket, answer };
}

/** One that reads the whole body before it answers, as the plugins do. */
const patient: RequestListener = (request, response) => {
  request.resume();
  request.on('end', () => response.end('hello'));
};

const REQUEST = 'POST / HTTP/1.1\r\nHost: x\r\n';

t.test('the folder is made, the mode set, the file removed, nothing else left', async (t) => {
  const umask = process.umask(0);
  t.teardown(() => process.umask(umask));
  const listening = await listen(t);
  const { path } = listening;
  t.equal((await stat(path)).mode & 0o777, 0o600, 'also under a umask of 0');
  t.same(await readdir(dirname(path)), ['cnm-bridge.sock']);
  t.equal(await ask(path), 'hello');
  await listening.close();
  t.same(await readdir(dirname(path)), []);
});

t.test('L13 a live socket is refused, and goes on', async (t) => {
  const { path } = await listen(t);
  await t.rejects(listenUnix(hello, path, { mode: 0o600 }), {
    message: `Cannot listen on ${path}: another process answers; stop that one first, or choose another path`,
  });
  t.equal(await ask(path), 'hello');
  t.same(await readdir(dirname(path)), ['cnm-bridge.sock']);
});

t.test('L13 a stale socket is replaced', async (t) => {
  const path = join(await folder(t), 'cnm.sock');
  const dead = createServer();
  await new Promise<void>((resolve) => dead.listen(`${path}.dead`, resolve));
  // A second name, which outlives the listener as the file of a killed process does.
  await link(`${path}.dead`, path);
  await new Promise((resolve) => dead.close(resolve));
  t.ok((await stat(path)).isSocket());
  const listening = await listenUnix(hello, path, { mode: 0o660 });
  t.teardown(() => listening.close());
  t.equal(await ask(path), 'hello');
  t.equal((await stat(path)).mode & 0o777, 0o660);
});

t.test('what is no socket is left alone, and so is a path that cannot be one', async (t) => {
  const inside = await folder(t);
  const file = join(inside, 'notes');
  await writeFile(file, 'mine');
  await t.rejects(listenUnix(hello, file, { mode: 0o600 }), { message: /a file that is no socket is there/ });
  const long = join(inside, 'x'.repeat(100));
  await t.rejects(listenUnix(hello, long, { mode: 0o600 }), { message: /at most 107 bytes/ });
  await mkdir(join(inside, 'y'.repeat(60)));
  t.same((await readdir(inside)).sort(), ['notes', 'y'.repeat(60)]);
});

t.test("close leaves another process's file alone", async (t) => {
  const listening = await listen(t);
  const { path } = listening;
  await rename(path, `${path}.old`);
  await writeFile(path, 'another');
  await listening.close();
  t.same((await readdir(dirname(path))).sort(), ['cnm-bridge.sock', 'cnm-bridge.sock.old']);
});

t.test(
  "an idle connection is never closed: not after Node's 5 s, not before its first request",
  async (t) => {
    const { path } = await listen(t, hello, { arrival: 300 });
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    t.teardown(() => {
      agent.destroy();
    });
    let closed = 0;
    agent.on('free', (socket: Socket) => socket.once('close', () => (closed += 1)));
    await ask(path, agent);
    const silent = talk(path, '');
    await sleep(7000);
    t.equal(closed, 0);
    t.equal(await ask(path, agent), 'hello');
    t.notOk(silent.socket.destroyed, 'twenty times the arrival time passed in silence');
    silent.socket.write(`${REQUEST}Content-Length: 0\r\nConnection: close\r\n\r\n`);
    t.match(await silent.answer, /^HTTP\/1\.1 200 OK[^]*hello$/);
  },
);

t.test('requests that do not arrive end: half a header, half a body, no HTTP at all', async (t) => {
  const { path } = await listen(t, patient, { arrival: 300 });
  const broken = [
    ['half a header', 'POST /x HTT', /^HTTP\/1\.1 408 [^]*{"Err":"The request did not arrive in time"}$/],
    [
      'half a body',
      `${REQUEST}Content-Length: 9\r\n\r\nabc`,
      /^HTTP\/1\.1 408 [^]*{"Err":"The request did not arrive in time"}$/,
    ],
    ['no HTTP', 'EHLO example.com\r\n\r\n', /^HTTP\/1\.1 400 [^]*{"Err":"The request is not HTTP"}$/],
    ['huge headers', `${REQUEST}X: ${'x'.repeat(1e5)}\r\n\r\n`, /^HTTP\/1\.1 431 [^]*{"Err":"The headers/],
  ] as const;
  for (const [what, text, answer] of broken) t.match(await talk(path, text).answer, answer, what);
  t.equal(await ask(path), 'hello');
});

t.test('a handler may take longer than a request may to arrive', async (t) => {
  const slow: RequestListener = (request, response) => {
    request.resume();
    setTimeout(() => response.end('late'), 600);
  };
  const { path } = await listen(t, slow, { arrival: 300 });
  t.equal(await ask(path), 'late');
});

t.test('a client that closes its half after asking is still answered', async (t) => {
  const { path } = await listen(t);
  const { socket, answer } = talk(path, '');
  socket.end(`${REQUEST}Content-Length: 0\r\n\r\n`);
  t.match(await answer, /hello$/);
});

t.test('two thousand connections that say nothing do not keep the next one out', async (t) => {
  const { path } = await listen(t);
  const crowd = Array.from({ length: 2000 }, () => talk(path, ''));
  t.equal(await ask(path), 'hello');
  for (const { socket } of crowd) socket.destroy();
  t.equal(await ask(path), 'hello');
});

t.test('close waits for what is under way, and ends what is idle', async (t) => {
  let arrived = (): void => undefined;
  const begun = new Promise<void>((resolve) => (arrived = resolve));
  const slow: RequestListener = (request, response) => {
    request.resume();
    arrived();
    setTimeout(() => response.end('late'), 200);
  };
  const listening = await listen(t, slow);
  const silent = talk(listening.path, '');
  const asked = ask(listening.path, new Agent({ keepAlive: true }));
  await begun;
  const started = performance.now();
  const closing = listening.close();
  t.equal(await asked, 'late');
  await closing;
  // Of the 10 s that it would wait for what does not end.
  t.ok(performance.now() - started < 8000, 'and no longer than that');
  await silent.answer;
  await t.rejects(ask(listening.path), { code: 'ENOENT' });
});

t.test('close does not wait for ever', async (t) => {
  let started = (): void => undefined;
  const begun = new Promise<void>((resolve) => (started = resolve));
  const listening = await listen(
    t,
    () => {
      started();
    },
    { drain: 50 },
  );
  const asked = t.rejects(ask(listening.path), { code: 'ECONNRESET' });
  await begun;
  await listening.close();
  await asked;
});
