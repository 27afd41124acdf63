/** Who answers, and whom the server saw: every server of these tests answers with its own name and its client's address. */
import { join } from 'node:path';
import type { Test } from 'tap';
import { type Running, tryRun, until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { type Host, NODE, REPOSITORY } from '../lab/host.ts';
import { exchange } from './exchange.ts';

/** Where a question comes from: the words before a command that make it run there. */
export interface Place {
  readonly name: string;
  readonly enter: readonly string[];
}

export function onHost(host: Host): Place {
  return { name: host.name, enter: ['nsenter', '-t', String(host.pid), '-n', '--'] };
}

export async function inContainer(h: DockerHost, container: string): Promise<Place> {
  return { name: container, enter: ['nsenter', `--net=${await h.sandbox(container)}`, '--'] };
}

/** Servers on ports (`tcp:80`, `udp:53`) of every address of the place, until the returned function ends them. */
export async function serve(h: Host, place: Place, ...ports: readonly string[]): Promise<Running> {
  const script = join(REPOSITORY, 'tests/firewall/answerer.ts');
  const running = h.spawnNet([...place.enter, NODE, script, place.name, ...ports]);
  await until(`${place.name} to listen`, 20_000, () => running.stdout.includes('ready') || undefined);
  return running;
}

/** Seconds until an answer that is due counts as missing, and until one that is not due counts as kept away. */
const PATIENCE = 20;
const SILENCE = 1;

/**
 * What a server at `tcp:ADDRESS:PORT` (an IPv6 address in brackets) says, or `refused`, or `silence` when nothing comes back.
 */
export async function ask({ enter }: Place, server: string, seconds = PATIENCE): Promise<string> {
  const { stdout, stderr } = await exchange(enter, server, seconds);
  if (stdout.trim() !== '') return stdout.trim();
  if (stderr.includes('refused')) return 'refused';
  if (stderr.includes('unreachable')) return 'unreachable';
  return 'silence';
}

/** `ping:ADDRESS` besides: `echo` or `silence`. */
async function askOrPing(from: Place, server: string, seconds: number): Promise<string> {
  if (!server.startsWith('ping:')) return ask(from, server, seconds);
  const ping = [...from.enter, 'ping', '-n', '-c1', `-W${seconds}`, server.slice(5)];
  const { code, stdout, stderr } = await tryRun(ping, { timeout: 30_000 });
  if (code === 0) return 'echo';
  return /unreachable/i.test(stdout + stderr) ? 'unreachable' : 'silence';
}

/** Who asks whom, and what is to be answered. */
export type Expected = readonly (readonly [from: Place, server: string, answer: string])[];

/** All at once: what nobody answers takes its time. */
export async function check(t: Test, expected: Expected, when = ''): Promise<void> {
  const found = await Promise.all(
    expected.map(([from, server, answer]) =>
      askOrPing(from, server, answer === 'silence' ? SILENCE : PATIENCE),
    ),
  );
  for (const [index, [from, server, answer]] of expected.entries()) {
    t.equal(found[index], answer, `${from.name} asks ${server}${when}`);
  }
}
