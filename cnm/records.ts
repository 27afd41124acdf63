/**
 * The records of networks, endpoints and sandboxes: decoded once when the daemon starts, held in memory, and written
 * through to the store. Memory changes only after the store says that the change is durable.
 */
import type { Change, Store } from '../store/store.ts';
import type { RecordChange } from './cnm.ts';
import { CnmError, messageOf } from './errors.ts';
import type {
  EndpointId,
  EndpointRecord,
  NetworkId,
  NetworkRecord,
  SandboxId,
  SandboxRecord,
} from './model.ts';

const NETWORK = 'network/';
const ENDPOINT = 'endpoint/';
const SANDBOX = 'sandbox/';

const networkKey = (id: NetworkId) => NETWORK + id;
const endpointKey = (network: NetworkId, id: EndpointId) => `${ENDPOINT}${network}/${id}`;
const sandboxKey = (id: SandboxId) => SANDBOX + id;

export class Records {
  readonly #store: Store;
  readonly #networks = new Map<NetworkId, NetworkRecord>();
  /** Endpoints by network, so that a network's own are found without a walk through all. */
  readonly #endpoints = new Map<NetworkId, Map<EndpointId, EndpointRecord>>();
  readonly #sandboxes = new Map<SandboxId, SandboxRecord>();
  readonly #listeners = new Set<(change: RecordChange) => void>();

  constructor(store: Store) {
    this.#store = store;
    for (const [key, value] of store.list(NETWORK)) this.#keepNetwork(decode(key, value) as NetworkRecord);
    for (const [key, value] of store.list(ENDPOINT)) this.#keepEndpoint(decode(key, value) as EndpointRecord);
    for (const [key, value] of store.list(SANDBOX)) this.#keepSandbox(decode(key, value) as SandboxRecord);
  }

  networks(): readonly NetworkRecord[] {
    return [...this.#networks.values()];
  }

  network(id: NetworkId): NetworkRecord | undefined {
    return this.#networks.get(id);
  }

  endpoints(network?: NetworkId): readonly EndpointRecord[] {
    if (network !== undefined) return [...(this.#endpoints.get(network)?.values() ?? [])];
    return [...this.#endpoints.values()].flatMap((ofNetwork) => [...ofNetwork.values()]);
  }

  endpoint(network: NetworkId, id: EndpointId): EndpointRecord | undefined {
    return this.#endpoints.get(network)?.get(id);
  }

  sandboxes(): readonly SandboxRecord[] {
    return [...this.#sandboxes.values()];
  }

  sandbox(id: SandboxId): SandboxRecord | undefined {
    return this.#sandboxes.get(id);
  }

  async putNetwork(record: NetworkRecord): Promise<void> {
    await this.#write({ put: networkKey(record.id), value: record });
    this.#keepNetwork(record);
    this.tell({ what: 'network', id: record.id });
  }

  async dropNetwork(id: NetworkId): Promise<void> {
    await this.#write({ delete: networkKey(id) });
    this.#networks.delete(id);
    this.tell({ what: 'network', id });
  }

  async putEndpoint(record: EndpointRecord): Promise<void> {
    await this.#write({ put: endpointKey(record.network, record.id), value: record });
    this.#keepEndpoint(record);
    this.tell({ what: 'endpoint', network: record.network, id: record.id });
  }

  async dropEndpoint(network: NetworkId, id: EndpointId): Promise<void> {
    await this.#write({ delete: endpointKey(network, id) });
    const ofNetwork = this.#endpoints.get(network);
    ofNetwork?.delete(id);
    if (ofNetwork?.size === 0) this.#endpoints.delete(network);
    this.tell({ what: 'endpoint', network, id });
  }

  async putSandbox(record: SandboxRecord): Promise<void> {
    await this.#write({ put: sandboxKey(record.id), value: record });
    this.#keepSandbox(record);
    this.tell({ what: 'sandbox', id: record.id });
  }

  async dropSandbox(id: SandboxId): Promise<void> {
    await this.#write({ delete: sandboxKey(id) });
    this.#sandboxes.delete(id);
    this.tell({ what: 'sandbox', id });
  }

  /** As Cnm.watch. */
  watch(listener: (change: RecordChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Of a change that is in no record of this host's. */
  tell(change: RecordChange): void {
    for (const listener of this.#listeners) listener(change);
  }

  async #write(change: Change): Promise<void> {
    try {
      await this.#store.write([change]);
    } catch (error) {
      throw new CnmError('store', `The state cannot be saved: ${messageOf(error)}`, { cause: error });
    }
  }

  #keepNetwork(record: NetworkRecord): void {
    this.#networks.set(record.id, record);
  }

  #keepEndpoint(record: EndpointRecord): void {
    const ofNetwork = this.#endpoints.get(record.network) ?? new Map<EndpointId, EndpointRecord>();
    this.#endpoints.set(record.network, ofNetwork.set(record.id, record));
  }

  #keepSandbox(record: SandboxRecord): void {
    this.#sandboxes.set(record.id, record);
  }
}

/**
 * The store's schema version says that the shape is ours (an older one was migrated, a newer one refused); what is left
 * to check is that the value is one of our records at all.
 */
function decode(key: string, value: unknown): unknown {
  const record = value as { readonly state?: unknown; readonly plan?: unknown } | null;
  if (typeof record?.state === 'string' && Array.isArray(record.plan)) return record;
  throw new CnmError('store', `The stored record ${key} is not readable: it has no state or no plan`);
}
