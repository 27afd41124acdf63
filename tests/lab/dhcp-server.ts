/** A DHCP server on a wire: Debian's dnsmasq. */
import { join } from 'node:path';
import type { Running } from './command.ts';
import { until } from './command.ts';
import type { Host } from './host.ts';

/** A line of its lease file (lease.c, lease_update_file()). */
export interface ServerLease {
  /** Seconds since 1970. */
  readonly expires: number;
  readonly mac: string;
  readonly address: string;
  /** Empty: none was told. */
  readonly name: string;
  /** Pairs of hex digits with colons between; empty: none was told. */
  readonly clientId: string;
}

export class DhcpServer {
  readonly #host: Host;
  readonly #name: string;
  readonly #arguments: readonly string[];
  #running: Running | undefined;
  #log = '';

  /**
   * @param name another server of the same host has another.
   * @param options further ones of dnsmasq(8).
   */
  constructor(host: Host, link: string, name: string, ...options: string[]) {
    this.#host = host;
    this.#name = name;
    const quiet = [
      '--no-daemon',
      '--conf-file=/dev/null',
      '--port=0',
      '--user=root',
      '--pid-file=',
      '--log-dhcp',
    ];
    this.#arguments = [
      ...quiet,
      `--interface=${link}`,
      '--bind-dynamic',
      `--dhcp-leasefile=${this.#file}`,
      ...options,
    ];
  }

  get #file(): string {
    return join(this.#host.dir, `${this.#name}.leases`);
  }

  async start(): Promise<void> {
    const running = this.#host.spawn(['dnsmasq', ...this.#arguments]);
    this.#running = running;
    await until('dnsmasq to serve', 15_000, () => running.stderr.includes('DHCP, IP range') || undefined);
  }

  async stop(): Promise<void> {
    this.#log = this.log;
    await this.#running?.kill('SIGTERM');
    this.#running = undefined;
  }

  /** What it wrote: a line for each message. */
  get log(): string {
    return this.#log + (this.#running?.stderr ?? '');
  }

  async leases(): Promise<readonly ServerLease[]> {
    const { stdout } = await this.#host.trySh(`cat ${this.#file}`);
    return stdout.split('\n').flatMap((line) => {
      const [expires = '', mac = '', address = '', name = '', clientId = ''] = line.split(' ');
      if (!/^\d+$/.test(expires)) return [];
      const known = (text: string) => (text === '*' ? '' : text);
      return [{ expires: Number(expires), mac, address, name: known(name), clientId: known(clientId) }];
    });
  }
}
