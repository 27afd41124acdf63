/** Captures that are whole. */
import { type Running, until } from './command.ts';

/**
 * Resolves when tcpdump has read what the kernel holds for it: a signal that ends it before it came to run would lose that, as on a machine with
 * more work than processors. Not of `lo`, of whose packets it leaves out every second one.
 */
export async function drained(tcpdump: Running): Promise<void> {
  const [reads, limit] = [/(\d+) packets? captured, (\d+) packets? received by filter/g, 10_000];
  let asked = tcpdump.stderr.length;
  await until('tcpdump to have read all', limit, async () => {
    // It says its counts (tcpdump(1), SIGUSR1), of what has passed by then.
    const [, captured, received] = [...tcpdump.stderr.slice(asked).matchAll(reads)].at(-1) ?? [];
    if (captured !== undefined && captured === received) return true;
    if (captured !== undefined) asked = tcpdump.stderr.length;
    await tcpdump.kill('SIGUSR1');
    return undefined;
  });
}
