/** A small HTTP server for wrk: one short answer to everything, as cheap as Node can. Its argument is the port. */
import { createServer } from 'node:net';

const PAGE = 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n';

createServer({ noDelay: true }, (socket) => {
  socket.on('error', () => socket.destroy());
  // wrk does not send a request before it has the answer to the one before, so a chunk is a request.
  socket.on('data', (request) => {
    if (request.includes('Connection: close')) socket.end(PAGE);
    else socket.write(PAGE);
  });
}).listen({ port: Number(process.argv[2]), host: '::', backlog: 4096 });
