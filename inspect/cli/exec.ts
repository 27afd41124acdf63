/** Runs a person's command in a namespace. No networking of ours: the kernel work is nsenter's and the command's. */
import { spawn } from 'node:child_process';
import { existsSync, realpathSync, statfsSync } from 'node:fs';
import { constants } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { CommandError } from '../client.ts';

/** NSFS_MAGIC of linux/magic.h: what a namespace file is bound from. */
const NSFS_MAGIC = 0x6e736673;

/**
 * @param path of the namespace, to be had from `visiblePath`.
 * @returns Exit status of the command; 128 + n when signal n ended it, 127 when it was not found, as shells have it.
 */
export async function execIn(path: string, [command = '', ...args]: readonly string[]): Promise<number> {
  const own = join(dirname(dirname(path)), 'resolv', `${basename(path)}.conf`);
  const words = existsSync(own) ? withResolvConf(own, [command, ...args]) : [command, ...args];
  const child = spawn('nsenter', [`--net=${path}`, '--', ...words], { stdio: 'inherit' });
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

/** In a mount namespace of its own, where /etc/resolv.conf is the sandbox's, as `ip netns exec` does with /etc/netns. */
function withResolvConf(own: string, command: readonly string[]): readonly string[] {
  const script = '[ ! -e /etc/resolv.conf ] || mount --bind -- "$0" /etc/resolv.conf; exec "$@"';
  return ['unshare', '--mount', '--', 'sh', '-c', script, own, ...command];
}

/**
 * Where the namespace that the daemon calls `path` is seen from here. A managed plugin has its run directory beside its
 * socket, in a folder that the host sees at another place.
 * @throws CommandError when it is not seen: the daemon's bind mount is not in a mount namespace that was split off before
 * it, and nsenter would say EINVAL.
 */
export function visiblePath(path: string, runDir: string, socket: string): string {
  const beside = join(dirname(realpathSync(socket)), basename(runDir), relative(runDir, path));
  const seen = [path, beside].find(isNamespace);
  if (seen !== undefined) return seen;
  throw new CommandError(
    `The namespace ${path} is not visible here. Enter the daemon's mount namespace first: nsenter --mount --target PID, where PID is shown by: ss -xlp src @cnmd`,
  );
}

function isNamespace(path: string): boolean {
  try {
    return statfsSync(path).type === NSFS_MAGIC;
  } catch {
    return false;
  }
}
