/* Datagrams many at a time, on sockets of the loopback interface; the other side is node:dgram. */
import { createSocket, type Socket } from 'node:dgram';
import { closeSync, readFileSync } from 'node:fs';
import t from 'tap';
import { type Ip, ip } from '../address/ip.ts';
import { bindSockets, socketAddress } from './bound-sockets.ts';
import { BATCH, PacketBatch } from './packet-batch.ts';
import { loadSyscalls } from './syscall.ts';

const sys = loadSyscalls();
const ROOM = 65_600;

async function client(address: Ip): Promise<Socket> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  await new Promise<void>((done) => socket.bind(0, address, done));
  return socket;
}

/** A socket of ours on a port that nobody had. */
async function bound(t: { teardown(fn: () => void): unknown }, address: Ip) {
  const probe = await client(address);
  const { port } = probe.address();
  await new Promise<void>((done) => probe.close(done));
  const [fd = -1] = bindSockets(sys, [{ proto: 'udp', address, port }], undefined);
  t.teardown(() => {
    closeSync(fd);
  });
  return { fd, port };
}

for (const address of [ip('127.0.0.1'), ip('::1')]) {
  t.test(`received with their senders, of any size: ${address}`, async (t) => {
    const { fd, port } = await bound(t, address);
    const from = await client(address);
    t.teardown(() => from.close());
    const batch = new PacketBatch(sys, ROOM);
    t.equal(batch.receive(fd), 0, 'nothing there, and nobody waits');
    const texts = ['', 'a', 'b'.repeat(1500), 'c'.repeat(60_000)];
    for (const text of texts)
      await new Promise((done) => {
        from.send(text, port, address, done);
      });
    const seen: string[] = [];
    while (seen.length < texts.length) {
      const count = batch.receive(fd);
      for (let n = 0; n < count; n += 1) {
        seen.push(batch.received(n).toString());
        const own = socketAddress(address, from.address().port);
        t.same(batch.sender(n).subarray(0, own.length), own);
      }
    }
    t.same(seen, texts);
  });

  t.test(`sent to many, one place to several: ${address}`, async (t) => {
    const { fd } = await bound(t, address);
    const [one, two] = [await client(address), await client(address)];
    t.teardown(() => {
      one.close();
      two.close();
    });
    const heard = [one, two].map((socket) => {
      const texts: string[] = [];
      socket.on('message', (message) => texts.push(message.toString().slice(0, 12)));
      return texts;
    });
    const batch = new PacketBatch(sys, ROOM);
    for (let n = 0; n < BATCH / 2; n += 1) {
      const length = batch.place(n).write(`datagram ${n} `.padEnd(n === 7 ? 9000 : 20));
      for (const { port } of [one.address(), two.address()])
        batch.queue(n, length, socketAddress(address, port));
    }
    t.ok(batch.isFull);
    const none = (errno: string) => t.fail(errno);
    t.same(batch.send(fd, none), { sent: BATCH, unsent: 0 });
    t.same(batch.send(fd, none), { sent: 0, unsent: 0 }, 'each once');
    while (heard.some((texts) => texts.length < BATCH / 2)) await new Promise(setImmediate);
    const wanted = Array.from({ length: BATCH / 2 }, (_, n) => `datagram ${n} `.padEnd(20).slice(0, 12));
    for (const texts of heard) t.same(texts, wanted);
  });
}

t.test('one that cannot be sent keeps the others from nothing', async (t) => {
  const { fd } = await bound(t, ip('127.0.0.1'));
  const to = await client(ip('127.0.0.1'));
  t.teardown(() => to.close());
  const first = new Promise<string>((done) =>
    to.once('message', (message) => {
      done(message.toString());
    }),
  );
  const batch = new PacketBatch(sys, ROOM);
  const length = batch.place(0).write('x');
  // 65,535 bytes are no UDP datagram over IPv4: EMSGSIZE.
  batch.queue(1, 65_535, socketAddress(ip('127.0.0.1'), to.address().port));
  batch.queue(0, length, socketAddress(ip('127.0.0.1'), to.address().port));
  const errors: string[] = [];
  t.same(
    batch.send(fd, (errno) => errors.push(errno)),
    { sent: 1, unsent: 0 },
  );
  t.same(errors, ['EMSGSIZE']);
  t.equal(await first, 'x');
});

t.test('a batch that is closed costs no memory', (t) => {
  const size = () => Number(/^VmSize:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);
  const before = size();
  for (let n = 0; n < 200; n += 1) new PacketBatch(sys, ROOM).close();
  const more = size() - before;
  // KiB: a sixth of what they had together.
  t.ok(more < (200 * BATCH * ROOM) / 1024 / 6, `${more} KiB more`);
  t.end();
});
