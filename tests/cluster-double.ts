/** Several hosts with an IPAM each, one cluster store in memory, and what can happen to them. */
import type { Ip } from '../address/ip.ts';
import { addressOf, prefix } from '../address/prefix.ts';
import { createIpam } from '../ipam/index.ts';
import type { IpamOptions } from '../ipam/index.ts';
import type { AddressRequest, Ipam } from '../ipam/ipam.ts';
import { FakeCluster } from '../store/cluster-fake.ts';
import type { FakeClient } from '../store/cluster-fake.ts';
import { memoryStore } from '../store/memory.ts';
import type { Store } from '../store/store.ts';

/** Quick, as nobody is far away. */
const PACE = { ttl: 10, retry: 2, answerTime: 200, readyTime: 300, upkeep: 20 };

export class HostDouble {
  readonly name: string;
  readonly #server: FakeCluster;
  readonly #disk: Store = memoryStore();
  readonly #options: Partial<IpamOptions>;
  #alive = { value: true };
  readonly #writes = new Set<Promise<void>>();
  #client: FakeClient | undefined;
  #ipam: Ipam | undefined;

  constructor(name: string, server: FakeCluster, options: Partial<IpamOptions>) {
    this.name = name;
    this.#server = server;
    this.#options = options;
  }

  get ipam(): Ipam {
    if (this.#ipam === undefined) throw new Error(`${this.name} does not run`);
    return this.#ipam;
  }

  get client(): FakeClient {
    if (this.#client === undefined) throw new Error(`${this.name} does not run`);
    return this.#client;
  }

  get runs(): boolean {
    return this.#ipam !== undefined;
  }

  async start(boot = this.name): Promise<void> {
    const alive = { value: true };
    this.#alive = alive;
    this.#client = this.#server.client(`fake://for-${this.name}`);
    const store: Store = {
      ...this.#disk,
      get: (key) => this.#disk.get(key),
      list: (under) => this.#disk.list(under),
      // A dead process writes nothing, and nobody hears of what it wrote last.
      write: async (changes) => {
        const written = alive.value ? this.#disk.write(changes) : Promise.resolve();
        this.#writes.add(written);
        await written.finally(() => this.#writes.delete(written));
        if (!alive.value) await new Promise(() => undefined);
      },
    };
    const cluster = { store: this.#client, name: this.name, boot, pace: PACE };
    this.#ipam = await createIpam({ store, cluster, ...this.#options });
  }

  /** kill -9: what it was doing is cut off. */
  async crash(): Promise<void> {
    this.#alive.value = false;
    await this.#client?.close();
    this.#ipam = undefined;
    // What was on its way to the disk is there before it can be started again.
    await Promise.all(this.#writes);
  }

  async stop(): Promise<void> {
    await this.#ipam?.close();
    await this.crash();
  }

  async pool(subnet: string, options: Readonly<Record<string, string>> = {}): Promise<string> {
    const pool = prefix(subnet);
    const request = { space: 'cnm-global', pool, v6: subnet.includes(':'), options };
    return (await this.ipam.requestPool(request)).poolId;
  }

  async address(poolId: string, request: Partial<AddressRequest> = {}): Promise<Ip> {
    return addressOf(await this.ipam.requestAddress(poolId, { gateway: false, serial: false, ...request }));
  }

  leases(poolId: string): readonly Ip[] {
    const view = this.ipam.pools().find((pool) => pool.poolId === poolId);
    return view?.leases.map(({ address }) => address) ?? [];
  }
}

export async function hosts(
  count: number,
  options: Partial<IpamOptions> = {},
): Promise<{ server: FakeCluster; hosts: readonly HostDouble[] }> {
  const server = new FakeCluster();
  const made = Array.from({ length: count }, (_, n) => new HostDouble(`host${n}`, server, options));
  for (const host of made) await host.start();
  return { server, hosts: made };
}
