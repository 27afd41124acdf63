/* Servers on 127.0.0.1, each with a way of its own; a port that nobody has; and the forwarder that asks them. */
import { createSocket, type Socket } from 'node:dgram';
import { createServer } from 'node:net';
import * as packet from 'dns-packet';
import t from 'tap';
import { Forwarder, type Forwarded } from './forwarder.ts';
import { parseQuery } from './question.ts';
import { Upstream } from './upstream.ts';

type Way = (
  query: packet.DecodedPacket,
  raw: Buffer,
) => Partial<packet.Packet> | Buffer | Buffer[] | undefined;

interface Owner {
  teardown(fn: () => void): unknown;
}

interface FakeServer {
  readonly upstream: Upstream;
  readonly asked: { readonly port: number; readonly id: number; readonly tcp: boolean }[];
}

/** UDP and TCP on one port. */
async function server(t: Owner, way: Way): Promise<FakeServer> {
  const udp: Socket = createSocket('udp4');
  const asked: { port: number; id: number; tcp: boolean }[] = [];
  const replies = (raw: Buffer, tcp: boolean): readonly Buffer[] => {
    const query = packet.decode(raw);
    const answer = way(query, raw);
    if (answer === undefined) return [];
    if (Array.isArray(answer)) return answer;
    if (Buffer.isBuffer(answer)) return [answer];
    const { flags = 0, ...more } = answer;
    const shown = tcp ? flags & ~packet.TRUNCATED_RESPONSE : flags;
    return [
      packet.encode({
        type: 'response',
        id: query.id ?? 0,
        flags: shown,
        questions: query.questions ?? [],
        ...more,
      }),
    ];
  };
  udp.on('message', (raw, { port, address }) => {
    asked.push({ port, id: raw.readUInt16BE(0), tcp: false });
    for (const reply of replies(raw, false)) udp.send(reply, port, address);
  });
  await new Promise<void>((done) => udp.bind(0, '127.0.0.1', done));
  const { port } = udp.address();
  const tcp = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (data: Buffer) => {
      asked.push({ port: socket.remotePort ?? 0, id: data.readUInt16BE(2), tcp: true });
      for (const reply of replies(data.subarray(2), true))
        socket.write(Buffer.concat([Buffer.of(reply.length >> 8, reply.length & 255), reply]));
    });
  });
  await new Promise<void>((done) => tcp.listen(port, '127.0.0.1', done));
  t.teardown(() => {
    udp.close();
    tcp.close();
  });
  return { upstream: new Upstream('127.0.0.1', port), asked };
}

const answering =
  (data = '192.0.2.1', more: Partial<packet.Packet> = {}): Way =>
  ({ questions = [] }) => ({
    answers: [{ type: 'A', name: questions[0]?.name ?? '', ttl: 60, data }],
    ...more,
  });
const failing =
  (rcode: number): Way =>
  () => ({ flags: rcode });
const silent: Way = () => undefined;

function forwarder(t: Owner, options: ConstructorParameters<typeof Forwarder>[0] = {}): Forwarder {
  const made = new Forwarder(options);
  t.teardown(() => {
    made.close();
  });
  return made;
}

function ask(
  from: Forwarder,
  name: string,
  servers: readonly FakeServer[] | readonly Upstream[],
  { transport = 'udp', client = 'web' }: { transport?: 'udp' | 'tcp'; client?: string } = {},
): Promise<Forwarded> {
  const message = packet.encode({
    type: 'query',
    id: 7,
    flags: packet.RECURSION_DESIRED,
    questions: [{ type: 'A', name }],
  });
  const parsed = parseQuery(message);
  if (parsed === undefined || 'refused' in parsed) throw new Error('no question');
  const upstreams = servers.map((one) => ('upstream' in one ? one.upstream : one));
  return from.ask(message, parsed.question, transport, upstreams, client);
}

function seen(result: Forwarded): string {
  if ('failed' in result) return result.failed;
  const { answers = [], flags = 0 } = packet.decode(result.reply);
  return (
    answers.map((one) => ('data' in one && typeof one.data === 'string' ? one.data : '')).join(' ') ||
    `rcode ${flags & 15}`
  );
}

/** A port of 127.0.0.1 that nobody has: an answer at once. */
const nobody = () => new Upstream('127.0.0.1', 1);

t.test('fail-over: SERVFAIL, REFUSED, nobody, silence; by UDP and for askers by TCP (D12)', async (t) => {
  const good = await server(t, answering());
  for (const transport of ['udp', 'tcp'] as const) {
    const bad = {
      SERVFAIL: (await server(t, failing(2))).upstream,
      REFUSED: (await server(t, failing(5))).upstream,
      nobody: nobody(),
      silence: (await server(t, silent)).upstream,
    };
    for (const [what, upstream] of Object.entries(bad)) {
      t.equal(
        seen(await ask(forwarder(t), 'a.example', [upstream, good.upstream], { transport })),
        '192.0.2.1',
        `${what}, ${transport}`,
      );
    }
  }
});

t.test(
  'servers to which there is no way (no route, no permission) are like those where nobody is',
  async (t) => {
    const good = await server(t, answering());
    // connect(2) of the broadcast address without SO_BROADCAST: EACCES, from the same place as ENETUNREACH.
    const nowhere = new Upstream('255.255.255.255', 53);
    t.match(await ask(forwarder(t), 'a.example', [nowhere]), { failed: 'unreachable' });
    t.match(await ask(forwarder(t), 'a.example', [nowhere, good.upstream]), { upstream: '127.0.0.1' });
    t.ok(nowhere.counts.unreachable > 0);
  },
);

t.test('when all fail: what the last one said; and SERVFAIL is not kept', async (t) => {
  const [one, two] = [await server(t, failing(2)), await server(t, failing(5))];
  const from = forwarder(t);
  t.match(seen(await ask(from, 'a.example', [one, two])), /rcode [25]/);
  t.equal(seen(await ask(from, 'a.example', [nobody()])), 'unreachable');
  t.equal(seen(await ask(from, 'a.example', [])), 'none');
  t.equal(from.load.cached, 0);
  t.equal(from.load.waiting, 0);
});

t.test('a server that is down is asked last, and taken back when it answers', async (t) => {
  let up = false;
  const first = await server(t, (query, raw) => (up ? answering('192.0.2.1')(query, raw) : undefined));
  const second = await server(t, answering('192.0.2.2'));
  let time = 0;
  const from = forwarder(t, { now: () => time });
  for (const name of ['a.example', 'b.example'])
    t.equal(seen(await ask(from, name, [first, second])), '192.0.2.2');
  t.ok(first.upstream.isDown());
  t.equal(seen(await ask(from, 'c.example', [first, second])), '192.0.2.2');
  t.equal(first.asked.length, 2, 'nobody waits for it');
  up = true;
  time = 60_000;
  t.equal(seen(await ask(from, 'd.example', [first, second])), '192.0.2.2', 'looked at beside');
  for (let n = 0; first.upstream.isDown() && n < 3_000; n += 1)
    await new Promise((done) => setTimeout(done, 5));
  t.equal(seen(await ask(from, 'e.example', [first, second])), '192.0.2.1');
});

t.test('a NXDOMAIN is an answer, with its SOA (D11)', async (t) => {
  const soa = {
    type: 'SOA',
    name: 'example',
    ttl: 30,
    data: { mname: 'm', rname: 'r', serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 30 },
  } as const;
  const one = await server(t, () => ({ flags: 3, authorities: [soa] }));
  const from = forwarder(t);
  const result = await ask(from, 'no.example', [one]);
  t.equal(seen(result), 'rcode 3');
  t.match('reply' in result && packet.decode(result.reply).authorities, [{ type: 'SOA' }]);
  await ask(from, 'NO.example', [one]);
  t.equal(one.asked.length, 1, 'kept');
});

t.test('ports and numbers are random; answers must fit the question', async (t) => {
  const forged: Way = ({ questions = [], id = 0 }) => {
    const [question] = questions;
    const name = question?.name ?? '';
    const lie = (more: Partial<packet.Packet>) =>
      packet.encode({
        type: 'response',
        id,
        questions,
        answers: [{ type: 'A', name, ttl: 60, data: '203.0.113.66' }],
        ...more,
      });
    const other = [{ type: 'A' as const, name: 'other.example' }];
    return [
      Buffer.alloc(3),
      lie({ id: (id + 1) & 0xffff }),
      lie({ questions: other }),
      lie({ questions: [{ type: 'AAAA', name }] }),
      lie({ questions: [] }),
      lie({ type: 'query' }),
      packet.encode({
        type: 'response',
        id,
        questions,
        answers: [{ type: 'A', name, ttl: 60, data: '192.0.2.1' }],
      }),
    ];
  };
  const one = await server(t, forged);
  const from = forwarder(t);
  const names = Array.from({ length: 20 }, (_, n) => `n${n}.example`);
  t.same(
    new Set((await Promise.all(names.map((name) => ask(from, name, [one])))).map(seen)),
    new Set(['192.0.2.1']),
  );
  t.ok(new Set(one.asked.map(({ port }) => port)).size > 15);
  t.ok(new Set(one.asked.map(({ id }) => id)).size > 15);
});

t.test('an answer that is cut: by TCP for who asked by TCP', async (t) => {
  const one = await server(t, answering('192.0.2.9', { flags: packet.TRUNCATED_RESPONSE }));
  const udp = await ask(forwarder(t), 'a.example', [one]);
  t.ok('reply' in udp && (udp.reply.readUInt16BE(2) & packet.TRUNCATED_RESPONSE) !== 0);
  const tcp = await ask(forwarder(t), 'a.example', [one], { transport: 'tcp' });
  t.ok('reply' in tcp && (tcp.reply.readUInt16BE(2) & packet.TRUNCATED_RESPONSE) === 0);
  t.same(
    one.asked.map((each) => each.tcp),
    [false, false, true],
  );
});

t.test('an expired answer where nobody has a better one, as an option (RFC 8767)', async (t) => {
  let way: Way = answering();
  const one = await server(t, (query, raw) => way(query, raw));
  let time = 0;
  const from = forwarder(t, { now: () => time, stale: 3_600_000 });
  const off = forwarder(t, { now: () => time });
  for (const each of [from, off]) t.match(await ask(each, 'a.example', [one]), { upstream: '127.0.0.1' });
  time = 61_000;
  way = failing(2);
  t.equal(seen(await ask(off, 'a.example', [one])), 'rcode 2', 'off by default');
  const stale = await ask(from, 'a.example', [one]);
  t.match(stale, { upstream: 'stale' });
  t.match('reply' in stale && packet.decode(stale.reply).answers, [{ data: '192.0.2.1', ttl: 30 }]);
  const before = one.asked.length;
  t.match(await ask(from, 'a.example', [one]), { upstream: 'cache' });
  t.equal(one.asked.length, before, 'for half a minute nobody is asked');
  time = 100_000;
  way = silent;
  const [known, never] = await Promise.all(['a.example', 'b.example'].map((name) => ask(from, name, [one])));
  t.match(known, { upstream: 'stale' }, 'also for silence');
  t.match(never, { failed: 'timeout' }, 'not for what was never known');
  time = 200_000;
  way = answering('192.0.2.9');
  t.equal(seen(await ask(from, 'a.example', [one])), '192.0.2.9', 'a new answer comes first');
});

t.test('what many ask at once is asked once', async (t) => {
  const one = await server(t, answering());
  const from = forwarder(t);
  const results = await Promise.all(Array.from({ length: 50 }, () => ask(from, 'a.example', [one])));
  t.ok(results.every((result) => seen(result) === '192.0.2.1'));
  t.equal(one.asked.length, 1);
});

t.test('one client cannot take all the room', async (t) => {
  const dead = await server(t, silent);
  const good = await server(t, answering());
  const from = forwarder(t, { capacity: 64 });
  const greedy = Array.from({ length: 200 }, (_, n) =>
    ask(from, `n${n}.example`, [dead], { client: 'greedy' }),
  );
  t.equal(from.load.waiting, 32, 'half of it');
  t.equal(seen(await ask(from, 'a.example', [good], { client: 'modest' })), '192.0.2.1');
  from.close();
  const ends = (await Promise.all(greedy)).map(seen);
  t.equal(ends.filter((end) => end === 'overload').length, 168);
  t.equal(from.load.waiting, 0);
});
