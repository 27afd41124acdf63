import { createReadStream, existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { DOCKER_SOCKET } from './cnmd.ts';
import type { Daemon } from './cnmd.ts';
import type { CommandOptions, Output, Running } from './command.ts';
import { Hopeless, run, tryRun, until } from './command.ts';
import type { BootedHost } from './host.ts';
import { Host, NODE, REPOSITORY } from './host.ts';
import { COMMAND, IMAGE, imageTar } from './image.ts';
import type { Reply } from './unix-http.ts';
import { unixHttp } from './unix-http.ts';

/** A host that has our daemon, and no Docker: the standalone form. */
export class CnmHost extends Host {
  readonly cnmd: Daemon;

  constructor(booted: BootedHost, daemon: (host: Host) => Daemon) {
    super(booted);
    this.cnmd = daemon(this);
  }

  /** The `cnm` command; throws with its standard error when it fails. */
  async cnm(...words: string[]): Promise<string> {
    return this.run([NODE, join(REPOSITORY, 'inspect/cnm.ts'), ...words], this.#cnmOptions());
  }

  tryCnm(...words: string[]): Promise<Output> {
    return this.tryRun([NODE, join(REPOSITORY, 'inspect/cnm.ts'), ...words], this.#cnmOptions());
  }

  #cnmOptions(): CommandOptions {
    return { env: { CNM_SOCKET: this.cnmd.adminSocket } };
  }

  /** One call as Docker makes it: `plugin('cnm-bridge', 'NetworkDriver.CreateNetwork', {…})`. */
  plugin(driver: string, method: string, body?: unknown): Promise<Reply> {
    return this.cnmd.call(driver, method, body);
  }

  /** A call to the admin API, which is quicker than a command; throws with its text when it is refused. */
  async admin<T = unknown>(method: string, path: string, body?: unknown): Promise<T> {
    const answer = await unixHttp(this.outside(this.cnmd.adminSocket), method, path, body);
    if (answer.status >= 300) throw new Error(answer.text);
    return answer.body as T;
  }

  /** The first sandbox makes the folder for all, which stays: so it is there before anything is compared. */
  async makeSandboxFolder(): Promise<void> {
    await this.cnm('sandbox', 'create', 'first');
    await this.cnm('sandbox', 'rm', 'first');
  }

  /** A driver's name as Docker wants it here: `driver('bridge')` is `cnm-bridge`, or `cnm-bridge:latest` when managed. */
  driver(name: string): string {
    return `cnm-${name}${this.cnmd.tag}`;
  }

  startPlugin(...more: string[]): Promise<void> {
    return this.cnmd.start(...more);
  }

  async killPlugin(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.cnmd.kill(signal);
  }

  /** What the host's daemons wrote: for a failure's diagnosis. */
  logs(): string {
    return `--- cnmd on ${this.name}\n${this.cnmd.log}`;
  }
}

export interface EngineSettings {
  /** Further arguments of dockerd, as `--live-restore`. */
  readonly dockerd: readonly string[];
  readonly storage: 'overlay2' | 'vfs';
  /** Of this lab, so that its cgroups are told from others'. */
  readonly cgroup: string;
}

/** `NetworkSettings` of a container, as far as it is asked for here. */
export interface ContainerNetworkSettings {
  /** Empty where it does not run. */
  readonly SandboxKey: string;
  /** By the network's name. */
  readonly Networks?: Readonly<
    Record<
      string,
      { readonly IPAddress?: string; readonly GlobalIPv6Address?: string; readonly MacAddress?: string }
    >
  > | null;
}

const CONTAINERD_SOCKET = '/run/containerd/containerd.sock';

/** A host with a Docker Engine of its own. Its socket, folders and containers are seen from nowhere else. */
export class DockerHost extends CnmHost {
  readonly #engine: EngineSettings;
  #containerd: Running | undefined;
  #dockerd: Running | undefined;
  #dockerLog = '';

  constructor(booted: BootedHost, daemon: (host: Host) => Daemon, engine: EngineSettings) {
    super(booted, daemon);
    this.#engine = engine;
  }

  /**
   * Starts containerd. It is apart from dockerd, because the one that dockerd starts itself may be half dead after
   * a SIGKILL of dockerd.
   */
  async startContainerd(): Promise<void> {
    const folder = join(this.dir, 'containerd');
    await mkdir(folder, { recursive: true });
    const unused = ['grpc.v1.cri', 'snapshotter.v1.btrfs', 'snapshotter.v1.zfs', 'snapshotter.v1.aufs'];
    const config = [
      'version = 2',
      `root = "${folder}"`,
      'state = "/run/containerd"',
      `disabled_plugins = [${unused.map((name) => `"io.containerd.${name}"`).join(', ')}]`,
    ].join('\n');
    await writeFile(join(this.dir, 'containerd.toml'), config);
    this.#containerd = this.spawn([
      'containerd',
      '--log-level',
      'warn',
      '-c',
      join(this.dir, 'containerd.toml'),
    ]);
  }

  /** Starts dockerd and waits until it answers. */
  async startDocker(...more: string[]): Promise<void> {
    if (this.#dockerd?.alive === true) throw new Error('dockerd runs already');
    this.#dockerLog = this.dockerLog;
    const places = ['--data-root', join(this.dir, 'docker'), '--containerd', CONTAINERD_SOCKET];
    const ours = [
      '--exec-opt',
      'native.cgroupdriver=cgroupfs',
      '--storage-driver',
      this.#engine.storage,
      '--cgroup-parent',
      `/${this.#engine.cgroup}`,
    ];
    const dockerd = this.spawn(['dockerd', ...places, ...ours, ...this.#engine.dockerd, ...more]);
    this.#dockerd = dockerd;
    await until('dockerd to answer', 180_000, async () => {
      if (!dockerd.alive) throw new Hopeless(`dockerd ended: ${dockerd.stderr}`);
      if (!existsSync(this.outside(DOCKER_SOCKET))) return undefined;
      return (await this.api('GET', '/_ping')).status === 200 || undefined;
    });
  }

  /** SIGKILL by default; another signal that ends dockerd is waited for as well. */
  async killDocker(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    if (this.#dockerd === undefined) throw new Error('dockerd was not started');
    await this.#dockerd.kill(signal);
    // dockerd refuses to start while its pid file names a living process, and numbers are used again quickly here.
    if (!this.#dockerd.alive) await this.trySh('rm -f /run/docker.pid');
  }

  /** A clean end: containers are stopped (unless `--live-restore`), the plugin is told. */
  stopDocker(): Promise<void> {
    return this.killDocker('SIGTERM');
  }

  /** Makes the lab's image known to this Engine as `cnm-lab`. */
  async loadImage(): Promise<void> {
    const changes = encodeURIComponent(`CMD ${JSON.stringify(COMMAND)}`);
    const tar = createReadStream(await imageTar());
    const reply = await this.api(
      'POST',
      `/images/create?fromSrc=-&repo=${IMAGE}&tag=latest&changes=${changes}`,
      tar,
    );
    if (reply.status !== 200) throw new Error(`docker import: ${reply.text}`);
  }

  /** Docker's HTTP API. The path without a version is the newest that the Engine has. */
  api(method: string, path: string, body?: unknown): Promise<Reply> {
    return unixHttp(this.outside(DOCKER_SOCKET), method, path, body);
  }

  /** The host's own docker command; throws with its standard error. Output without the last line end. */
  async docker(...words: string[]): Promise<string> {
    return (await this.run(['/usr/bin/docker', ...words])).trimEnd();
  }

  tryDocker(...words: string[]): Promise<Output> {
    return this.tryRun(['/usr/bin/docker', ...words]);
  }

  /** `docker run -d` of the lab's image, which waits until it is stopped. Gives the container's id. */
  container(name: string, network: string, ...options: string[]): Promise<string> {
    return this.docker(
      'run',
      '-d',
      '--name',
      name,
      '--hostname',
      name,
      '--network',
      network,
      ...options,
      IMAGE,
    );
  }

  /** `docker exec`: the image's programs, the container's own view. */
  exec(container: string, ...argv: string[]): Promise<string> {
    return this.docker('exec', container, ...argv);
  }

  tryExec(container: string, ...argv: string[]): Promise<Output> {
    return this.tryDocker('exec', container, ...argv);
  }

  /** Of `docker inspect`, without the time that the command takes to start. */
  async settingsOf(container: string): Promise<ContainerNetworkSettings> {
    const { status, body, text } = await this.api('GET', `/containers/${container}/json`);
    if (status !== 200) throw new Error(`docker inspect ${container}: ${text}`);
    return (body as { readonly NetworkSettings: ContainerNetworkSettings }).NetworkSettings;
  }

  /** The container's network namespace as a path that this machine can open. */
  async sandbox(container: string): Promise<string> {
    const { SandboxKey: key } = await this.settingsOf(container);
    if (key === '') throw new Error(`container ${container} has no network namespace: it does not run`);
    return this.outside(`/run/docker/netns/${basename(key)}`);
  }

  /** One of *this machine's* programs (ping, dig, ip, socat, …) in the container's network namespace. */
  async inContainer(container: string, ...argv: string[]): Promise<string> {
    return run(['nsenter', `--net=${await this.sandbox(container)}`, '--', ...argv]);
  }

  async tryInContainer(container: string, options: CommandOptions, ...argv: string[]): Promise<Output> {
    return tryRun(['nsenter', `--net=${await this.sandbox(container)}`, '--', ...argv], options);
  }

  /** One echo request out of the container, to an address; see `pings`. */
  async containerPings(container: string, address: string, seconds = 10): Promise<boolean> {
    const ping = ['ping', '-n', '-c1', `-W${seconds}`, address];
    return (await this.tryInContainer(container, {}, ...ping)).code === 0;
  }

  get dockerLog(): string {
    return this.#dockerLog + (this.#dockerd?.stderr ?? '');
  }

  override logs(): string {
    const containerd = `--- containerd on ${this.name}\n${this.#containerd?.stderr ?? ''}`;
    return `${super.logs()}\n--- dockerd on ${this.name}\n${this.dockerLog}\n${containerd}`;
  }
}
