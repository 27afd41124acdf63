/** Hosts with a control plane each, one cluster store in memory, and what can happen to them. For tests. */
import { setImmediate } from 'node:timers/promises';
import { ip } from '../address/ip.ts';
import { mac } from '../address/mac.ts';
import { prefix } from '../address/prefix.ts';
import type { FakeClient, FakeCluster } from '../store/cluster-fake.ts';
import { memoryStore } from '../store/memory.ts';
import type { Agreement, OwnEndpoint, Remote, RemoteNews, Session, Terms } from '../cnm/control.ts';
import { silent } from '../cnm/log.ts';
import { type ClusterPlane, clusterPlane } from '../cnm/cluster/index.ts';

export const POOL = prefix('10.1.0.0/24');
export const terms = (name: string, more: Partial<Terms> = {}): Terms => ({
  name,
  equal: { subnets: POOL, port: '4789' },
  subnets: [],
  numbers: { count: 1 },
  ...more,
});

/** A host: its daemon may end and begin again, what it was told is compared with what the others have. */
export class Host {
  readonly number: number;
  address: number;
  /** Addresses at which a machine answers, although its host may be out of the cluster. */
  readonly answers = new Set<string>();
  readonly #server: FakeCluster;
  /** What the records of this host are to say, whether its daemon runs or not. */
  readonly networks = new Map<string, { agreement: Agreement; endpoints: Map<string, OwnEndpoint> }>();
  readonly told = new Map<string, Map<string, Remote>>();
  readonly #sessions = new Map<string, Session>();
  readonly #records = memoryStore();
  client: FakeClient;
  plane: ClusterPlane;

  constructor(server: FakeCluster, number: number) {
    this.#server = server;
    this.number = number;
    this.address = number;
    this.client = server.client();
    this.plane = this.#start();
  }

  #start(): ClusterPlane {
    const plane = clusterPlane({
      store: this.client,
      records: this.#records,
      host: { id: `host${this.number}`, name: `h${this.number}`, boot: `boot${this.number}` },
      shared: () => [POOL],
      own: () =>
        [...this.networks.values()].map(({ agreement }) => ({ agreement, terms: terms(agreement.name) })),
      log: silent,
      isThere: (address) => Promise.resolve(this.answers.has(address)),
      pace: { ttl: 10, retry: 1, ask: 1, askAgain: 2, back: 2 },
    });
    plane.start();
    return plane;
  }

  /** What it was told is on disk. */
  async remembered(): Promise<void> {
    const size = () => [...this.told.values()].reduce((sum, { size }) => sum + size, 0);
    await until('it to be on disk', () => this.heard === size());
  }

  get heard(): number {
    return this.#records.list('heard/').length;
  }

  /** @param number Of its address, when it has another one from then on. */
  async restart(number = this.address): Promise<void> {
    this.address = number;
    // kill -9: nothing is said, and what was under way is cut off.
    await this.client.close();
    this.#sessions.clear();
    this.told.clear();
    this.client = this.#server.client();
    this.plane = this.#start();
    for (const name of this.networks.keys()) this.#enter(name);
  }

  async join(name: string): Promise<void> {
    if (this.networks.has(name)) return;
    const agreement = await this.plane.agree(terms(name), 'join');
    this.networks.set(name, { agreement, endpoints: new Map() });
    this.#enter(name);
  }

  leave(name: string): void {
    const network = this.networks.get(name);
    if (network === undefined) return;
    this.networks.delete(name);
    this.told.delete(name);
    this.#sessions.get(name)?.close(true);
    this.#sessions.delete(name);
    this.plane.leave(network.agreement);
  }

  /** Its last endpoint goes, and so many turns later there is a next one. */
  async reenter(name: string, turns: number): Promise<void> {
    this.networks.get(name)?.endpoints.clear();
    this.#sessions.get(name)?.close(true);
    for (let turn = 0; turn < turns; turn += 1) await setImmediate();
    this.#enter(name);
  }

  put(name: string, id: string, address: string): void {
    const network = this.networks.get(name);
    if (network === undefined) return;
    const generation = network.endpoints.get(id)?.generation ?? this.plane.generation();
    const endpoint: OwnEndpoint = {
      ...{ id, mac: mac('02:42:0a:01:00:02'), addresses: [prefix(address)] },
      ...{ generation, names: [id], ports: [] },
    };
    network.endpoints.set(id, endpoint);
    this.#sessions.get(name)?.put(endpoint);
  }

  drop(name: string, id: string): void {
    this.networks.get(name)?.endpoints.delete(id);
    this.#sessions.get(name)?.drop(id);
  }

  #enter(name: string): void {
    const network = this.networks.get(name);
    if (network === undefined) return;
    const place = { at: ip(`192.0.2.${this.address}`), details: { vtep: 'kernel' } };
    const session = this.plane.enter(network.agreement, place, (news) => {
      this.#hear(name, news);
    });
    this.#sessions.set(name, session);
    for (const endpoint of network.endpoints.values()) session.put(endpoint);
  }

  #hear(name: string, news: RemoteNews): void {
    const known =
      news.what === 'changes'
        ? (this.told.get(name) ?? new Map<string, Remote>())
        : new Map<string, Remote>();
    for (const id of news.what === 'changes' ? news.gone : []) known.delete(id);
    for (const remote of news.what === 'changes' ? news.put : news.remotes) known.set(remote.id, remote);
    if (this.networks.has(name)) this.told.set(name, known);
  }

  /** Ids of what it knows of a network, hosts and endpoints. */
  view(name: string): string {
    return [...(this.told.get(name)?.values() ?? [])]
      .map((one) => `${one.id}@${one.at}`)
      .sort()
      .join(' ');
  }
}

function wanted(hosts: readonly Host[], me: Host, name: string): string {
  return hosts
    .filter((host) => host !== me && host.networks.has(name))
    .flatMap((host) =>
      [`host${host.number}`, ...(host.networks.get(name)?.endpoints.keys() ?? [])].map(
        (id) => `${id}@192.0.2.${host.number}`,
      ),
    )
    .sort()
    .join(' ');
}

export async function until(what: string, holds: () => boolean): Promise<void> {
  const end = Date.now() + 15_000;
  while (!holds()) {
    if (Date.now() > end) throw new Error(`waited for ${what}`);
    await setImmediate();
  }
}

export async function converge(hosts: readonly Host[], names: readonly string[]): Promise<void> {
  for (const host of hosts)
    for (const name of names.filter((one) => host.networks.has(one)))
      await until(
        `${host.number} on ${name} to be told of "${wanted(hosts, host, name)}", not "${host.view(name)}"`,
        () => host.view(name) === wanted(hosts, host, name),
      );
}
