import { createReadStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DOCKER_SOCKET } from './cnmd.ts';
import type { CnmdSettings, Daemon } from './cnmd.ts';
import { run, until } from './command.ts';
import type { Host } from './host.ts';
import { NODE, outerPid, REPOSITORY } from './host.ts';
import type { Reply } from './unix-http.ts';
import { unixHttp } from './unix-http.ts';

/**
 * The managed plugin as a tar, as `docker plugin create` sends it. Built once for a run of all tests, where
 * tests/run-lab.sh names the place; else once for the lab.
 */
export async function pluginImage(labFolder: string): Promise<string> {
  const folder = process.env['CNM_LAB_PLUGIN'] ?? join(labFolder, 'plugin');
  const tar = `${folder}.tar`;
  await mkdir(dirname(folder), { recursive: true });
  const build = `
    set -e
    [ ! -e "$2" ] || exit 0
    "$3" packaging/build-plugin.ts "$1"
    tar --create --file="$2.part" --directory="$1" config.json rootfs
    mv "$2.part" "$2"`;
  // Two test files at once: the second waits for the first.
  const argv = ['flock', `${folder}.lock`, 'bash', '-c', build, 'build', folder, tar, NODE];
  await run(argv, { cwd: REPOSITORY, timeout: 300_000 });
  return tar;
}

/** As a managed plugin: one of Docker's for every driver, named like the driver's service socket. */
export class Managed implements Daemon {
  readonly tag = ':latest';
  readonly #host: Host;
  readonly #settings: CnmdSettings;
  readonly #tar: string;
  readonly #ids = new Map<string, string>();

  constructor(host: Host, settings: CnmdSettings, tar: string) {
    this.#host = host;
    this.#settings = settings;
    this.#tar = tar;
  }

  get drivers(): readonly string[] {
    return this.#settings.drivers ?? ['bridge'];
  }

  #id(driver = `cnm-${this.drivers[0] ?? ''}`): string {
    const id = this.#ids.get(driver);
    if (id === undefined) throw new Error(`the plugin ${driver} is not installed on ${this.#host.name}`);
    return id;
  }

  /** The plugin's propagated mount, where the first driver's plugin keeps its state. */
  get #data(): string {
    return join(this.#host.dir, 'docker/plugins', this.#id(), 'propagated-mount');
  }

  get stateFolder(): string {
    return join(this.#data, 'state');
  }

  get adminSocket(): string {
    return join(this.#data, 'cnm.sock');
  }

  async #api(method: string, path: string, body?: unknown): Promise<Reply> {
    const reply = await unixHttp(this.#host.outside(DOCKER_SOCKET), method, path, body);
    if (reply.status >= 300) throw new Error(`${method} ${path}: ${reply.text}`);
    return reply;
  }

  async #inspect(name: string): Promise<{ Id: string; Enabled: boolean }> {
    return (await this.#api('GET', `/plugins/${name}/json`)).body as { Id: string; Enabled: boolean };
  }

  /** `docker plugin create`, `set`: installed, not enabled. `more` are settings as NAME=VALUE. */
  async #install(name: string, driver: string): Promise<void> {
    await this.#api('POST', `/plugins/create?name=${name}`, createReadStream(this.#tar));
    const settings = Object.entries({ DRIVER: driver, LOG_LEVEL: 'debug', ...this.#settings.env });
    await this.#api(
      'POST',
      `/plugins/${name}/set`,
      settings.map((pair) => pair.join('=')),
    );
    this.#ids.set(name, (await this.#inspect(name)).Id);
  }

  /** Installs the plugins at the first start; enables those that are not. `more` are settings, NAME=VALUE. */
  async start(...more: string[]): Promise<void> {
    for (const driver of this.drivers) {
      const name = `cnm-${driver}`;
      if (!this.#ids.has(name)) await this.#install(name, driver);
      if ((await this.#inspect(name)).Enabled) continue;
      if (more.length > 0) await this.#api('POST', `/plugins/${name}/set`, more);
      await this.#api('POST', `/plugins/${name}/enable?timeout=120`);
    }
    await until('the managed plugin to answer', 60_000, async () => {
      for (const driver of this.drivers) await this.call(`cnm-${driver}`, 'Plugin.Activate');
      return true;
    });
  }

  get alive(): boolean {
    return this.#ids.size > 0;
  }

  /** `cnm-ipam` is served by every driver's plugin, on the same socket. */
  call(driver: string, method: string, body?: unknown): Promise<Reply> {
    const id = driver === 'cnm-ipam' ? this.#id() : this.#id(driver);
    return unixHttp(this.#host.outside(`/run/docker/plugins/${id}/cnm.sock`), 'POST', `/${method}`, body);
  }

  /** Signals the process inside, of every driver's plugin. Docker starts it again by itself. */
  async kill(signal: NodeJS.Signals): Promise<void> {
    for (const id of this.#ids.values()) {
      const ctr = ['ctr', '--address', '/run/containerd/containerd.sock', '--namespace', 'plugins.moby'];
      await this.#host.run([...ctr, 'tasks', 'kill', '--signal', signal, id]);
    }
  }

  /** Of the first driver's plugin. */
  async pid(): Promise<number> {
    const ctr = [
      'ctr',
      '--address',
      '/run/containerd/containerd.sock',
      '--namespace',
      'plugins.moby',
      'tasks',
      'list',
    ];
    const inside = new RegExp(`^${this.#id()}\\s+(\\d+)`, 'm').exec(await this.#host.run(ctr))?.[1];
    if (inside === undefined) throw new Error('the managed plugin does not run');
    return outerPid(this.#host, Number(inside));
  }

  /** Docker takes a plugin's output into its own log. */
  get log(): string {
    return '';
  }
}
