/* The resolver between a door of tests and a server of 127.0.0.1 that knows every name. */
import { createSocket } from 'node:dgram';
import * as packet from 'dns-packet';
import t from 'tap';
import { prefix } from '../address/prefix.ts';
import { Forwarder } from './forwarder.ts';
import { QueryLog } from './query-log.ts';
import { type Door, Resolver, type ResolverParts } from './resolver.ts';
import { Upstream } from './upstream.ts';
import { Zone } from './zone.ts';

interface World {
  readonly resolver: Resolver;
  /** Names that the server was asked for. */
  readonly asked: readonly string[];
  readonly ask: (message: Buffer) => Promise<packet.DecodedPacket>;
  /** What is answered before `handle` returns. */
  readonly now: (message: Buffer) => packet.DecodedPacket | undefined;
}

async function world(
  t: { teardown(fn: () => void): unknown },
  { internal = false, parts = {} }: { internal?: boolean; parts?: Partial<ResolverParts> } = {},
): Promise<World> {
  const asked: string[] = [];
  const server = createSocket('udp4');
  server.on('message', (raw, { port, address }) => {
    const { id = 0, questions = [] } = packet.decode(raw);
    const name = questions[0]?.name ?? '';
    asked.push(name);
    const answers = [{ type: 'A' as const, name, ttl: 60, data: '192.0.2.1' }];
    server.send(packet.encode({ type: 'response', id, questions, answers }), port, address);
  });
  await new Promise<void>((done) => server.bind(0, '127.0.0.1', done));
  const zone = new Zone();
  zone.putNetwork({ id: 'n', name: 'demo', internal, subnets: [prefix('10.1.0.0/16')] });
  const upstream = new Upstream('127.0.0.1', server.address().port);
  const forwarder = new Forwarder();
  t.teardown(() => {
    forwarder.close();
    server.close();
  });
  const resolver = new Resolver({
    zone,
    forwarder,
    log: new QueryLog(),
    upstreams: () => [upstream],
    ...parts,
  });
  const door: Door = { name: 'test', view: () => zone.hostView(), owner: () => 'test' };
  const ask = (message: Buffer) =>
    new Promise<Buffer>((resolve) => {
      resolver.handle(message, 'udp', door, '10.1.0.2', resolve);
    }).then((reply) => packet.decode(reply));
  const now = (message: Buffer) => {
    let answer: packet.DecodedPacket | undefined;
    resolver.handle(message, 'udp', door, '10.1.0.2', (reply) => {
      answer = packet.decode(reply);
    });
    return answer;
  };
  return { resolver, asked, ask, now };
}

function query(name: string, id: number): Buffer {
  return packet.encode({
    type: 'query',
    id,
    flags: packet.RECURSION_DESIRED,
    questions: [{ type: 'A', name }],
  });
}

t.test('what was answered before is answered at once, to the question as it is asked now', async (t) => {
  const w = await world(t);
  t.match(await w.ask(query('a.example', 7)), { id: 7, answers: [{ data: '192.0.2.1' }] });
  t.match(w.now(query('A.eXample', 9)), {
    id: 9,
    questions: [{ name: 'A.eXample' }],
    answers: [{ data: '192.0.2.1' }],
  });
  t.equal(w.now(query('b.example', 8)), undefined, 'another name is asked for');
  t.same(
    w.asked.filter((name) => /^a/i.test(name)),
    ['a.example'],
  );
});

t.test('two who ask the same at once: one question to others, and to each his own answer', async (t) => {
  const w = await world(t);
  const replies = await Promise.all(['a.example', 'A.EXAMPLE'].map((name, n) => w.ask(query(name, 7 + n))));
  t.match(replies, [
    { id: 7, questions: [{ name: 'a.example' }], answers: [{ data: '192.0.2.1' }] },
    { id: 8, questions: [{ name: 'A.EXAMPLE' }], answers: [{ data: '192.0.2.1' }] },
  ]);
  t.equal(w.asked.length, 1);
  t.match([w.now(query('a.example', 9)), w.now(query('a.example', 10))], [{ id: 9 }, { id: 10 }]);
});

t.test('from an internal network nothing is asked of others: SERVFAIL at once', async (t) => {
  const w = await world(t, { internal: true });
  t.match(w.now(query('a.example', 7)), { id: 7, rcode: 'SERVFAIL', answers: [] });
  t.same(w.asked, []);
});

t.test('a question of ours that comes back', async (t) => {
  const loops: number[] = [];
  const w = await world(t, { parts: { onLoop: (probe) => loops.push(probe) } });
  t.match(w.now(query(w.resolver.probeName(3), 7)), { rcode: 'REFUSED' });
  t.same(loops, [3]);
  const another = await world(t);
  t.match(await w.ask(query(another.resolver.probeName(4), 8)), { answers: [{ data: '192.0.2.1' }] });
  t.same(loops, [3], 'that of another daemon is not ours');
});

t.test('a fault of ours: SERVFAIL, and it is told', async (t) => {
  const faults: unknown[] = [];
  const upstreams = () => {
    throw new Error('a fault');
  };
  const w = await world(t, { parts: { upstreams, onFault: (error) => faults.push(error) } });
  t.match(w.now(query('a.example', 7)), { id: 7, rcode: 'SERVFAIL' });
  t.match(faults, [{ message: 'a fault' }]);
});
