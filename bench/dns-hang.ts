/**
 * `dns-hang.ts SERVER PORT COUNT MS`: keeps about COUNT questions waiting that nobody answers, each for another name: all of them in the first
 * second, and then as many as resolvers give up.
 */
import { createSocket } from 'node:dgram';
import * as packet from 'dns-packet';

const [server = '', port = '53', count = '0', ms = '0'] = process.argv.slice(2);
/** Milliseconds between askings; how long they go on at first; and how long a resolver waits for its servers. */
const STEP = 10;
const RAMP = 1_000;
const PATIENCE = 4_500;
const began = performance.now();
const socket = createSocket('udp4');
let asked = 0;
for (let now = 0; now < Number(ms); now = performance.now() - began) {
  const due = Number(count) * (Math.min(1, now / RAMP) + Math.max(0, now - RAMP) / PATIENCE);
  for (; asked < due; asked += 1) {
    const questions = [{ type: 'A' as const, name: `hang${asked}.silent.example` }];
    const id = asked & 0xffff;
    const query = packet.encode({ type: 'query', id, flags: packet.RECURSION_DESIRED, questions });
    socket.send(query, Number(port), server);
  }
  await new Promise((done) => setTimeout(done, STEP));
}
socket.close();
