/** One question to a server, as socat(1) puts it. */
import { setTimeout as sleep } from 'node:timers/promises';
import { type Output, Running } from '../lab/command.ts';

/**
 * What a server at `tcp:ADDRESS:PORT` or `udp:[ADDRESS]:PORT` says first, or why it says nothing; over as soon as there is a line. `enter`: the
 * words that make a command run where the question comes from. `seconds` are waited for a connection, and for an answer: as long as only a server
 * that hangs needs where one is due, and short where none is.
 */
export async function exchange(
  enter: readonly string[],
  server: string,
  seconds: number,
  options = '',
): Promise<Output> {
  const [, proto = '', address = ''] = /^(tcp|udp):(.+)$/.exec(server) ?? [];
  const timeout = proto === 'tcp' ? `,connect-timeout=${seconds}` : '';
  const target = `${proto.toUpperCase()}${address.startsWith('[') ? '6' : '4'}:${address}${timeout}${options}`;
  // Without -t it waits half a second from the end of its input, which is at once; a server of UDP has no end that it could wait for.
  const socat = new Running([...enter, 'socat', '-t', `${seconds}`, '-T', `${seconds}`, '-', target], {
    input: 'who\n',
  });
  while (socat.alive && !socat.stdout.includes('\n')) await sleep(20);
  if (socat.alive) await socat.kill('SIGKILL');
  return socat.exited;
}
