/**
 * What Docker Swarm tells a driver and nobody else: the options that a manager had chosen for a network, and which nodes there are. Docker
 * tells of either once (libnetwork.md §3.1), so both are stored.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Ip } from '../address/ip.ts';
import type { Store } from '../store/store.ts';
import type { Driver } from './driver.ts';
import { CnmError, messageOf } from './errors.ts';
import type { NetworkId, NetworkRecord, NetworkSpec } from './model.ts';

/** What a manager's allocator was answered for a network. */
export interface Allocation {
  readonly id: NetworkId;
  readonly driver: string;
  readonly requested: Readonly<Record<string, string>>;
  readonly options: Readonly<Record<string, string>>;
  readonly createdAt: string;
}

export interface SwarmNode {
  readonly address: Ip;
  /** The one that this host is. */
  readonly self: boolean;
}

const ALLOCATION = 'swarm/network/';
const NODE = 'swarm/node/';

export class Swarm {
  readonly #store: Store;
  readonly #now: () => Date;

  constructor(store: Store, now: () => Date) {
    this.#store = store;
    this.#now = now;
  }

  allocations(): readonly Allocation[] {
    return this.#store.list(ALLOCATION).map(([, value]) => value as Allocation);
  }

  nodes(): readonly SwarmNode[] {
    return this.#store.list(NODE).map(([, value]) => value as SwarmNode);
  }

  /**
   * The same request again, and one with the answer in it (another manager's, or ours before a restart), get the same answer.
   * @throws CnmError what the driver says against it
   */
  async allocate(
    driver: Driver,
    network: NetworkSpec,
    here: readonly NetworkRecord[],
  ): Promise<Allocation['options']> {
    const { id, options: requested } = network;
    const known = this.#store.get(ALLOCATION + id) as Allocation | undefined;
    if (
      known !== undefined &&
      [known.requested, known.options].some((one) => isDeepStrictEqual(one, requested))
    )
      return known.options;
    const taken = [...this.allocations(), ...here].filter((other) => other.id !== id);
    const options = driver.allocate?.(network, taken) ?? requested;
    const createdAt = this.#now().toISOString();
    const made: Allocation = { id, driver: driver.name, requested, options, createdAt };
    await this.#write([{ put: ALLOCATION + id, value: made }]);
    return options;
  }

  async free(id: NetworkId): Promise<void> {
    if (this.#store.get(ALLOCATION + id) !== undefined) await this.#write([{ delete: ALLOCATION + id }]);
  }

  /** True when it was not known. There is one node that is this host: another address for it takes the place of the former. */
  async add(node: SwarmNode): Promise<boolean> {
    const known = this.nodes();
    if (known.some((other) => other.address === node.address && other.self === node.self)) return false;
    const former = known.filter(({ self, address }) => self && node.self && address !== node.address);
    await this.#write([
      ...former.map(({ address }) => ({ delete: NODE + address })),
      { put: NODE + node.address, value: node },
    ]);
    return true;
  }

  async remove(address: Ip): Promise<boolean> {
    if (this.#store.get(NODE + address) === undefined) return false;
    await this.#write([{ delete: NODE + address }]);
    return true;
  }

  async #write(changes: Parameters<Store['write']>[0]): Promise<void> {
    try {
      await this.#store.write(changes);
    } catch (error) {
      throw new CnmError('store', `The state cannot be saved: ${messageOf(error)}`, { cause: error });
    }
  }
}
