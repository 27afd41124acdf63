import { randomBytes } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Service } from './cnmd.ts';
import type { CnmdSettings, Daemon } from './cnmd.ts';
import { CnmHost, DockerHost } from './docker-host.ts';
import type { Engine } from './engine.ts';
import { engineTree, storageDriver } from './engine.ts';
import type { BootedHost } from './host.ts';
import { boot, Host } from './host.ts';
import { Managed, pluginImage } from './managed.ts';
import { labName, leftOf, suspectLinks, sweep, takeAway } from './leftovers.ts';

/** What of tap the lab needs; a benchmark gives its own. */
export interface Owner {
  teardown(fn: () => Promise<void>): unknown;
  /** False once an assertion has failed: the daemons' logs are then shown. */
  passing?(): boolean;
}

/** Addresses of a host on one layer 2 segment. */
export interface Attachment {
  readonly host: Host;
  /** The interface's name inside the host. */
  readonly link: string;
  /** With prefix length; none: the link is up and bare. */
  readonly addresses?: readonly string[];
  readonly mtu?: number;
}

export interface HostOptions extends CnmdSettings {
  /** Default: h1, h2, … */
  readonly name?: string;
  /** Default true: `eth0` on the uplink, with a default route to the world. */
  readonly uplink?: boolean;
}

export interface DockerHostOptions extends HostOptions {
  /** Default 20.10. */
  readonly engine?: Engine;
  /** Default none: Docker's built-in drivers only. */
  readonly plugin?: 'none' | 'sockets' | 'managed';
  /** Further arguments of dockerd. */
  readonly dockerd?: readonly string[];
}

/** An address that stands for the rest of the internet (RFC 5737, RFC 3849); it answers pings from everywhere. */
export const WORLD = '203.0.113.1';
export const WORLD6 = '2001:db8:ffff::1';

/**
 * The uplink, and one more bridge in the world's namespace for every further segment:
 *
 *       h1 eth0 ──┐
 *       h2 eth0 ──┼── bridge uplink 198.51.100.1 ── world 203.0.113.1
 *       r  eth0 ──┘         2001:db8:1::1            2001:db8:ffff::1
 *
 * The world has no route to what lies behind the hosts: an answer comes only to what was masqueraded.
 */
export class Lab {
  readonly name: string;
  readonly #world: Host;
  readonly #folder: string;
  readonly #hosts: Host[] = [];
  #segments = 0;
  #booted = 0;
  #onUplink = 0;

  constructor(name: string, folder: string, world: Host) {
    this.name = name;
    this.#folder = folder;
    this.#world = world;
  }

  /** The machine behind the uplink, which owns WORLD and forwards between segments that have it as their router. */
  get world(): Host {
    return this.#world;
  }

  get hosts(): readonly Host[] {
    return this.#hosts;
  }

  async #boot(options: HostOptions, tree: string): Promise<BootedHost> {
    // Counted here, not by #hosts: several may boot at once.
    this.#booted += 1;
    const name = options.name ?? `h${this.#booted}`;
    return boot({ name, lab: this.name, folder: this.#folder, tree });
  }

  async #add<T extends Host>(host: T, options: HostOptions): Promise<T> {
    this.#hosts.push(host);
    if (options.uplink === false) return host;
    this.#onUplink += 1;
    const number = 9 + this.#onUplink;
    host.address = `198.51.100.${number}`;
    host.address6 = `2001:db8:1::${number}`;
    const addresses = [`${host.address}/24`, `${host.address6}/64`];
    await this.#connect(
      'uplink',
      { host, link: 'eth0', addresses },
      'route add default via 198.51.100.1',
      'route add default via 2001:db8:1::1',
    );
    return host;
  }

  /** A machine with neither Docker nor cnmd: a peer on the hosts' segment, a router, a server. */
  async peer(options: HostOptions = {}): Promise<Host> {
    return this.#add(new Host(await this.#boot(options, '/')), options);
  }

  /** A machine with cnmd alone; it is started. */
  async bareHost(options: HostOptions = {}): Promise<CnmHost> {
    const host = await this.#add(
      new CnmHost(await this.#boot(options, '/'), (host) => new Service(host, options)),
      options,
    );
    await host.startPlugin();
    return host;
  }

  /** A machine with a Docker Engine that answers, the image `cnm-lab` in it, and our plugin where it is asked for. */
  async dockerHost(options: DockerHostOptions = {}): Promise<DockerHost> {
    const booted = await this.#boot(options, await engineTree(options.engine ?? '20.10'));
    const settings = {
      dockerd: options.dockerd ?? [],
      storage: await storageDriver(this.#folder),
      cgroup: `${this.name}-${booted.settings.name}`,
    };
    const managed = options.plugin === 'managed' ? await pluginImage(this.#folder) : undefined;
    const daemon = (on: Host): Daemon =>
      managed === undefined ? new Service(on, options) : new Managed(on, options, managed);
    const host = await this.#add(new DockerHost(booted, daemon, settings), options);
    await host.startContainerd();
    const service = options.plugin === 'sockets' ? host.startPlugin() : Promise.resolve();
    await Promise.all([host.startDocker().then(() => host.loadImage()), service]);
    if (managed !== undefined) await host.startPlugin();
    return host;
  }

  /** A further layer 2 segment between hosts: a learning bridge without an address of its own. */
  async segment(...attachments: Attachment[]): Promise<string> {
    this.#segments += 1;
    const segment = `lan${this.#segments}`;
    await this.#world.sh(`ip link add ${segment} type bridge && ip link set ${segment} up`);
    for (const attachment of attachments) await this.attach(segment, attachment);
    return segment;
  }

  /** One more host on a segment (`uplink`, or what `segment` gave). Gives the name of its port there, in the world's namespace. */
  async attach(segment: string, attachment: Attachment): Promise<string> {
    return this.#connect(segment, attachment);
  }

  /** `more` are lines of ip(8) on the host. */
  async #connect(segment: string, attachment: Attachment, ...more: readonly string[]): Promise<string> {
    const { host, link, mtu } = attachment;
    const port = `${host.name}-${link}`.slice(-15);
    const size = mtu === undefined ? '' : `mtu ${mtu}`;
    await this.#world.ip(
      `link add ${port} ${size} type veth peer ${link} ${size} netns ${host.pid}`,
      `link set ${port} master ${segment} up`,
    );
    await host.ip(...up(attachment), ...more);
    return port;
  }

  /** A cable between two hosts. */
  async link(one: Attachment, other: Attachment): Promise<void> {
    await one.host.ip(`link add ${one.link} type veth peer ${other.link} netns ${other.host.pid}`);
    for (const end of [one, other])
      await end.host.ip(
        ...(end.mtu === undefined ? [] : [`link set ${end.link} mtu ${end.mtu}`]),
        ...up(end),
      );
  }

  /** Everything that every daemon of the lab wrote. */
  logs(): string {
    return this.#hosts.map((host) => (host instanceof CnmHost ? host.logs() : '')).join('\n');
  }

  async powerOff(): Promise<void> {
    await Promise.all([...this.#hosts, this.#world].map((host) => host.powerOff()));
  }
}

/** Lines of ip(8). Without duplicate address detection: an IPv6 address is usable at once. */
function up({ link, addresses = [] }: Attachment): readonly string[] {
  const nodad = (address: string) => (address.includes(':') ? 'nodad' : '');
  return [
    `link set ${link} up`,
    ...addresses.map((address) => `address add ${address} dev ${link} ${nodad(address)}`),
  ];
}

/** Of containerd's words there are the most, and they say the least. */
const LAST_LINES = 70;

/** The last lines of each daemon's log, when the test that owns the lab has failed. */
function explain(t: Owner, lab: Lab): void {
  if (t.passing?.() !== false) return;
  for (const log of lab.logs().split(/^(?=--- )/m)) {
    const [title = '', ...lines] = log.split('\n').filter((line) => !line.includes('module=grpc'));
    process.stderr.write(`${[title, ...lines.slice(-LAST_LINES)].join('\n')}\n`);
  }
}

/** A file that asks for the virtual machine would fail elsewhere without telling why. */
async function assertMachine(): Promise<void> {
  const file = process.argv[1] ?? '';
  if (process.env['CNM_LAB_VM'] === 'inside') return;
  if (/^\/\/ lab: vm\b/m.test(await readFile(file, 'utf8').catch(() => '')))
    throw new Error(`this test needs the virtual machine: bash tests/run-lab.sh ${file}`);
}

/**
 * Opens a lab, which is taken away when the test ends. Fails the test when anything of it is then still on the
 * machine. First removes what labs of killed tests left.
 */
export async function openLab(t: Owner): Promise<Lab> {
  await assertMachine();
  await sweep();
  const name = await labName(randomBytes(3).toString('hex'));
  const folder = join(tmpdir(), name);
  const links = await suspectLinks();
  await mkdir(folder);
  const world = new Host(await boot({ name: 'world', lab: name, folder, tree: '/' }));
  const lab = new Lab(name, folder, world);
  t.teardown(async () => {
    explain(t, lab);
    await lab.powerOff();
    await takeAway(name);
    const left = await leftOf(name, links);
    if (left.length > 0) throw new Error(`the lab left on the machine:\n${left.join('\n')}`);
  });
  await world.sh(`
    echo 1 > /proc/sys/net/ipv4/ip_forward
    echo 1 > /proc/sys/net/ipv6/conf/all/forwarding`);
  await world.ip(
    'link add uplink type bridge',
    'address add 198.51.100.1/24 dev uplink',
    'address add 2001:db8:1::1/64 dev uplink nodad',
    `address add ${WORLD}/32 dev lo`,
    `address add ${WORLD6}/128 dev lo`,
    'link set uplink up',
  );
  return lab;
}
