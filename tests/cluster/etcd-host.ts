import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Hopeless, until } from '../lab/command.ts';
import type { Running } from '../lab/command.ts';
import type { Host } from '../lab/host.ts';

/** On a machine of its own, so that a host can be cut off from it. */
export class EtcdHost {
  readonly #host: Host;
  #running: Running | undefined;

  constructor(host: Host) {
    this.#host = host;
  }

  get url(): string {
    return `http://${this.#host.address}:2379`;
  }

  async start(): Promise<void> {
    const peer = `http://${this.#host.address}:2380`;
    await mkdir(join(this.#host.dir, 'etcd'), { recursive: true, mode: 0o700 });
    const running = this.#host.spawnNet([
      ...[
        'etcd',
        '--name',
        'one',
        '--data-dir',
        join(this.#host.dir, 'etcd'),
        '--logger',
        'zap',
        '--log-level',
        'warn',
      ],
      ...['--listen-client-urls', this.url, '--advertise-client-urls', this.url],
      ...[
        '--listen-peer-urls',
        peer,
        '--initial-advertise-peer-urls',
        peer,
        '--initial-cluster',
        `one=${peer}`,
      ],
    ]);
    this.#running = running;
    await until('etcd to answer', 30_000, async () => {
      if (!running.alive) throw new Hopeless(`etcd ended: ${running.stderr}`);
      await this.keys('/');
      return true;
    });
  }

  async kill(): Promise<void> {
    await this.#running?.kill('SIGKILL');
  }

  /** Over etcd's JSON gateway, without any code of ours. */
  async keys(prefix: string): Promise<readonly string[]> {
    const code = (text: string) => Buffer.from(text).toString('base64');
    const end = prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
    const body = JSON.stringify({ key: code(prefix), range_end: code(end), keys_only: true });
    const answer = await this.#host.net(
      'curl',
      '-sS',
      '--fail',
      '-m',
      '5',
      '-d',
      body,
      `${this.url}/v3/kv/range`,
    );
    const { kvs = [] } = JSON.parse(answer) as { readonly kvs?: readonly { readonly key: string }[] };
    return kvs.map(({ key }) => Buffer.from(key, 'base64').toString());
  }
}

