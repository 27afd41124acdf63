/**
 * Hostile packets against the whole of a resolver: `node dns/fuzz.ts [PACKETS] [SEED]` (default 1,000,000). Prints what became of them; ends
 * with status 1 after a fault, an answer that cannot be read, or one to what is no query. Nothing is sent anywhere.
 */
import * as packet from 'dns-packet';
import { ip } from '../address/ip.ts';
import { prefix } from '../address/prefix.ts';
import { cacheKey, lifetime } from './cache.ts';
import { answers } from './exchange.ts';
import { Forwarder } from './forwarder.ts';
import { QueryLog } from './query-log.ts';
import { parseQuery } from './question.ts';
import { encodeQuery } from './reply.ts';
import { type Door, Resolver } from './resolver.ts';
import { Zone } from './zone.ts';

/** Numbers below `limit`, the same for the same seed (xorshift32, Marsaglia 2003). */
function random(seed: number): (limit: number) => number {
  let state = seed | 1;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}

const NAMES = [
  'web1',
  'all',
  'web1.demo',
  'nobody.demo',
  '_80._tcp.web1',
  '1.0.1.10.in-addr.arpa',
  'x.localhost',
  'www.example.com',
  '.',
];
const TYPES = ['A', 'AAAA', 'PTR', 'SRV', 'MX', 'TXT', 'NS'] as const;

/** Packets from plain noise to almost right: right ones with bytes turned over, cut, doubled, with counts and pointers that lie. */
export function* noise(count: number, seed: number): Generator<Buffer> {
  const pick = random(seed);
  for (let n = 0; n < count; n += 1) {
    const kind = pick(5);
    if (kind === 0) yield Buffer.from(Array.from({ length: pick(600) }, () => pick(256)));
    else yield spoilt(valid(pick), pick, kind);
  }
}

function valid(pick: (limit: number) => number): Buffer {
  const opt = {
    type: 'OPT',
    name: '.',
    udpPayloadSize: pick(65_536),
    flags: pick(2) * packet.DNSSEC_OK,
    options: [],
  };
  return packet.encode({
    type: 'query',
    id: pick(65_536),
    flags: packet.RECURSION_DESIRED,
    questions: [{ name: NAMES[pick(NAMES.length)] ?? '', type: TYPES[pick(TYPES.length)] ?? 'A' }],
    ...(pick(2) === 1 && { additionals: [opt] }),
  } as unknown as packet.Packet);
}

function spoilt(message: Buffer, pick: (limit: number) => number, kind: number): Buffer {
  switch (kind) {
    case 1:
      for (let n = pick(4) + 1; n > 0; n -= 1) message[pick(message.length)] = pick(256);
      return message;
    case 2:
      return message.subarray(0, pick(message.length));
    case 3:
      // A pointer somewhere in the name, or into itself.
      message.writeUInt16BE(0xc000 | pick(message.length + 20), 12 + pick(message.length - 14));
      return message;
    default:
      message.writeUInt16BE(pick(3) === 0 ? 0xffff : pick(8), 4 + 2 * pick(4));
      return pick(2) === 0 ? message : Buffer.concat([message, message.subarray(12)]);
  }
}

export interface FuzzResult {
  readonly packets: number;
  readonly answered: number;
  readonly seconds: number;
  readonly faults: readonly string[];
}

/** All of the resolver but its sockets. Replies of servers are spoilt in the same way, and must do no harm either. */
export function fuzz(count: number, seed: number): FuzzResult {
  const zone = new Zone();
  zone.putNetwork({ id: 'n', name: 'demo', internal: true, subnets: [prefix('10.1.0.0/16')] });
  const ports = [{ proto: 'tcp', port: 80 } as const];
  for (let n = 1; n <= 60; n += 1) {
    const names = [`web${n}`, 'all'];
    zone.putHost({ id: `e${n}`, network: 'n', owner: 'o', names, addresses: [ip(`10.1.0.${n}`)], ports });
  }
  const faults: string[] = [];
  const note = (error: unknown) => {
    if (faults.length < 20)
      faults.push(error instanceof Error ? (error.stack ?? error.message) : String(error));
  };
  const resolver = new Resolver({
    zone,
    forwarder: new Forwarder(),
    log: new QueryLog(),
    upstreams: () => [],
    onFault: note,
  });
  const door: Door = { name: 'fuzz', view: () => zone.hostView(), owner: () => 'fuzz' };
  let answered = 0;
  const began = performance.now();
  for (const bytes of noise(count, seed)) {
    let replies = 0;
    try {
      resolver.handle(bytes, (bytes[0] ?? 0) % 2 === 0 ? 'udp' : 'tcp', door, '10.1.0.1', (reply) => {
        replies += 1;
        answered += 1;
        checkReply(bytes, reply);
      });
      spoiltReply(bytes);
      if (replies > 1) throw new Error('two answers');
    } catch (error) {
      note(
        new Error(
          `${bytes.toString('hex')}: ${error instanceof Error ? (error.stack ?? '') : String(error)}`,
        ),
      );
    }
  }
  return { packets: count, answered, seconds: (performance.now() - began) / 1000, faults };
}

/** An answer has its query's number, says that it is one, and can be read by another implementation. */
function checkReply(query: Buffer, reply: Buffer): void {
  if (((query[2] ?? 0) & 0x80) !== 0) throw new Error('an answer to an answer');
  if (reply.readUInt16BE(0) !== query.readUInt16BE(0) || ((reply[2] ?? 0) & 0x80) === 0)
    throw new Error('no answer to this');
  if (reply.length > 65_535) throw new Error('too long');
  packet.decode(reply);
}

/** What a server may send in answer to a question of ours. */
function spoiltReply(bytes: Buffer): void {
  const question = parseQuery(
    packet.encode({ type: 'query', questions: [{ name: 'www.example.com', type: 'A' }] }),
  );
  if (question === undefined || 'refused' in question) throw new Error('no question');
  const asked = encodeQuery(EXAMPLE, question.question, 1);
  const reply = Buffer.from(bytes);
  if (reply.length > 3) {
    reply.writeUInt16BE(1, 0);
    reply[2] = (reply[2] ?? 0) | 0x80;
  }
  if (!answers(reply, asked) || reply.length < question.question.end) return;
  cacheKey(question.question);
  lifetime(reply, question.question);
}

const EXAMPLE = packet.encode({ type: 'query', questions: [{ name: 'www.example.com', type: 'A' }] });

if (process.argv[1] === import.meta.filename) {
  const [count = '1000000', seed = String(Date.now() % 1_000_000)] = process.argv.slice(2);
  const { packets, answered, seconds, faults } = fuzz(Number(count), Number(seed));
  for (const fault of faults) process.stdout.write(`${fault}\n`);
  process.stdout.write(
    `seed ${seed}: ${packets} packets, ${answered} answered, ${faults.length} faults, ${seconds.toFixed(1)} s\n`,
  );
  process.exitCode = faults.length > 0 ? 1 : 0;
}
