/* The resolver behind real sockets of 127.0.0.1, and clients that behave badly. */
import { createSocket } from 'node:dgram';
import { connect, type Socket } from 'node:net';
import * as packet from 'dns-packet';
import t from 'tap';
import { ip } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import { Forwarder } from './forwarder.ts';
import { noise } from './fuzz.ts';
import { QueryLog, type QueryEvent } from './query-log.ts';
import { type Door, Resolver } from './resolver.ts';
import { type Patience, serveTcp, serveUdp } from './server.ts';
import { Upstream } from './upstream.ts';
import { Zone } from './zone.ts';

interface World {
  readonly port: number;
  readonly events: readonly QueryEvent[];
  readonly faults: readonly unknown[];
}

/** The resolver on a free port, with a server to forward to that never answers. */
async function world(t: { teardown(fn: () => Promise<void>): unknown }, patience?: Patience): Promise<World> {
  const zone = new Zone();
  zone.putNetwork({ id: 'n', name: 'demo', internal: false, subnets: [prefix('10.1.0.0/16')] });
  for (let n = 1; n <= 60; n += 1) {
    const names = [`web${n}`, 'all'];
    zone.putHost({ id: `e${n}`, network: 'n', owner: 'o', names, addresses: [ip(`10.1.0.${n}`)], ports: [] });
  }
  const silent = createSocket('udp4');
  await new Promise<void>((done) => silent.bind(0, '127.0.0.1', done));
  const upstream = new Upstream('127.0.0.1', silent.address().port);
  const log = new QueryLog();
  const events: QueryEvent[] = [];
  const faults: unknown[] = [];
  log.listen((event) => events.push(event));
  const forwarder = new Forwarder({ capacity: 256 });
  const resolver = new Resolver({
    zone,
    forwarder,
    log,
    upstreams: () => [upstream],
    onFault: (error) => faults.push(error),
  });
  const door: Door = { name: 'test', view: () => zone.hostView(), owner: (client) => client };
  const probe = createSocket('udp4');
  await new Promise<void>((done) => probe.bind(0, '127.0.0.1', done));
  const { port } = probe.address();
  await new Promise<void>((done) => probe.close(done));
  const serving = [
    await serveUdp({ address: '127.0.0.1', port }, 4, door, resolver),
    await serveTcp({ address: '127.0.0.1', port }, door, resolver, patience),
  ];
  t.teardown(async () => {
    forwarder.close();
    await Promise.all(serving.map((one) => one.close()));
    silent.close();
  });
  return { port, events, faults };
}

function query(name: string, id = 1, type: packet.RecordType = 'A'): Buffer {
  return packet.encode({ type: 'query', id, flags: packet.RECURSION_DESIRED, questions: [{ type, name }] });
}

/** The reply by UDP, within a moment. */
function askOnce(port: number, message: Buffer): Promise<packet.DecodedPacket | undefined> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4');
    const timer = setTimeout(() => {
      socket.close();
      resolve(undefined);
    }, 300);
    socket.on('message', (reply) => {
      clearTimeout(timer);
      socket.close();
      resolve(packet.decode(reply));
    });
    socket.send(message, port, '127.0.0.1');
  });
}

/** As a stub resolver does: a few times. What the kernel had no room for was nobody's fault here. */
async function ask(port: number, message: Buffer): Promise<packet.DecodedPacket | undefined> {
  for (let n = 0; n < 50; n += 1) {
    const reply = await askOnce(port, message);
    if (reply !== undefined) return reply;
  }
  return undefined;
}

const framed = (message: Buffer) =>
  Buffer.concat([Buffer.of(message.length >> 8, message.length & 255), message]);

/** A connection, and the ids of the replies on it in their order. */
async function dial(port: number): Promise<{ socket: Socket; ids: number[]; closed: Promise<void> }> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  const ids: number[] = [];
  let held = Buffer.alloc(0);
  socket.on('data', (part: Buffer) => {
    held = Buffer.concat([held, part]);
    while (held.length >= 2 && held.length >= 2 + held.readUInt16BE(0)) {
      ids.push(held.readUInt16BE(2));
      held = held.subarray(2 + held.readUInt16BE(0));
    }
  });
  const closed = new Promise<void>((resolve) =>
    socket.on('close', () => {
      resolve();
    }),
  );
  await new Promise((done) => socket.once('connect', done));
  return { socket, ids, closed };
}

const until = async (what: () => boolean) => {
  for (let n = 0; n < 2_000 && !what(); n += 1) await new Promise((done) => setTimeout(done, 10));
  return what();
};

t.test('UDP: cut where it is too long, whole by TCP', async (t) => {
  const { port, events } = await world(t);
  const cut = await ask(port, query('all'));
  t.equal(cut?.flag_tc, true);
  const { socket, ids } = await dial(port);
  socket.write(framed(query('all', 9)));
  t.ok(await until(() => ids.length === 1));
  t.match(events, [
    {
      door: 'test',
      client: '127.0.0.1',
      transport: 'udp',
      name: 'all',
      rule: 'name',
      rcode: 'NOERROR',
      answers: 30,
    },
    { transport: 'tcp', answers: 60 },
  ]);
  socket.destroy();
});

t.test('TCP: several questions, answered as the answers come (D14)', async (t) => {
  const { port } = await world(t);
  const { socket, ids } = await dial(port);
  const messages = [query('hangs.example', 1), query('web1', 2), query('web2', 3), query('nobody', 4)];
  const bytes = Buffer.concat(messages.map(framed));
  // In pieces that have nothing to do with the messages.
  for (let at = 0; at < bytes.length; at += 5) socket.write(bytes.subarray(at, at + 5));
  t.ok(await until(() => ids.length === 3));
  t.same(ids, [2, 3, 4], 'the one that hangs keeps nobody waiting');
  socket.destroy();
});

t.test('TCP: too many questions at once wait, and none is lost', async (t) => {
  const { port } = await world(t);
  const { socket, ids } = await dial(port);
  socket.write(Buffer.concat(Array.from({ length: 500 }, (_, n) => framed(query('web1', n)))));
  t.ok(await until(() => ids.length === 500));
  socket.destroy();
});

t.test('TCP: who asks more than is answered is not read from any more', async (t) => {
  const { port } = await world(t, { idle: 600_000, message: 600_000 });
  const { socket } = await dial(port);
  for (let n = 0; n < 64; n += 1) socket.write(framed(query(`hangs${n}.example`, n)));
  // More than lies in the buffers of the kernel, on either side.
  const size = 32 * 2 ** 20;
  const many = Buffer.concat(Array<Buffer>(2_000).fill(framed(query('hangs.example', 1))));
  let sent = 0;
  const more = () => {
    sent += many.length;
    if (sent < size && !socket.destroyed) socket.write(many, more);
  };
  socket.write(many, more);
  for (let [before, still] = [-1, 0]; still < 5; before = sent) {
    await new Promise((done) => setTimeout(done, 50));
    still = sent === before ? still + 1 : 0;
  }
  t.ok(sent < size, `${sent} bytes are taken, and no more`);
  socket.destroy();
});

t.test('TCP: what is no question does not count among those that wait', async (t) => {
  const { port } = await world(t);
  const { socket, ids } = await dial(port);
  socket.write(Buffer.concat(Array.from({ length: 200 }, () => framed(Buffer.from('nonsense')))));
  socket.write(framed(query('web1', 7)));
  t.ok(await until(() => ids.length === 1));
  socket.destroy();
});

t.test('thousands of idle connections: newcomers are served, and who goes on asking', async (t) => {
  const { port } = await world(t, { idle: 600_000, message: 600_000 });
  const first = await dial(port);
  const idle: Socket[] = [];
  for (let n = 0; n < 500; n += 1) {
    idle.push((await dial(port)).socket);
    if (n % 100 !== 99) continue;
    first.socket.write(framed(query('web1', n)));
    t.ok(await until(() => first.ids.includes(n)), 'the oldest connection is not an idle one');
  }
  first.socket.destroy();
  const { socket, ids } = await dial(port);
  socket.write(framed(query('web1', 5)));
  t.ok(await until(() => ids.length === 1));
  t.ok(await until(() => idle.filter((one) => one.closed).length >= 300), 'the oldest made room');
  for (const one of [...idle, socket]) one.destroy();
});

t.test('a message that comes byte by byte is not waited for for ever', async (t) => {
  const { port } = await world(t, { idle: 60_000, message: 200 });
  const { socket, closed } = await dial(port);
  // What comes is less than there would have to be.
  socket.write(Buffer.of(255, 255));
  const drip = setInterval(() => socket.write(Buffer.of(0)), 20);
  await closed;
  clearInterval(drip);
  t.pass('closed by the server');
});

t.test('a connection on which nobody asks is not kept', async (t) => {
  const { port } = await world(t, { idle: 200, message: 60_000 });
  const { socket, ids, closed } = await dial(port);
  socket.write(framed(query('web1', 3)));
  t.ok(await until(() => ids.length === 1));
  await closed;
  t.pass('closed by the server');
});

t.test('noise: no answer too many, no fault, and others are served', async (t) => {
  const { port, faults } = await world(t);
  const socket = createSocket('udp4');
  let n = 0;
  for (const bytes of noise(20_000, 7)) {
    socket.send(bytes, port, '127.0.0.1');
    if ((n += 1) % 200 === 0) await new Promise((done) => setImmediate(done));
    if (n % 5_000 === 0)
      t.match(await ask(port, query('web1', n & 0xffff)), { answers: [{ data: '10.1.0.1' }] });
  }
  socket.close();
  t.same(faults, []);
});
