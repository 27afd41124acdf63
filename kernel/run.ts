/** The few programs that the kernel folder runs: without a shell, with their words as errors. */
import { spawn } from 'node:child_process';
import { errnoOf } from './errno.ts';
import { KernelError } from './kernel.ts';
import { OwnPorts } from './own-ports.ts';

/** Where administration tools live when the daemon's own PATH is a user's. */
const SBIN = '/usr/local/sbin:/usr/sbin:/sbin';

/**
 * What the program writes to its standard output.
 * @throws KernelError ENOENT when there is no such program; else `exit N` (or the signal) with what it wrote to stderr.
 * @param own Told of the program, whose changes are then known as ours.
 */
export function run(
  program: string,
  args: readonly string[],
  input = '',
  own: OwnPorts = new OwnPorts(),
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      // Errors are matched and shown: in English, whatever the daemon's locale.
      env: { ...process.env, PATH: `${process.env.PATH ?? '/usr/bin:/bin'}:${SBIN}`, LC_ALL: 'C' },
      stdio: 'pipe',
    });
    const ended = child.pid === undefined ? undefined : own.addProgram(child.pid);
    const out: string[] = [];
    const err: string[] = [];
    child.stdout.setEncoding('utf8').on('data', (text: string) => out.push(text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => err.push(text));
    child.on('error', (error) => {
      reject(new KernelError(program, errnoOf(error), 'cannot be run'));
    });
    child.on('close', (code, signal) => {
      ended?.();
      if (code === 0) resolve(out.join(''));
      else reject(new KernelError(program, signal ?? `exit ${code ?? 0}`, err.join('').trim()));
    });
    // A program that ends before it has read all its input says why on stderr.
    child.stdin.on('error', () => undefined);
    child.stdin.end(input);
  });
}
