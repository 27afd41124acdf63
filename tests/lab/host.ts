import { mkdir, readFile, readdir, readlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { CommandOptions, Output } from './command.ts';
import { Hopeless, Running, run, tryRun, until } from './command.ts';
import { MARK } from './leftovers.ts';

/** The project's root: visible inside every host under this same path. */
export const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

/** The Node that the project brings; inside a host of another Debian suite there is no other. */
export const NODE = join(REPOSITORY, 'node_modules/node/bin/node');

export interface HostSettings {
  readonly name: string;
  /** The lab's name, which marks every process of the host. */
  readonly lab: string;
  /** The lab's folder; the host gets one of its own in it. */
  readonly folder: string;
  /** The file system to start from: `/`, or an unpacked Debian suite. Never written to. */
  readonly tree: string;
}

/** A host whose PID 1 runs. */
export interface BootedHost {
  readonly settings: HostSettings;
  readonly init: Running;
  readonly pid: number;
}

export async function boot(settings: HostSettings): Promise<BootedHost> {
  const folder = join(settings.folder, settings.name);
  await mkdir(folder);
  const script = fileURLToPath(new URL('init.sh', import.meta.url));
  const namespaces = ['--net', '--mount', '--uts', '--ipc', '--pid', '--fork', '--kill-child'];
  const init = new Running(
    ['unshare', ...namespaces, 'bash', script, settings.name, folder, settings.tree, REPOSITORY],
    { env: { [MARK]: settings.lab, CNM_LAB_OVERLAY: process.env['CNM_LAB_OVERLAY'] ?? 'yes' } },
  );
  await until(`host ${settings.name} to boot`, 60_000, () => {
    if (init.alive) return init.stdout.includes('ready') || undefined;
    throw new Hopeless(init.stderr);
  });
  return { settings, init, pid: await init.pid() };
}

/**
 * A machine of the lab: a process that is PID 1 of network, mount, PID, UTS and IPC namespaces of its own. When it
 * dies, the kernel ends everything inside and frees the namespaces; and it dies with the test.
 */
export class Host {
  readonly name: string;
  /** A folder on disk, the same path inside and outside. */
  readonly dir: string;
  /** The host's PID 1 as this machine numbers it. */
  readonly pid: number;
  /** Addresses on the uplink, without prefix length; set by the lab. */
  address = '';
  address6 = '';
  #init: Running;
  #lab: string;

  constructor(booted: BootedHost) {
    const { settings, init, pid } = booted;
    this.name = settings.name;
    this.dir = join(settings.folder, settings.name, 'host');
    this.#lab = settings.lab;
    this.#init = init;
    this.pid = pid;
  }

  /** The path by which this machine reaches a file or socket of the host, such as `/run/docker.sock`. */
  outside(path: string): string {
    // An absolute symbolic link on the way would be followed from our own root.
    return `/proc/${this.pid}/root${path.replace(/^\/var\/run\//, '/run/')}`;
  }

  #marked(options: CommandOptions): CommandOptions {
    return { ...options, env: { [MARK]: this.#lab, ...options.env } };
  }

  #inside(argv: readonly string[]): string[] {
    return ['nsenter', '-t', String(this.pid), '-m', '-n', '-p', '-u', '-i', '--', ...argv];
  }

  /** Starts a program on the host: its own files, process numbers and links. */
  spawn(argv: readonly string[], options: CommandOptions = {}): Running {
    return new Running(this.#inside(argv), this.#marked(options));
  }

  /** Starts one of *this machine's* programs (tcpdump, iperf3, …) in the host's network namespace. */
  spawnNet(argv: readonly string[], options: CommandOptions = {}): Running {
    return new Running(['nsenter', '-t', String(this.pid), '-n', '--', ...argv], this.#marked(options));
  }

  run(argv: readonly string[], options: CommandOptions = {}): Promise<string> {
    return run(this.#inside(argv), this.#marked(options));
  }

  tryRun(argv: readonly string[], options: CommandOptions = {}): Promise<Output> {
    return tryRun(this.#inside(argv), this.#marked(options));
  }

  /** A shell line on the host; throws with its standard error when it fails. */
  sh(line: string, options: CommandOptions = {}): Promise<string> {
    return this.run(['bash', '-c', line], options);
  }

  trySh(line: string, options: CommandOptions = {}): Promise<Output> {
    return this.tryRun(['bash', '-c', line], options);
  }

  /** One of this machine's programs in the host's network namespace, to its end. */
  net(...argv: string[]): Promise<string> {
    return run(['nsenter', '-t', String(this.pid), '-n', '--', ...argv]);
  }

  /** Lines of ip(8) in the host's network namespace, in one start of it; the first that fails ends them. */
  async ip(...lines: readonly string[]): Promise<void> {
    const argv = ['nsenter', '-t', String(this.pid), '-n', '--', 'ip', '-batch', '-'];
    await run(argv, { input: `${lines.join('\n')}\n` });
  }

  tryNet(...argv: string[]): Promise<Output> {
    return tryRun(['nsenter', '-t', String(this.pid), '-n', '--', ...argv]);
  }

  /** One echo request; true when the reply came within `seconds`: who expects none says how long he waits for it. */
  async pings(address: string, seconds = 10): Promise<boolean> {
    return (await this.tryNet('ping', '-n', '-c1', `-W${seconds}`, address)).code === 0;
  }

  /** Pulls the plug: everything on the host ends at once. */
  async powerOff(): Promise<void> {
    await this.#init.kill('SIGKILL');
  }
}

/**
 * A process of the host, numbered as on the host: its number on this machine. It may be in a PID namespace further
 * down, as a managed plugin is: NSpid (proc_pid_status(5)) has this machine's number first and the host's next.
 */
export async function outerPid(host: Host, inside: number): Promise<number> {
  const mounts = await readlink(host.outside(`/proc/${inside}/ns/mnt`));
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const status = await readFile(`/proc/${entry}/status`, 'utf8').catch(() => '');
    const numbers = /^NSpid:\s+(.*)$/m.exec(status)?.[1]?.split('\t') ?? [];
    if (numbers[1] !== String(inside)) continue;
    // Every host counts from 1: another host's process of the same number is in other namespaces.
    if ((await readlink(`/proc/${entry}/ns/mnt`).catch(() => '')) === mounts) return Number(entry);
  }
  throw new Error(`${host.name} has no process ${inside}`);
}
