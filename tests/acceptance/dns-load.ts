/**
 * `dns-load.ts SERVER COUNT NAME`: sends COUNT questions for different names that nobody answers, then asks 200 times for NAME, and prints
 * how often that was answered before a stub resolver would ask again.
 */
import { createSocket } from 'node:dgram';
import * as packet from 'dns-packet';

const [server = '', count = '0', local = ''] = process.argv.slice(2);
const socket = createSocket('udp4');
const question = (name: string, id: number) =>
  packet.encode({ type: 'query', id, flags: packet.RECURSION_DESIRED, questions: [{ type: 'A', name }] });
const pause = (ms: number) => new Promise((done) => setTimeout(done, ms));

for (let n = 0; n < Number(count); n += 1) {
  socket.send(question(`hang${n}.example`, n), 53, server);
  // As fast as a receive buffer takes it.
  if (n % 100 === 99) await pause(10);
}
const ask = (id: number, patience = 5_000) => {
  const answered = new Promise<boolean>((resolve) => {
    const timer = setTimeout(() => {
      resolve(false);
    }, patience);
    const hear = (reply: Buffer) => {
      if (reply.readUInt16BE(0) !== id) return;
      socket.off('message', hear);
      clearTimeout(timer);
      resolve(true);
    };
    socket.on('message', hear);
  });
  socket.send(question(local, id), 53, server);
  return answered;
};
// Not before the server has read what was sent: where it has not had its turn for a while its receive buffer may be full, and the kernel drops what
// comes then, whatever it is.
while (!(await ask(39_999, 200))) {
  // Asked again.
}
let answers = 0;
for (let n = 0; n < 200; n += 1) if (await ask(40_000 + n)) answers += 1;
process.stdout.write(`${answers}\n`);
socket.close();
