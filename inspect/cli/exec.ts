/** Runs a person's command in a namespace. No networking of ours: the kernel work is nsenter's and the command's. */
import { spawn } from 'node:child_process';
import { statfsSync } from 'node:fs';
import { constants } from 'node:os';
import { CommandError } from '../client.ts';

/** NSFS_MAGIC of linux/magic.h: what a namespace file is bound from. */
const NSFS_MAGIC = 0x6e736673;

/** Exit status of the command; 128 + n when signal n ended it, 127 when it was not found, as shells have it. */
export async function execIn(path: string, [command = '', ...args]: readonly string[]): Promise<number> {
  checkVisible(path);
  const child = spawn('nsenter', [`--net=${path}`, '--', command, ...args], { stdio: 'inherit' });
  // Ctrl-C reaches the command through the terminal's process group; what is sent to us alone is passed on.
  const pass = (signal: NodeJS.Signals) => child.kill(signal);
  const stay = () => undefined;
  process.on('SIGTERM', pass).on('SIGHUP', pass).on('SIGINT', stay).on('SIGQUIT', stay);
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.on('error', (error) => {
    reject(new CommandError(`nsenter (of util-linux) cannot be run: ${error.message}`, { cause: error }));
  });
  child.on('exit', (code, signal) => {
    resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
  });
  return promise;
}

/** The daemon's bind mount is not seen from a mount namespace that was split off before it: nsenter would say EINVAL. */
function checkVisible(path: string): void {
  const type = (() => {
    try {
      return statfsSync(path).type;
    } catch {
      return undefined;
    }
  })();
  if (type === NSFS_MAGIC) return;
  throw new CommandError(
    `The namespace ${path} is not visible here. Run this command in the daemon's mount namespace, for example: nsenter --mount --target $(pidof -s cnmd) cnm sandbox exec …`,
  );
}
