/** `dns-hang.ts SERVER PORT COUNT MS`: keeps COUNT questions waiting that nobody answers, each for another name, asking anew every two seconds. */
import { createSocket } from 'node:dgram';
import * as packet from 'dns-packet';

const [server = '', port = '53', count = '0', ms = '0'] = process.argv.slice(2);
const EVERY = 2_000;
const end = performance.now() + Number(ms);
const socket = createSocket('udp4');
let asked = 0;
while (performance.now() < end) {
  for (let n = 0; n < Number(count); n += 1) {
    asked += 1;
    const questions = [{ type: 'A' as const, name: `hang${asked}.silent.example` }];
    const id = asked & 0xffff;
    socket.send(
      packet.encode({ type: 'query', id, flags: packet.RECURSION_DESIRED, questions }),
      Number(port),
      server,
    );
    // As fast as a receive buffer takes it.
    if (n % 100 === 99) await new Promise((done) => setTimeout(done, 5));
  }
  await new Promise((done) => setTimeout(done, EVERY));
}
socket.close();
