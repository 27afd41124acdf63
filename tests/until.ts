/** Waiting for what happens within this process: it has the event loop's turns, and a time that only a hang exceeds. */
import { setImmediate } from 'node:timers/promises';

const LIMIT_MS = 20_000;

export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + LIMIT_MS;
  while (!(await holds())) {
    if (Date.now() > end) throw new Error(`waited for ${what}`);
    await setImmediate();
  }
}
