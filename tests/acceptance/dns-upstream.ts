/**
 * A DNS server for tests, by UDP and TCP on port 53 of an address: `dns-upstream.ts ADDRESS WAY`. Prints `ready`, then a line for each
 * question: `TRANSPORT TYPE NAME`. Ways: an IPv4 address, which is its answer to every A (but `no…` does not exist, and everything else has
 * no data); `servfail`, `refused`, `silent`.
 */
import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import * as packet from 'dns-packet';

const [address = '', way = ''] = process.argv.slice(2);
const FAILURES: Readonly<Record<string, number>> = { servfail: 2, refused: 5 };
const SOA: packet.Answer = {
  type: 'SOA',
  name: 'example',
  ttl: 30,
  data: {
    mname: 'ns.example',
    rname: 'root.example',
    serial: 7,
    refresh: 1,
    retry: 1,
    expire: 1,
    minimum: 30,
  },
};

function replyTo(raw: Buffer, transport: string): Buffer | undefined {
  const query = packet.decode(raw);
  const [question] = query.questions ?? [];
  if (question === undefined) return undefined;
  process.stdout.write(`${transport} ${question.type} ${question.name}\n`);
  if (way === 'silent') return undefined;
  const base = { type: 'response' as const, id: query.id ?? 0, questions: [question] };
  const flags = packet.RECURSION_AVAILABLE | packet.RECURSION_DESIRED;
  const failure = FAILURES[way];
  if (failure !== undefined) return packet.encode({ ...base, flags: flags | failure });
  if (question.name.startsWith('no')) return packet.encode({ ...base, flags: flags | 3, authorities: [SOA] });
  if (question.type !== 'A') return packet.encode({ ...base, flags, authorities: [SOA] });
  return packet.encode({ ...base, flags, answers: [{ type: 'A', name: question.name, ttl: 30, data: way }] });
}

const bare = address.replace(/%.*$/, '');
const udp = createSocket(bare.includes(':') ? 'udp6' : 'udp4');
udp.on('message', (raw, from) => {
  const reply = replyTo(raw, 'udp');
  if (reply !== undefined) udp.send(reply, from.port, from.address);
});
const tcp = createServer((socket) => {
  socket.on('error', () => undefined);
  socket.on('data', (data: Buffer) => {
    const reply = replyTo(data.subarray(2), 'tcp');
    if (reply !== undefined)
      socket.write(Buffer.concat([Buffer.of(reply.length >> 8, reply.length & 255), reply]));
  });
});
udp.bind(53, address, () => {
  tcp.listen(53, address, () => {
    process.stdout.write('ready\n');
  });
});
