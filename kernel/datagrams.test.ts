/* Datagrams many at a time, on sockets of 127.0.0.1; the other side is node:dgram. */
import { createSocket, type Socket } from 'node:dgram';
import { closeSync } from 'node:fs';
import { platform } from 'node:os';
import t from 'tap';
import { ip } from '../address/ip.ts';
import { bindSockets } from './bound-sockets.ts';
import { Datagrams } from './datagrams.ts';
import { loadSyscalls } from './syscall.ts';

t.equal(platform(), 'linux', 'these system calls are there');
const sys = loadSyscalls();
const LOOPBACK = ip('127.0.0.1');

/** A port that nobody has. */
async function freePort(): Promise<number> {
  const probe = await client();
  const { port } = probe.address();
  await new Promise<void>((done) => probe.close(done));
  return port;
}

async function client(): Promise<Socket> {
  const socket = createSocket('udp4');
  await new Promise<void>((done) => socket.bind(0, '127.0.0.1', done));
  return socket;
}

/** A socket of ours, and a way to send to it that resolves when the kernel has it. */
async function server(t: { teardown(fn: () => void): unknown }) {
  const port = await freePort();
  const [fd = -1] = bindSockets(sys, [{ proto: 'udp', address: LOOPBACK, port }], undefined);
  t.teardown(() => {
    closeSync(fd);
  });
  const send = (from: Socket, text: string) =>
    new Promise<void>((resolve, reject) => {
      from.send(text, port, '127.0.0.1', (error) => {
        if (error === null) resolve();
        else reject(error);
      });
    });
  return { fd, send };
}

/** The next `count` datagrams, as texts. */
function heard(socket: Socket, count: number): Promise<readonly string[]> {
  return new Promise((resolve) => {
    const texts: string[] = [];
    socket.on('message', (message) => {
      if (texts.push(message.toString()) === count) resolve(texts);
    });
  });
}

t.test('nothing there: nothing is handed over, and nobody waits', async (t) => {
  const { fd } = await server(t);
  new Datagrams(sys).drain(fd, () => t.fail('there is none'));
});

t.test('more than one burst: each once, in order, and each answered to who sent it', async (t) => {
  const { fd, send } = await server(t);
  const [one, other] = [await client(), await client()];
  t.teardown(() =>
    Promise.all([one, other].map((socket) => new Promise<void>((done) => socket.close(done)))),
  );
  for (let n = 0; n < 75; n += 1) {
    await send(one, `one ${n}`);
    await send(other, `other ${n}`);
  }
  const answers = [heard(one, 75), heard(other, 75)];
  const messages: string[] = [];
  new Datagrams(sys).drain(fd, (message, address, port, answer) => {
    t.equal(address, '127.0.0.1');
    t.equal(port, message.toString().startsWith('one') ? one.address().port : other.address().port);
    messages.push(message.toString());
    answer(Buffer.from(`to ${message.toString()}`));
  });
  const sent = Array.from({ length: 75 }, (_, n) => [`one ${n}`, `other ${n}`]).flat();
  t.same(messages, sent);
  const numbered = (name: string) => Array.from({ length: 75 }, (_, n) => `to ${name} ${n}`);
  t.same(await Promise.all(answers), [numbered('one'), numbered('other')]);
});

t.test(
  'lengths from none to the longest; what is longer is cut, and no answer that long goes out',
  async (t) => {
    const { fd, send } = await server(t);
    const socket = await client();
    t.teardown(() => new Promise<void>((done) => socket.close(done)));
    const lengths = [0, 1, 4096, 4097];
    for (const length of lengths) await send(socket, 'x'.repeat(length));
    const answers = heard(socket, 3);
    const seen: number[] = [];
    new Datagrams(sys).drain(fd, (message, _address, _port, answer) => {
      seen.push(message.length);
      answer(Buffer.alloc(lengths[seen.length - 1] ?? 0, 'y'));
    });
    t.same(seen, [0, 1, 4096, 4096]);
    t.same(
      (await answers).map((text) => text.length),
      [0, 1, 4096],
    );
  },
);

t.test('those that are not answered leave no gap, and messages are their receivers’ own', async (t) => {
  const { fd, send } = await server(t);
  const socket = await client();
  t.teardown(() => new Promise<void>((done) => socket.close(done)));
  const datagrams = new Datagrams(sys);
  const kept: Buffer[] = [];
  for (let n = 0; n < 6; n += 1) await send(socket, `first ${n}`);
  const answers = heard(socket, 2);
  datagrams.drain(fd, (message, _address, _port, answer) => {
    kept.push(message);
    if (kept.length % 3 === 2) answer(message);
  });
  t.same(await answers, ['first 1', 'first 4']);
  for (let n = 0; n < 6; n += 1) await send(socket, `later ${n}`);
  datagrams.drain(fd, () => undefined);
  t.same(
    kept.map(String),
    Array.from({ length: 6 }, (_, n) => `first ${n}`),
  );
});

t.test('one that was read already goes first, and is answered with the rest', async (t) => {
  const { fd, send } = await server(t);
  const [one, other] = [await client(), await client()];
  t.teardown(() =>
    Promise.all([one, other].map((socket) => new Promise<void>((done) => socket.close(done)))),
  );
  const datagrams = new Datagrams(sys);
  const echo =
    (seen: string[]) => (message: Buffer, address: string, port: number, answer: (reply: Buffer) => void) => {
      seen.push(`${message.toString()} ${address} ${port}`);
      answer(Buffer.from(`to ${message.toString()}`));
    };
  const first = (text: string, port = one.address().port) => ({
    message: Buffer.from(text),
    address: '127.0.0.1',
    port,
  });

  const alone: string[] = [];
  const replied = heard(one, 1);
  datagrams.drain(fd, echo(alone), first('alone'));
  t.same(alone, [`alone 127.0.0.1 ${one.address().port}`]);
  t.same(await replied, ['to alone']);

  // More than go in one burst.
  for (let n = 0; n < 70; n += 1) await send(other, `${n}`);
  const [toOne, toOther] = [heard(one, 1), heard(other, 70)];
  const seen: string[] = [];
  datagrams.drain(fd, echo(seen), first('first'));
  t.same(
    seen.map((text) => text.split(' ')[0]),
    ['first', ...Array.from({ length: 70 }, (_, n) => `${n}`)],
  );
  t.same(await toOne, ['to first']);
  t.same(
    await toOther,
    Array.from({ length: 70 }, (_, n) => `to ${n}`),
  );

  datagrams.drain(fd, () => t.fail('nobody can be answered at port 0'), first('nowhere', 0));
});

t.test('a descriptor that is no socket', (t) => {
  new Datagrams(sys).drain(-1, () => t.fail('there is none'));
  t.end();
});
