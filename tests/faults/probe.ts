/** Traffic that counts what is lost: a ping at 100 a second, and a new connection a hundred times a second. */
import { join } from 'node:path';
import { Running, until } from '../lab/command.ts';
import { NODE } from '../lab/host.ts';

export interface Count {
  readonly sent: number;
  /** Numbers of the packets that got no answer. */
  readonly lost: readonly number[];
}

export interface Probe {
  readonly name: string;
  stop(): Promise<Count>;
}

/** @param netns path of the namespace file that the packets start from */
export async function ping(name: string, netns: string, address: string): Promise<Probe> {
  const running = new Running(['nsenter', `--net=${netns}`, '--', 'ping', '-n', '-i', '0.01', address]);
  await answered(name, running, /icmp_seq=/);
  return {
    name,
    async stop() {
      const { stdout } = (await running.kill('SIGINT')) ?? running;
      const numbers = [...stdout.matchAll(/icmp_seq=(\d+) /g)].map((match) => Number(match[1]));
      const sent = Number(/(\d+) packets transmitted/.exec(stdout)?.[1] ?? 0);
      return { sent, lost: unanswered(sent, new Set(numbers)) };
    },
  };
}

/** Each packet from a port of its own: nothing that the kernel remembers of earlier ones helps it through. */
export async function newFlows(name: string, netns: string, address: string): Promise<Probe> {
  const running = new Running(['nsenter', `--net=${netns}`, '--', NODE, FLOWS, 'ask', address]);
  await answered(name, running, /^answered/m);
  return {
    name,
    async stop() {
      const { stdout } = (await running.kill('SIGINT')) ?? running;
      const numbers = [...stdout.matchAll(/^answered (\d+)$/gm)].map((match) => Number(match[1]));
      const sent = Number(/^sent (\d+)$/m.exec(stdout)?.[1] ?? 0);
      return { sent, lost: unanswered(sent, new Set(numbers)) };
    },
  };
}

/** A probe that never gets an answer ends here, and not with the test. */
async function answered(name: string, running: Running, first: RegExp): Promise<void> {
  try {
    await until(`${name} to be answered`, 60_000, () => first.test(running.stdout) || undefined);
  } catch (error) {
    await running.kill('SIGKILL');
    throw error;
  }
}

export const FLOWS = join(import.meta.dirname, 'flows.ts');

/** The last one may have been on its way when the probe was stopped. */
function unanswered(sent: number, seen: ReadonlySet<number>): readonly number[] {
  const numbers = Array.from({ length: sent }, (_, index) => index + 1);
  return numbers.filter((number) => number < sent && !seen.has(number));
}
