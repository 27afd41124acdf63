/** What of a ping that runs while something happens was lost. */
import { type Running, until } from './command.ts';

export interface Pinged {
  /** Up to the last one that was answered. */
  readonly sent: number;
  /** Numbers of those before it that were not. */
  readonly lost: readonly number[];
}

/** As ping(8) of iputils writes an answer, and as busybox does. A line that is not whole yet has no number. */
function answered(text: string): ReadonlySet<number> {
  return new Set([...text.matchAll(/ bytes from .*?seq=(\d+) /g)].map(([, number]) => Number(number)));
}

function last(numbers: ReadonlySet<number>): number {
  return [...numbers].reduce((most, number) => Math.max(most, number), 0);
}

/**
 * Ends it. What it says itself of packets lost counts the one that is on its way when it is interrupted (iputils, ping_common.c, finish()): so
 * answers are waited for to packets that were sent after all that happened, and what was sent before the last of them is looked for.
 *
 * @param stop ends its process
 */
export async function endPing(
  ping: Running,
  stop: () => Promise<unknown> = () => ping.kill('SIGINT'),
): Promise<Pinged> {
  const before = last(answered(ping.stdout));
  // The next one may have been sent already.
  await until(
    'answers to what is sent now',
    60_000,
    () => last(answered(ping.stdout)) > before + 1 || undefined,
  );
  await stop();
  const seen = answered(ping.stdout);
  const sent = last(seen);
  const numbers = Array.from({ length: sent }, (_, index) => index + 1);
  return { sent, lost: numbers.filter((number) => !seen.has(number)) };
}
