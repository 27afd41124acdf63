import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Running } from './command.ts';
import { Hopeless, until } from './command.ts';
import type { Host } from './host.ts';
import { NODE, REPOSITORY } from './host.ts';
import type { Reply } from './unix-http.ts';
import { unixHttp } from './unix-http.ts';

export const PLUGIN_FOLDER = '/run/docker/plugins';
export const DOCKER_SOCKET = '/run/docker.sock';

export interface CnmdSettings {
  /** Default: bridge. */
  readonly drivers?: readonly string[];
  /** Further arguments of cnmd, as `--cluster …`. */
  readonly arguments?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Our daemon on a host, in either form. */
export interface Daemon {
  readonly drivers: readonly string[];
  /** Networks, endpoints and leases: a path that is the same inside and outside. */
  readonly stateFolder: string;
  /** What follows a driver's name in `docker network create --driver NAME`: libnetwork knows a managed plugin only with its tag. */
  readonly tag: '' | ':latest';
  /** Where the `cnm` command finds it, on the host. */
  readonly adminSocket: string;
  readonly alive: boolean;
  /** Starts the daemon and waits until each of its sockets for Docker answers. */
  start(...more: string[]): Promise<void>;
  /** POSTs one call to a driver's socket (`cnm-bridge`, `cnm-ipam`), as Docker does. */
  call(driver: string, method: string, body?: unknown): Promise<Reply>;
  /** Signals the daemon and waits for its end, where the signal ends it. */
  kill(signal: NodeJS.Signals): Promise<void>;
  /** The daemon's process as this machine numbers it. */
  pid(): Promise<number>;
  /** Everything that every run of the daemon wrote. */
  readonly log: string;
}

/** As a service, with its sockets in Docker's plugin folder. */
export class Service implements Daemon {
  readonly tag = '';
  readonly adminSocket = '/run/cnm/cnm.sock';
  readonly #host: Host;
  readonly #settings: CnmdSettings;
  #running: Running | undefined;
  #log = '';

  constructor(host: Host, settings: CnmdSettings) {
    this.#host = host;
    this.#settings = settings;
  }

  get drivers(): readonly string[] {
    return this.#settings.drivers ?? ['bridge'];
  }

  get stateFolder(): string {
    return join(this.#host.dir, 'cnm');
  }

  /** The arguments that every start has; a test may start another instance with them by hand. */
  argv(...more: string[]): string[] {
    const places = ['--plugin-dir', PLUGIN_FOLDER, '--state-dir', this.stateFolder];
    const sockets = ['--admin-socket', this.adminSocket, '--docker-socket', DOCKER_SOCKET];
    const rest = [
      '--drivers',
      this.drivers.join(','),
      '--log-level',
      'debug',
      ...(this.#settings.arguments ?? []),
    ];
    return [NODE, join(REPOSITORY, 'main.ts'), ...places, ...sockets, ...rest, ...more];
  }

  async start(...more: string[]): Promise<void> {
    if (this.#running?.alive === true) throw new Error('cnmd runs already');
    this.#keepLog();
    const running = this.#host.spawn(this.argv(...more), { env: this.#settings.env ?? {} });
    this.#running = running;
    await until('cnmd to answer on its sockets', 120_000, async () => {
      if (!running.alive) throw new Hopeless(`cnmd ended: ${running.stdout}${running.stderr}`);
      // To ask whom there is not takes an emulated machine as long as it takes the daemon to start.
      if (!existsSync(this.#host.outside(this.adminSocket))) return undefined;
      for (const name of [...this.drivers, 'ipam']) await this.call(`cnm-${name}`, 'Plugin.Activate');
      return true;
    });
  }

  call(driver: string, method: string, body?: unknown): Promise<Reply> {
    return unixHttp(this.#host.outside(`${PLUGIN_FOLDER}/${driver}.sock`), 'POST', `/${method}`, body);
  }

  get alive(): boolean {
    return this.#running?.alive ?? false;
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    if (this.#running === undefined) throw new Error('cnmd was not started');
    await this.#running.kill(signal);
  }

  pid(): Promise<number> {
    if (this.#running === undefined) throw new Error('cnmd was not started');
    return this.#running.pid();
  }

  #keepLog(): void {
    if (this.#running !== undefined) this.#log += this.#running.stdout + this.#running.stderr;
  }

  get log(): string {
    return this.#log + (this.#running === undefined ? '' : this.#running.stdout + this.#running.stderr);
  }
}
