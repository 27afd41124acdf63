import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/** What a finished command left. `code` is 128 + the signal's number where a signal ended it, as in a shell. */
export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CommandOptions {
  /** Written to the command's standard input, which is then closed. Default: empty. */
  readonly input?: string | Buffer;
  /** Milliseconds, times PATIENCE; then SIGKILL. Default 120 000. */
  readonly timeout?: number;
  /** Added to the lab's small clean environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Default: where the test runs. A command that enters a mount namespace starts at its root. */
  readonly cwd?: string;
}

/** Time limits of the lab are for machines like CI's. In one that is emulated (vm-guest.sh) everything may take so many times longer. */
export const PATIENCE = Number(process.env['CNM_LAB_PATIENCE'] ?? 1);

/**
 * The environment of everything the lab starts: small and fixed, so that nothing of the test runner (NODE_OPTIONS,
 * TAP_*, DOCKER_HOST) reaches a daemon under test.
 */
function environment(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
  const compiled = process.env['NODE_COMPILE_CACHE'];
  return {
    PATH: '/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: '/root',
    LANG: 'C.UTF-8',
    // What bash reads from here is a socket, by which it takes itself for one that rshd started, and runs ~/.bashrc, whatever
    // that waits for (bash's shell.c, run_startup_files). Not when it is told that another shell stands above it.
    SHLVL: '1',
    // What Node compiled in one start is there for the next (run-all.sh, vm.sh).
    ...(compiled !== undefined && { NODE_COMPILE_CACHE: compiled }),
    ...extra,
  };
}

const SIGNAL_NUMBERS: Readonly<Record<string, number>> = {
  SIGHUP: 1,
  SIGINT: 2,
  SIGABRT: 6,
  SIGKILL: 9,
  SIGSEGV: 11,
  SIGTERM: 15,
};

/** A command that is still running: a daemon, a capture, a long ping. Its output is kept from the start. */
export class Running {
  readonly argv: readonly string[];
  readonly exited: Promise<Output>;
  #child: ChildProcess;
  #stdout: Buffer[] = [];
  #stderr: Buffer[] = [];
  #done = false;

  constructor(argv: readonly string[], options: CommandOptions = {}) {
    this.argv = argv;
    // The kernel kills it when the test dies, however the test dies (PR_SET_PDEATHSIG).
    this.#child = spawn('setpriv', ['--pdeathsig', 'KILL', ...argv], {
      env: environment(options.env),
      cwd: options.cwd,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const { stdin, stdout, stderr } = this.#child;
    stdout?.on('data', (chunk: Buffer) => this.#stdout.push(chunk));
    stderr?.on('data', (chunk: Buffer) => this.#stderr.push(chunk));
    // A command may end before it has read its input: EPIPE is then no failure of ours.
    stdin?.on('error', () => undefined);
    stdin?.end(options.input ?? '');
    this.exited = new Promise((resolve, reject) => {
      this.#child.once('error', reject);
      this.#child.once('exit', (code, signal) => {
        this.#done = true;
        const end = () => {
          clearTimeout(timer);
          resolve({
            code: code ?? 128 + (SIGNAL_NUMBERS[signal ?? ''] ?? 0),
            stdout: this.stdout,
            stderr: this.stderr,
          });
        };
        // A child that outlives a killed daemon may hold its pipes open: 'close' would then never come.
        const timer = setTimeout(end, 300);
        this.#child.once('close', end);
      });
    });
    this.exited.catch(() => undefined);
  }

  get stdout(): string {
    return Buffer.concat(this.#stdout).toString();
  }

  get stderr(): string {
    return Buffer.concat(this.#stderr).toString();
  }

  get alive(): boolean {
    return !this.#done;
  }

  /** The process that the test started: `nsenter` itself, where the command entered a PID namespace. */
  get outerPid(): number {
    if (this.#child.pid === undefined) throw new Error(`${this.argv.join(' ')}: did not start`);
    return this.#child.pid;
  }

  /**
   * The command's own process as this machine numbers it. `nsenter --pid` must fork, and a signal to nsenter does
   * not reach its child, so the child is looked up.
   */
  async pid(): Promise<number> {
    const outer = this.outerPid;
    for (let tries = 0; tries < 3000 * PATIENCE && this.alive; tries += 1) {
      const comm = await readFile(`/proc/${outer}/comm`, 'utf8').catch(() => '');
      if (!['setpriv', 'nsenter', 'unshare'].includes(comm.trim())) return outer;
      const children = await readFile(`/proc/${outer}/task/${outer}/children`, 'utf8').catch(() => '');
      const child = Number(children.trim().split(' ')[0]);
      if (child > 0) return child;
      await sleep(10);
    }
    throw new Error(`${this.argv.join(' ')}: no process to be found: ${this.stderr}`);
  }

  /** Signals the command and waits until it has ended (SIGSTOP and SIGCONT: returns at once). */
  async kill(signal: NodeJS.Signals = 'SIGTERM'): Promise<Output | undefined> {
    if (this.alive) {
      const pid = await this.pid().catch(() => undefined);
      // Without a child yet, or any more, it is the outer process that does not get on.
      signalIfThere(pid ?? this.outerPid, signal);
      // nsenter stops itself with its child (util-linux, sys-utils/nsenter.c, continue_as_child), and then
      // neither passes on nor notices the child's end.
      if (signal !== 'SIGSTOP') signalIfThere(this.outerPid, 'SIGCONT');
    }
    return signal === 'SIGSTOP' || signal === 'SIGCONT' || signal === 'SIGUSR1' || signal === 'SIGUSR2'
      ? undefined
      : this.exited;
  }
}

/** Signals a process; one that is already gone is no error. */
export function signalIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
  }
}

/** Runs a command to its end. Rejects only when it cannot be started at all. */
export async function tryRun(argv: readonly string[], options: CommandOptions = {}): Promise<Output> {
  const running = new Running(argv, options);
  const limit = (options.timeout ?? 120_000) * PATIENCE;
  const timer = setTimeout(() => {
    running.kill('SIGKILL').catch(() => undefined);
  }, limit);
  try {
    return await running.exited;
  } finally {
    clearTimeout(timer);
  }
}

/** Runs a command and gives its standard output; throws with what it wrote to standard error when it fails. */
export async function run(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
  const output = await tryRun(argv, options);
  if (output.code === 0) return output.stdout;
  throw new Error(
    `${argv.join(' ')}: exit status ${output.code}: ${(output.stderr || output.stdout).trim()}`,
  );
}

/** Thrown inside `until` when waiting on makes no sense, as when the daemon that should answer has ended. */
export class Hopeless extends Error {}

/** Nobody who waits gives up sooner: on a machine with five times more work than processors all that is asked for here takes its time. */
const AT_LEAST = 60_000;

/**
 * Asks until `ask` gives a value; throws after `limit` milliseconds, and not before a minute, times PATIENCE, with the last error. So a limit
 * says what takes longer than that, and is no way to say that something is quick.
 */
export async function until<T>(
  what: string,
  limit: number,
  ask: () => T | undefined | Promise<T | undefined>,
): Promise<T> {
  const patience = Math.max(limit, AT_LEAST) * PATIENCE;
  const deadline = performance.now() + patience;
  let last: unknown;
  let pause = 25;
  do {
    try {
      const value = await ask();
      if (value !== undefined) return value;
    } catch (error) {
      if (error instanceof Hopeless) throw error;
      last = error;
    }
    await sleep(pause);
    // Where all takes longer asking does, too, and must leave time to what is waited for.
    pause = Math.min(2 * pause, 25 * PATIENCE);
  } while (performance.now() < deadline);
  throw new Error(`waited ${patience} ms for ${what}${last instanceof Error ? `: ${last.message}` : ''}`, {
    cause: last,
  });
}
