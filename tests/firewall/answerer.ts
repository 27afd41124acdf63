/**
 * A server for the namespaces of the firewall tests: answers every connection and datagram with its own name and the client's
 * address, so that a test sees who was reached and whom the server saw.
 *
 * answerer.ts NAME [ADDRESS/]tcp:PORT|udp:PORT…    prints `ready` when it listens on all of them.
 */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer } from 'node:net';

// As the first process of a container it would not end by itself.
process.on('SIGTERM', () => process.exit());

const [name = '', ...ports] = process.argv.slice(2);

for (const text of ports) {
  const [, address = '::', proto = '', port = ''] = /^(?:(.+)\/)?(tcp|udp):(\d+)$/.exec(text) ?? [];
  await (proto === 'tcp' ? tcp : udp)(address, Number(port));
}
console.log('ready');

async function tcp(host: string, port: number): Promise<void> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.end(`${name} ${plain(socket.remoteAddress ?? '')}\n`);
  });
  server.listen({ host, port });
  await once(server, 'listening');
}

async function udp(address: string, port: number): Promise<void> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  socket.on('message', (_, from) => {
    socket.send(`${name} ${plain(from.address)}\n`, from.port, from.address);
  });
  socket.bind(port, address);
  await once(socket, 'listening');
}

/** Without the form that an IPv4 address has in an IPv6 socket. */
function plain(address: string): string {
  return address.replace(/^::ffff:/, '');
}
