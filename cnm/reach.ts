/** The networks that this host has endpoints on together with others: each entered with its presence, and left with it. */
import type { Ip } from '../address/ip.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { EntryStep } from '../kernel/entry.ts';
import type { RecordChange } from './cnm.ts';
import type { ControlPlane, Remote } from './control.ts';
import type { Driver } from './driver.ts';
import type { Log } from './log.ts';
import type { EndpointId, NetworkId, NetworkRecord } from './model.ts';
import { type Introduction, Reached } from './reached.ts';
import type { Records } from './records.ts';

export interface ReachParts {
  readonly kernel: Kernel;
  readonly records: Records;
  readonly drivers: readonly Driver[];
  readonly log: Log;
  /** Absent: there are no other hosts. */
  readonly control: ControlPlane | undefined;
}

/** So long the first container of a network waits to know what other hosts have of it. */
const FIRST_MS = 2000;

export class Reach {
  readonly #parts: ReachParts;
  readonly #networks = new Map<NetworkId, Reached>();

  constructor(parts: ReachParts) {
    this.#parts = parts;
    parts.records.watch((change) => {
      this.#follow(change);
    });
  }

  /** To be called when the presence is there. Again is nothing new. */
  async enter(network: NetworkRecord): Promise<void> {
    const reached = this.#enter(network);
    await reached?.first(FIRST_MS);
  }

  /** Those that were there before the daemon began. */
  enterAll(): void {
    for (const network of this.#parts.records.networks()) this.#enter(network);
  }

  /** To be called before the presence is dismantled. */
  async leave(network: NetworkId): Promise<void> {
    const { records, control } = this.#parts;
    const reached = this.#networks.get(network);
    const agreement = records.network(network)?.agreement;
    this.#networks.delete(network);
    await reached?.close(true);
    if (reached === undefined && agreement !== undefined && agreement.plane === control?.name)
      control.quit(agreement);
  }

  /** As Reached.wanted. */
  wanted(network: NetworkId): readonly EntryStep[] | undefined {
    return this.#networks.get(network)?.wanted();
  }

  /** As Reached.look. */
  look(network: NetworkId): void {
    this.#networks.get(network)?.look();
  }

  /** Where the network's other hosts are; undefined while their records are not known. */
  hosts(network: NetworkId): readonly Ip[] | undefined {
    if (this.wanted(network) === undefined) return undefined;
    return this.remotes(network).flatMap((one) => (one.kind === 'host' ? [one.at] : []));
  }

  remotes(network: NetworkId): readonly Remote[] {
    return this.#networks.get(network)?.remotes() ?? [];
  }

  remote(network: NetworkId, id: string): Remote | undefined {
    return this.#networks.get(network)?.remote(id);
  }

  /** What an endpoint of this host is called is known later than the endpoint; the other hosts are told. */
  introduce(network: NetworkId, endpoint: EndpointId, introduction: Introduction): void {
    const record = this.#parts.records.endpoint(network, endpoint);
    if (record !== undefined) this.#networks.get(network)?.introduce(record, introduction);
  }

  async close(): Promise<void> {
    const all = [...this.#networks.values()];
    this.#networks.clear();
    await Promise.all(all.map((reached) => reached.close(false)));
  }

  #enter(network: NetworkRecord): Reached | undefined {
    const { control, drivers, kernel, records, log } = this.#parts;
    const known = this.#networks.get(network.id);
    const sharing = drivers.find(({ name }) => name === network.driver)?.sharing;
    if (known !== undefined || control === undefined || sharing === undefined) return known;
    if (network.presence === undefined || network.agreement?.plane !== control.name) return undefined;
    const onRemote = (id: string) => {
      records.tell({ what: 'remote', network: network.id, id });
    };
    const reached = new Reached({ network, sharing, kernel, log, onRemote });
    this.#networks.set(network.id, reached);
    reached.enter(control);
    for (const endpoint of records.endpoints(network.id)) reached.own(endpoint);
    return reached;
  }

  #follow(change: RecordChange): void {
    if (change.what === 'network') this.#changed(change.id);
    if (change.what !== 'endpoint') return;
    const reached = this.#networks.get(change.network);
    const endpoint = this.#parts.records.endpoint(change.network, change.id);
    if (endpoint === undefined) reached?.gone(change.id);
    else reached?.own(endpoint);
  }

  #changed(id: NetworkId): void {
    const network = this.#parts.records.network(id);
    if (network?.presence !== undefined) this.#networks.get(id)?.changed(network);
  }
}
