/** A real etcd (Debian's etcd-server) of one member on loopback, and a way to it that can be cut. */
import { mkdtemp, rm } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EtcdTls } from '../../store/etcd-members.ts';
import { openEtcd } from '../../store/etcd.ts';
import { good } from '../../store/cluster-suite.ts';
import { Hopeless, Running, run, until } from '../lab/command.ts';

/** What of tap is needed; a benchmark gives its own. */
interface Owner {
  teardown(fn: () => Promise<void>): unknown;
}

interface ServerTls {
  readonly arguments: readonly string[];
  /** Whom it answers. */
  readonly client: EtcdTls;
}

export class EtcdServer {
  readonly #folder: string;
  readonly #port: number;
  readonly #peerPort: number;
  readonly #tls: ServerTls | undefined;
  #running: Running | undefined;

  constructor(folder: string, port: number, peerPort: number, tls?: ServerTls) {
    this.#folder = folder;
    this.#port = port;
    this.#peerPort = peerPort;
    this.#tls = tls;
  }

  /** As in `--cluster etcd://…`. */
  get member(): string {
    return `127.0.0.1:${this.#port}`;
  }

  get port(): number {
    return this.#port;
  }

  /** Resolves when it answers; what it had before it was killed is there again. */
  async start(): Promise<void> {
    const client = `http${this.#tls === undefined ? '' : 's'}://${this.member}`;
    const peer = `http://127.0.0.1:${this.#peerPort}`;
    const running = new Running([
      ...[
        'etcd',
        '--name',
        'one',
        '--data-dir',
        join(this.#folder, 'etcd'),
        '--log-level',
        'warn',
        '--logger',
        'zap',
      ],
      ...['--listen-client-urls', client, '--advertise-client-urls', client],
      ...(this.#tls?.arguments ?? []),
      ...[
        '--listen-peer-urls',
        peer,
        '--initial-advertise-peer-urls',
        peer,
        '--initial-cluster',
        `one=${peer}`,
      ],
      // So that it is quick to be its own leader, and leases of a second can be had (3/2 of the election's timeout).
      ...['--heartbeat-interval', '50', '--election-timeout', '500'],
    ]);
    this.#running = running;
    const store = openEtcd({
      members: [this.member],
      deadline: 1000,
      ...(this.#tls && { tls: this.#tls.client }),
    });
    await until('etcd to answer', 30_000, async () => {
      if (!running.alive) throw new Hopeless(`etcd ended: ${running.stderr}`);
      good(await store.get('x'));
      return true;
    }).finally(() => store.close());
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    await this.#running?.kill(signal);
  }

  async compact(): Promise<void> {
    const store = openEtcd({ members: [this.member] });
    const { revision } = good(await store.get('x'));
    await store.close();
    // Its own command is in another package; the JSON gateway does it.
    const body = JSON.stringify({ revision: String(revision) });
    await run(['curl', '-sS', '--fail', '-d', body, `http://${this.member}/v3/kv/compaction`]);
  }

  async remove(): Promise<void> {
    await this.kill();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

export async function startEtcd(owner: Owner, tls?: ServerTls): Promise<EtcdServer> {
  const folder = await mkdtemp(join(tmpdir(), 'cnm-etcd-'));
  const [port, peerPort] = await freePorts();
  const server = new EtcdServer(folder, port, peerPort, tls);
  owner.teardown(() => server.remove());
  await server.start();
  return server;
}

/** Both at once, so that they differ. */
async function freePorts(): Promise<[number, number]> {
  const [one, two] = await Promise.all([listening(createServer()), listening(createServer())]);
  const ports: [number, number] = [portOf(one), portOf(two)];
  await Promise.all([closed(one), closed(two)]);
  return ports;
}

/** Passes connections on to etcd until it is cut: refused and reset at once, or silent like a cable that was pulled. */
export class Path {
  readonly #target: number;
  #server: Server | undefined;
  #port = 0;
  #silent = false;
  readonly #sockets = new Set<Socket>();

  constructor(target: number) {
    this.#target = target;
  }

  get member(): string {
    return `127.0.0.1:${this.#port}`;
  }

  async open(): Promise<void> {
    if (this.#server !== undefined) return;
    this.#silent = false;
    const server = createServer((near) => {
      const far = createConnection(this.#target, '127.0.0.1');
      this.#join(near, far);
      this.#join(far, near);
    });
    this.#server = await listening(server, this.#port);
    this.#port = portOf(server);
  }

  /** @param how `reset`: what is asked is refused. `silent`: nothing is ever answered. */
  async cut(how: 'reset' | 'silent' = 'reset'): Promise<void> {
    if (how === 'silent') {
      this.#silent = true;
      return;
    }
    const server = this.#server;
    this.#server = undefined;
    for (const socket of this.#sockets) socket.destroy();
    if (server !== undefined) await closed(server);
  }

  /** What was swallowed while it was silent is lost with its connections. */
  async heal(): Promise<void> {
    await this.cut();
    await this.open();
  }

  #join(from: Socket, to: Socket): void {
    this.#sockets.add(from);
    from.on('data', (chunk) => {
      if (!this.#silent) to.write(chunk);
    });
    from.on('error', () => undefined);
    from.on('close', () => {
      this.#sockets.delete(from);
      if (!this.#silent) to.destroy();
    });
  }
}

async function listening(server: Server, port = 0): Promise<Server> {
  await new Promise<void>((resolve, reject) => {
    server.on('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  return server;
}

function closed(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => {
      resolve();
    });
  });
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}
