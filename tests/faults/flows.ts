/** `echo ADDRESS`: answers UDP on its port 7. `ask ADDRESS`: 100 new UDP flows a second to it; SIGINT ends it after the last answers. */
import { createSocket } from 'node:dgram';

const [what, address = ''] = process.argv.slice(2);
if (what === 'echo') echo();
else ask();

function echo(): void {
  const socket = createSocket('udp4');
  socket.on('message', (message, from) => {
    socket.send(message, from.port, from.address);
  });
  // Bound to the one address, or the answer would leave with the address of the link that it takes.
  socket.bind(7, address, () => process.stdout.write('ready\n'));
}

function ask(): void {
  let sent = 0;
  const timer = setInterval(() => {
    sent += 1;
    const number = sent;
    const socket = createSocket('udp4');
    const giveUp = setTimeout(() => socket.close(), 1_000);
    socket.once('message', () => {
      clearTimeout(giveUp);
      socket.close();
      process.stdout.write(`answered ${number}\n`);
    });
    // What the network refuses is a packet without an answer, as one that it drops.
    socket.on('error', () => undefined);
    socket.send(String(number), 7, address);
  }, 10);
  process.once('SIGINT', () => {
    clearInterval(timer);
    setTimeout(() => {
      process.stdout.write(`sent ${sent}\n`);
      process.exit(0);
    }, 300);
  });
}
