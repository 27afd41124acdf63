/**
 * The leases that endpoints have of DHCP servers: got before an endpoint is made, stored before it is answered, renewed while it is there,
 * given back after it. A lease of an endpoint that has gone rests a while before it is given back: its container may be on its way back
 * (a restart is an end and a beginning, and Docker does not say which end is the last).
 */
import { CnmError, messageOf } from '../../cnm/errors.ts';
import type { Leased, LeaseRequest, Leases, Obtained } from '../../cnm/leases.ts';
import type { Log } from '../../cnm/log.ts';
import type { EndpointId, EndpointSpec, NetworkId } from '../../cnm/model.ts';
import type { Mac } from '../../address/mac.ts';
import type { Store } from '../../store/store.ts';
import type { Phase } from './client.ts';
import { firstLease } from './first-lease.ts';
import { type Lease, leasedOf } from './lease.ts';
import { sayRelease, Session, type SessionEvent } from './session.ts';
import { type OpenTap, Wires } from './wires.ts';
import { clientIdOf, type Identity } from './words.ts';

export interface LeasesParts {
  readonly store: Store;
  readonly tap: OpenTap;
  readonly log: Log;
  /** Milliseconds. How long a container waits for its first address, and how long a lease waits for its container. */
  readonly patience?: number;
  readonly rest?: number;
}

export interface DhcpLeases extends Leases {
  /** Goes on with those of endpoints that are there; the others have ended while nobody looked. */
  start(isThere: (network: NetworkId, endpoint: EndpointId) => boolean, onHeld?: OnHeld): Promise<void>;
  /** What the container of an endpoint is called: for the server, where the user named nothing. */
  named(endpoint: EndpointId, hostName: string): void;
  /** The container of an endpoint that has gone does not come back. */
  over(endpoint: EndpointId): Promise<void>;
  views(): readonly LeaseView[];
  /** Says nothing to any server: the leases go on. */
  close(): Promise<void>;
}

/**
 * What a lease in use is, by what is on disk: at the start, and each time that a server says it. Whoever did not get as far as to give the
 * endpoint its address hears of it again. Must not throw.
 */
export type OnHeld = (network: NetworkId, endpoint: EndpointId, leased: Leased) => void;

export interface LeaseView extends LeaseRecord {
  /** `resting`: its endpoint has gone. */
  readonly phase: Phase | 'resting';
}

/** As it is stored. */
export interface LeaseRecord {
  readonly network: NetworkId;
  readonly endpoint: EndpointId;
  readonly wire: string;
  readonly identity: Identity;
  /** The user or the endpoint named it: it is known again by its client identifier. */
  readonly returns: boolean;
  readonly lease: Lease;
  /** Since when its endpoint is gone; milliseconds since 1970. */
  readonly restsSince?: number;
}

/** dockerd waits for a plugin as long as it takes (a managed plugin: 30 s), and its user with it. A server that looks whether an address is free first takes 3 s (dnsmasq). */
const PATIENCE_MS = 10_000;
/** A container that restarts is away for a second, one whose Engine is updated for some. */
const REST_MS = 30_000;
const KEY = 'dhcp/';

interface Held {
  record: LeaseRecord;
  session?: Session;
  rest?: NodeJS.Timeout;
}

export function createDhcpLeases(parts: LeasesParts): DhcpLeases {
  return new Service(parts);
}

class Service implements DhcpLeases {
  readonly #parts: LeasesParts;
  readonly #wires: Wires;
  readonly #held = new Map<string, Held>();
  /** Writes of renewals: nobody waits for them but the end. */
  readonly #underWay = new Set<Promise<unknown>>();
  /** Ends an address being waited for. */
  readonly #waits = new Set<(error: CnmError) => void>();
  #onHeld: OnHeld | undefined;
  #closed = false;

  constructor(parts: LeasesParts) {
    this.#parts = parts;
    this.#wires = new Wires(parts.tap);
    for (const [key, value] of parts.store.list(KEY)) {
      this.#held.set(key.slice(KEY.length), { record: value as LeaseRecord });
    }
  }

  async start(
    isThere: (network: NetworkId, endpoint: EndpointId) => boolean,
    onHeld?: OnHeld,
  ): Promise<void> {
    this.#onHeld = onHeld;
    for (const held of [...this.#held.values()]) {
      const { network, endpoint, restsSince } = held.record;
      if (isThere(network, endpoint)) {
        this.#attend(held);
        this.#tell(held);
      } else if (restsSince === undefined) await this.giveBack(network, endpoint);
      // From now: after a start of the machine its containers are still to come.
      else this.#rest(held, Date.now());
    }
  }

  async obtain(endpoint: EndpointSpec & { readonly mac: Mac }, request: LeaseRequest): Promise<Obtained> {
    const key = keyOf(endpoint.network, endpoint.id);
    const known = this.#held.get(key);
    if (known?.session !== undefined) return obtained(known.record);
    const before = known ?? this.#waitingFor(endpoint, request);
    if (before !== undefined) this.#take(before);
    const identity = identityOf(endpoint, request, before?.record);
    try {
      const { session, lease } = await firstLease({
        wires: this.#wires,
        wire: request.wire,
        identity,
        ...(before && { lease: before.record.lease }),
        patience: this.#parts.patience ?? PATIENCE_MS,
        waits: this.#waits,
        on: (event) => {
          this.#heard(key, event);
        },
      });
      const { network, id } = endpoint;
      const record: LeaseRecord = {
        network,
        endpoint: id,
        wire: request.wire,
        identity,
        returns: request.returns,
        lease,
      };
      await this.#adopt(key, record, session, before?.record);
      const { log } = this.#parts;
      log.debug(
        { endpoint: id.slice(0, 12), address: lease.address, server: lease.server },
        'address leased',
      );
      return obtained(record);
    } catch (error) {
      if (before !== undefined) this.#putBack(before);
      throw error;
    }
  }

  /** What is known by the same client identifier; of somebody whom nobody named the only one of his kind that has left a moment ago. */
  #waitingFor(endpoint: EndpointSpec & { readonly mac: Mac }, request: LeaseRequest): Held | undefined {
    const resting = [...this.#held.values()].filter(
      ({ record }) =>
        record.restsSince !== undefined &&
        record.network === endpoint.network &&
        record.wire === request.wire &&
        record.returns === request.returns,
    );
    if (!request.returns) return resting.length === 1 ? resting[0] : undefined;
    const { clientId } = identityOf(endpoint, request);
    return resting.find(({ record }) => record.identity.clientId === clientId);
  }

  /** So that nobody else takes it, and it is not given back meanwhile. */
  #take(held: Held): void {
    clearTimeout(held.rest);
    this.#held.delete(keyOf(held.record.network, held.record.endpoint));
  }

  #putBack(held: Held): void {
    const { network, endpoint } = held.record;
    this.#held.set(keyOf(network, endpoint), held);
    this.#rest(held, held.record.restsSince ?? Date.now());
  }

  async #adopt(
    key: string,
    record: LeaseRecord,
    session: Session,
    before: LeaseRecord | undefined,
  ): Promise<void> {
    const former = before === undefined ? undefined : keyOf(before.network, before.endpoint);
    try {
      await this.#parts.store.write([
        ...(former === undefined || former === key ? [] : [{ delete: KEY + former }]),
        { put: KEY + key, value: record },
      ]);
      this.#held.set(key, { record, session });
    } catch (error) {
      session.close();
      this.#release(record);
      throw new CnmError('store', `The lease cannot be saved: ${messageOf(error)}`, { cause: error });
    }
  }

  /** Of a lease in use. */
  #heard(key: string, event: SessionEvent): void {
    const held = this.#held.get(key);
    if (held === undefined || this.#closed) return;
    const { log } = this.#parts;
    const { lease, endpoint, wire } = held.record;
    const what = { endpoint: endpoint.slice(0, 12), address: lease.address, server: lease.server };
    if (event.do === 'bound') {
      held.record = {
        ...held.record,
        lease: event.lease,
        identity: held.session?.client.identity ?? held.record.identity,
      };
      this.#save(held);
      log.debug({ ...what, expires: new Date(event.lease.expiresAt) }, 'lease renewed');
    } else if (event.do === 'lost') {
      const why =
        event.why === 'refused' ? 'the DHCP server refuses it' : 'no DHCP server has renewed it in time';
      log.error(
        { ...what, wire },
        `a container’s address may not be used any more: ${why}; another is asked for`,
      );
    } else if (event.do === 'unsent')
      log.debug({ ...what, wire, error: messageOf(event.error) }, 'the DHCP server cannot be asked now');
  }

  #save(held: Held): void {
    const { record } = held;
    const saved = this.#parts.store
      .write([{ put: KEY + keyOf(record.network, record.endpoint), value: record }])
      .catch((error: unknown) => {
        this.#parts.log.error({ error: messageOf(error) }, 'a renewed lease cannot be saved');
      })
      .finally(() => {
        this.#underWay.delete(saved);
        this.#tell(held);
      });
    this.#underWay.add(saved);
  }

  #tell({ record: { network, endpoint, lease } }: Held): void {
    if (!this.#closed) this.#onHeld?.(network, endpoint, leasedOf(lease));
  }

  #attend(held: Held): void {
    const { network, endpoint, wire, identity, lease } = held.record;
    const on = this.#heard.bind(this, keyOf(network, endpoint));
    held.session = new Session({ wires: this.#wires, wire, on }, identity, lease, true);
  }

  async giveBack(network: NetworkId, endpoint: EndpointId): Promise<void> {
    const held = this.#held.get(keyOf(network, endpoint));
    if (held === undefined || held.record.restsSince !== undefined) return;
    held.session?.close();
    delete held.session;
    const restsSince = Date.now();
    held.record = { ...held.record, restsSince };
    this.#rest(held, restsSince);
    await this.#parts.store.write([{ put: KEY + keyOf(network, endpoint), value: held.record }]);
  }

  #rest(held: Held, since: number): void {
    const { rest = REST_MS } = this.#parts;
    clearTimeout(held.rest);
    held.rest = setTimeout(
      () => {
        const ended = this.#end(held).finally(() => this.#underWay.delete(ended));
        this.#underWay.add(ended);
      },
      Math.max(0, since + rest - Date.now()),
    );
    held.rest.unref();
  }

  /** The server has it back. */
  async #end(held: Held): Promise<void> {
    const key = keyOf(held.record.network, held.record.endpoint);
    if (this.#held.get(key) !== held) return;
    clearTimeout(held.rest);
    held.session?.close();
    this.#held.delete(key);
    this.#release(held.record);
    await this.#parts.store.write([{ delete: KEY + key }]).catch((error: unknown) => {
      this.#parts.log.warn(
        { error: messageOf(error) },
        'the record of a lease that was given back cannot be removed yet',
      );
    });
  }

  #release({ wire, identity, lease }: LeaseRecord): void {
    if (lease.expiresAt <= Date.now()) return;
    // After a crash of Docker's an endpoint that it has lost may be there beside the one that came in its place: to the server both are one.
    const isOthers = [...this.#held.values()].some(
      ({ record }) => record.wire === wire && record.identity.clientId === identity.clientId,
    );
    if (isOthers) return;
    try {
      sayRelease(this.#wires, wire, identity, lease);
    } catch (error) {
      // It ends by itself.
      this.#parts.log.debug(
        { wire, address: lease.address, error: messageOf(error) },
        'a lease could not be released',
      );
    }
  }

  async giveBackAll(network: NetworkId): Promise<void> {
    for (const held of [...this.#held.values()]) if (held.record.network === network) await this.#end(held);
  }

  named(endpoint: EndpointId, hostName: string): void {
    for (const { record, session } of this.#held.values())
      if (record.endpoint === endpoint && record.identity.hostName === undefined) session?.rename(hostName);
  }

  async over(endpoint: EndpointId): Promise<void> {
    for (const held of [...this.#held.values()])
      if (held.record.endpoint === endpoint && held.record.restsSince !== undefined) await this.#end(held);
  }

  views(): readonly LeaseView[] {
    return [...this.#held.values()].map(({ record, session }) => ({
      ...record,
      phase: session?.client.phase ?? 'resting',
    }));
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const end of this.#waits) end(new CnmError('unavailable', 'The daemon is stopping'));
    for (const { session, rest } of this.#held.values()) {
      session?.close();
      clearTimeout(rest);
    }
    this.#wires.close();
    await Promise.allSettled(this.#underWay);
  }
}

function obtained({ lease, identity }: LeaseRecord): Obtained {
  return { leased: leasedOf(lease), mac: identity.mac };
}

/**
 * Who is taken for one that was here before is him in all: servers of homes know a client by his MAC, others by his identifier, which is
 * the same whatever MAC he has (RFC 4361 section 6.1).
 */
function identityOf(
  { mac }: { readonly mac: Mac },
  { hostName, clientId, returns }: LeaseRequest,
  before?: LeaseRecord,
): Identity {
  const own = returns || before === undefined ? mac : before.identity.mac;
  return {
    mac: own,
    clientId: clientId ?? before?.identity.clientId ?? clientIdOf(own),
    ...(hostName !== undefined && { hostName }),
  };
}

function keyOf(network: NetworkId, endpoint: EndpointId): string {
  return `${network}/${endpoint}`;
}
