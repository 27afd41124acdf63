/**
 * A TCP stream over a network under test. `serve ADDRESS`: sends back what comes on port 7, one connection at a time or many. `talk ADDRESS`:
 * one connection to it, a numbered line every 20 ms; SIGINT ends it when every line is back, and says how many there were. A connection that
 * breaks, or brings back anything else, ends it with an error.
 */
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';

const [what, address = ''] = process.argv.slice(2);
if (what === 'serve') serve();
else talk();

function serve(): void {
  const server = createServer((socket) => {
    socket.setNoDelay(true);
    socket.pipe(socket);
    socket.on('error', () => undefined);
  });
  server.listen(7, address, () => process.stdout.write('ready\n'));
}

function talk(): void {
  const socket = connect(7, address);
  socket.setNoDelay(true);
  const failed = (why: string) => {
    process.stderr.write(`${why}\n`);
    process.exit(1);
  };
  let [sent, back] = [0, 0];
  let timer: NodeJS.Timeout | undefined;
  let ending = false;
  const end = () => {
    if (!ending || back < sent) return;
    process.stdout.write(`sent ${sent} back ${back}\n`);
    process.exit(0);
  };
  socket.on('connect', () => {
    timer = setInterval(() => socket.write(`${(sent += 1)}\n`), 20);
  });
  createInterface({ input: socket }).on('line', (line) => {
    back += 1;
    if (line !== String(back)) failed(`line ${back} came back as ${line}`);
    if (back === 1) process.stdout.write('flows\n');
    end();
  });
  socket.on('error', (error) => {
    failed(error.message);
  });
  socket.on('close', () => {
    failed('closed');
  });
  process.once('SIGINT', () => {
    clearInterval(timer);
    ending = true;
    end();
  });
}
