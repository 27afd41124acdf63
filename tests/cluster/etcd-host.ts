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
    // In the host's memory: what etcd has to put on a disk that others keep busy may take longer than anybody waits for its answer.
    const running = this.#host.spawn([
      ...['etcd', '--name', 'one', '--data-dir', '/run/etcd', '--logger', 'zap', '--log-level', 'warn'],
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

  async keys(prefix: string): Promise<readonly string[]> {
    return (await this.entries(prefix)).map(({ key }) => key);
  }

  /** So many hosts are in the cluster: each asks etcd for what is its own from then on. */
  async hasHosts(count: number): Promise<void> {
    for (const kind of ['ipam', 'overlay'])
      await until(`${count} hosts in the cluster`, 60_000, async () => {
        const { length } = await this.keys(`/cnm/${kind}/host/`);
        return length === count || undefined;
      });
  }

  /** Over etcd's JSON gateway, without any code of ours. */
  async entries(prefix: string): Promise<readonly { readonly key: string; readonly value: unknown }[]> {
    const code = (text: string) => Buffer.from(text).toString('base64');
    const text = (base64: string) => Buffer.from(base64, 'base64').toString();
    const end = prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);
    const body = JSON.stringify({ key: code(prefix), range_end: code(end) });
    const curl = ['curl', '-sS', '--fail', '-m', '60', '-d', body, `${this.url}/v3/kv/range`];
    const { kvs = [] } = JSON.parse(await this.#host.net(...curl)) as {
      readonly kvs?: readonly { readonly key: string; readonly value: string }[];
    };
    return kvs.map(({ key, value }) => ({ key: text(key), value: JSON.parse(text(value)) as unknown }));
  }
}
