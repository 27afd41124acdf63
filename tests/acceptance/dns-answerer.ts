/** A name server of the world for tests: dns-answerer.ts ADDRESS. Every AAAA question is answered with that address. */
import { createSocket } from 'node:dgram';
import { AUTHORITATIVE_ANSWER, decode, encode } from 'dns-packet';

const [address = '::1'] = process.argv.slice(2);
const socket = createSocket('udp6');
socket.on('message', (message, { address: client, port }) => {
  const { id, questions = [] } = decode(message);
  const answers = questions
    .filter(({ type }) => type === 'AAAA')
    .map(({ name }) => ({ type: 'AAAA' as const, name, ttl: 60, data: address }));
  socket.send(
    encode({ type: 'response', id, flags: AUTHORITATIVE_ANSWER, questions, answers }),
    port,
    client,
  );
});
socket.bind(53, address, () => process.stdout.write('ready\n'));
