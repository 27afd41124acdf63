/**
 * The secret that encrypted networks of a cluster follow from: made by whichever host comes first, had by all, and replaced by another one
 * that all receive with before anybody sends with it. Each host says under its lease what it has; one that is gone holds nothing up.
 * Every step is a transaction under the condition that nobody else has made it.
 *
 *   secret 1 ──(rotate)── 1, and 2 to receive with ──(all have it)── 2, and 1 to receive with ──(all send with it)── secret 2
 *
 * What was known last is stored: without the cluster everything stays as it is.
 */
import { randomBytes } from 'node:crypto';
import type { ClusterEntry, ClusterStore, ClusterWatch, WatchEvent } from '../../store/cluster.ts';
import type { Store } from '../../store/store.ts';
import { CnmError, messageOf } from '../errors.ts';
import type { Log } from '../log.ts';
import { Membership } from './membership.ts';

const PREFIX = 'secret/';
const NOW = `${PREFIX}now`;
const HOSTS = `${PREFIX}host/`;
const HAS = `${PREFIX}has/`;
/** In the host's own store. */
const KNOWN = 'overlay/secret';
const SECRET_BYTES = 32;

/** What is in the cluster store under secret/now. */
export interface SecretRecord {
  /** By their numbers, which only grow; the newest is the last. One, or two while the newer one takes the place of the older one. */
  readonly secrets: readonly { readonly number: number; readonly text: string }[];
  /** The number of the one that is sent with. */
  readonly sends: number;
  /** When the newest was made, in milliseconds since 1970 by its maker's clock. */
  readonly made: number;
}

/** Under secret/has/HOST: the newest that the host receives with, and the one that it sends with. */
interface Having {
  readonly has: number;
  readonly sends: number;
}

export interface SharedSecretParts {
  readonly cluster: ClusterStore;
  readonly store: Store;
  readonly host: { readonly id: string; readonly name: string; readonly boot: string };
  /** Milliseconds after which a secret is replaced. */
  readonly life: number;
  readonly log: Log;
  /** The secrets are others: resolves when this host receives with all of them, and sends with the first; called again while it rejects. */
  readonly onChange: () => Promise<unknown>;
  readonly now?: () => number;
  readonly pace?: Partial<SecretPace>;
}

export interface SecretPace {
  /** Seconds after which a host that does not answer is not waited for. */
  readonly ttl: number;
  /** Milliseconds between attempts, and for which a rotation that was asked for is waited for. */
  readonly retry: number;
  readonly patience: number;
}

/** A host that is gone holds it up for its lease; each of the others takes some two seconds, twice. */
const PACE: SecretPace = { ttl: 15, retry: 1000, patience: 60_000 };

export class SharedSecret {
  readonly #parts: SharedSecretParts;
  readonly #pace: SecretPace;
  readonly #membership: Membership;
  /** What the cluster store holds under PREFIX; undefined until it has been heard. */
  #entries: Map<string, ClusterEntry> | undefined;
  #watch: ClusterWatch | undefined;
  /** What this host goes by. */
  #record: SecretRecord | undefined;
  /** What its networks have keys of, for certain. */
  #followed: SecretRecord | undefined;
  #running: Promise<void> | undefined;
  #again = false;
  #complaint: string | undefined;
  #retry: NodeJS.Timeout | undefined;
  #closed = false;
  readonly #waiting = new Set<() => void>();

  constructor(parts: SharedSecretParts) {
    const { cluster, host, log } = parts;
    this.#parts = parts;
    this.#pace = { ...PACE, ...parts.pace };
    this.#record = decodeSecret(parts.store.get(KNOWN));
    this.#membership = new Membership({
      ...{ cluster, me: host.id, key: HOSTS + host.id, record: { name: host.name, boot: host.boot }, log },
      ...{ ttl: this.#pace.ttl, retry: this.#pace.retry },
      onChange: () => {
        this.#work();
      },
    });
  }

  /** The first is sent with, all are received; empty while none is known. */
  get secrets(): readonly string[] {
    const { secrets = [], sends } = this.#record ?? {};
    return secrets
      .toSorted((a, b) => Number(b.number === sends) - Number(a.number === sends))
      .map(({ text }) => text);
  }

  start(): void {
    this.#membership.start();
    this.#watch = this.#parts.cluster.watch(PREFIX, (event) => {
      this.#hear(event);
    });
  }

  /**
   * Another secret takes the place of this one. Resolves when this host sends with it.
   * @throws CnmError `cluster-unreachable`; `option-invalid` while one is being replaced already
   */
  async rotate(): Promise<void> {
    const known = this.#read();
    if (known === undefined || this.#membership.lease === undefined)
      throw new CnmError(
        'cluster-unreachable',
        `The secret of encrypted networks cannot be replaced now: ${this.#foreign ?? `${this.#parts.cluster.name} does not answer`}`,
      );
    const { newest, record } = known;
    if (record.secrets.length > 1)
      throw new CnmError('option-invalid', `The secret is being replaced already; ${this.#waitsFor(record)}`);
    const put = await this.#put({ ...known, record: this.#withNext(record) });
    if (!put.ok && !put.uncertain)
      throw new CnmError(
        'cluster-unreachable',
        `The secret of encrypted networks cannot be replaced now: ${put.message}`,
      );
    // Known is not sent with: its networks may not get their keys.
    const isSent = () => (this.#followed?.sends ?? 0) > newest;
    await this.#until(isSent);
    if (isSent()) return;
    if (numberOf(this.#record) <= newest)
      throw new CnmError(
        'cluster-unreachable',
        `It is not known whether another secret is made: ${this.#parts.cluster.name} does not answer`,
      );
    const now = this.#record ?? record;
    const state =
      now.sends > newest ? 'is the one to send with' : 'is made, to be sent with when all hosts have it';
    throw new CnmError('cluster-unreachable', `Another secret ${state}; ${this.#waitsFor(now)}`);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#watch?.close();
    clearTimeout(this.#retry);
    for (const wake of this.#waiting) wake();
    await this.#running;
    // Its networks stay encrypted as they are, and it is waited for until its lease ends, or it is back.
    await this.#membership.close(false);
  }

  #hear(event: WatchEvent): void {
    if (event.kind === 'snapshot') this.#entries = new Map(event.entries.map((entry) => [entry.key, entry]));
    if (event.kind === 'changes')
      for (const change of event.changes) {
        if ('put' in change) this.#entries?.set(change.put.key, change.put);
        else this.#entries?.delete(change.delete);
      }
    if (event.kind !== 'interrupted') this.#work();
  }

  #work(): void {
    this.#again = true;
    if (this.#running !== undefined || this.#closed) return;
    clearTimeout(this.#retry);
    this.#running = this.#settle().finally(() => {
      this.#running = undefined;
      // By time alone there may be something to do as well: what failed, and a secret that has grown old.
      if (this.#closed) return;
      this.#retry = setTimeout(() => {
        this.#work();
      }, this.#pace.retry).unref();
    });
  }

  async #settle(): Promise<void> {
    while (this.#again && !this.#closed) {
      this.#again = false;
      try {
        await this.#step();
        this.#complaint = undefined;
      } catch (error) {
        this.#complain(messageOf(error));
      }
      for (const wake of this.#waiting) wake();
    }
  }

  /** Tried again every `retry`, and said once. */
  #complain(error: string): void {
    if (error !== this.#complaint) this.#parts.log.error({ error }, 'the secret of encrypted networks');
    this.#complaint = error;
  }

  /** What is next for this host; the others' changes, and its own, lead here again. */
  async #step(): Promise<void> {
    if (this.#entries === undefined || this.#membership.lease === undefined) return;
    const known = this.#read();
    if (known === undefined) {
      // By a later version of this program, or by somebody's hand: not ours to overwrite.
      if (this.#foreign !== undefined) throw new Error(this.#foreign);
      await this.#put({ record: this.#record ?? this.#withNext(undefined), newest: 0, revision: undefined });
      return;
    }
    await this.#follow(known.record);
    if (!(await this.#say(known))) return;
    const next = this.#nextOf(known);
    if (next !== undefined) await this.#put({ ...known, record: next });
  }

  /** Stored before it is used: a daemon that ends here knows it. */
  async #follow(record: SecretRecord): Promise<void> {
    if (JSON.stringify(record) === JSON.stringify(this.#followed)) return;
    await this.#parts.store.write([{ put: KNOWN, value: record }]);
    this.#record = record;
    await this.#parts.onChange();
    this.#followed = record;
  }

  /** @returns true when it is said already. Under the condition that the secrets are still these. */
  async #say({ record, newest, revision }: Known): Promise<boolean> {
    const { lease } = this.#membership;
    const { cluster, host } = this.#parts;
    const key = HAS + host.id;
    const having: Having = { has: newest, sends: record.sends };
    const said = this.#entries?.get(key);
    if (lease === undefined) return false;
    if (said?.lease === lease.id && JSON.stringify(said.value) === JSON.stringify(having)) return true;
    await cluster.transact(revision === undefined ? [] : [{ key: NOW, revision }], [
      { put: key, value: having, lease },
    ]);
    return false;
  }

  #nextOf({ record, newest }: Known): SecretRecord | undefined {
    const { now = Date.now, life } = this.#parts;
    const all = [...this.#having().values()];
    if (record.sends < newest)
      return all.every(({ has }) => has >= newest) ? { ...record, sends: newest } : undefined;
    if (record.secrets.length > 1)
      return all.every(({ sends }) => sends >= newest)
        ? { ...record, secrets: record.secrets.filter(({ number }) => number === newest) }
        : undefined;
    return now() - record.made > life ? this.#withNext(record) : undefined;
  }

  #withNext(record: SecretRecord | undefined): SecretRecord {
    const { now = Date.now } = this.#parts;
    const number = numberOf(record) + 1;
    const text = randomBytes(SECRET_BYTES).toString('hex');
    const secrets = [...(record?.secrets ?? []), { number, text }];
    return { secrets, sends: record?.sends ?? number, made: now() };
  }

  #put({ record, revision }: Known): ReturnType<ClusterStore['transact']> {
    const when = revision === undefined ? { key: NOW, is: 'absent' as const } : { key: NOW, revision };
    return this.#parts.cluster.transact([when], [{ put: NOW, value: record }]);
  }

  #read(): Known | undefined {
    const entry = this.#entries?.get(NOW);
    const record = decodeSecret(entry?.value);
    return record && { record, newest: numberOf(record), revision: entry?.revision };
  }

  /** That what is there cannot be read. */
  get #foreign(): string | undefined {
    const entry = this.#entries?.get(NOW);
    if (entry === undefined || decodeSecret(entry.value) !== undefined) return undefined;
    return `${NOW} in ${this.#parts.cluster.name} is not as this cnmd writes it: delete it, and the hosts put back what they have`;
  }

  #having(): ReadonlyMap<string, Having> {
    return new Map(
      [...(this.#entries ?? [])].flatMap(([key, { value }]) => {
        const { has, sends } = (value ?? {}) as Readonly<Record<string, unknown>>;
        const isOne = key.startsWith(HAS) && typeof has === 'number' && typeof sends === 'number';
        return isOne ? [[key.slice(HAS.length), { has, sends }] as const] : [];
      }),
    );
  }

  #waitsFor(record: SecretRecord): string {
    const newest = numberOf(record);
    const isFirst = record.sends < newest;
    const late = [...this.#having()].filter(([, { has, sends }]) => (isFirst ? has : sends) < newest);
    const names = late.map(([id]) => {
      const { name } = (this.#entries?.get(HOSTS + id)?.value ?? {}) as Readonly<Record<string, unknown>>;
      return typeof name === 'string' ? name : id;
    });
    return names.length === 0 ? 'it is nearly done' : `it waits for ${names.sort().join(', ')}`;
  }

  #until(holds: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        this.#waiting.delete(look);
        resolve();
      };
      const look = () => {
        if (holds() || this.#closed) end();
      };
      const timer = setTimeout(end, this.#pace.patience);
      this.#waiting.add(look);
      look();
    });
  }
}

interface Known {
  readonly record: SecretRecord;
  readonly newest: number;
  readonly revision: number | undefined;
}

function numberOf(record: SecretRecord | undefined): number {
  return Math.max(0, ...(record?.secrets ?? []).map(({ number }) => number));
}

/** Undefined: not written by us. */
function decodeSecret(value: unknown): SecretRecord | undefined {
  const { secrets, sends, made } = (value ?? {}) as Readonly<Record<string, unknown>>;
  if (!Array.isArray(secrets) || typeof sends !== 'number' || typeof made !== 'number') return undefined;
  const known = secrets.flatMap((one: unknown) => {
    const { number, text } = (one ?? {}) as Readonly<Record<string, unknown>>;
    return typeof number === 'number' && typeof text === 'string' ? [{ number, text }] : [];
  });
  return known.some(({ number }) => number === sends) ? { secrets: known, sends, made } : undefined;
}
