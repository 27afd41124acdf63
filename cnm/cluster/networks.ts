/**
 * Which networks the hosts of a cluster have together: a record for each, with those that have it; the last one takes it along. Every
 * change is a transaction under the condition that nobody else has changed what it was made from.
 */
import type { Prefix } from '../../address/prefix.ts';
import type { ClusterChange, ClusterStore, Condition, Failure } from '../../store/cluster.ts';
import type { Agreement, Terms } from '../control.ts';
import { CnmError } from '../errors.ts';
import {
  decodeNetwork,
  hostKey,
  networkId,
  networkKey,
  type NetworkRecord,
  numberKey,
  subnetKey,
} from './keys.ts';

export interface NetworksParts {
  readonly store: ClusterStore;
  /** `ControlPlane.name` */
  readonly plane: string;
  readonly me: { readonly id: string; readonly name: string };
  /** Subnets that this host has together with others: each address is given once, and each is one network's alone. */
  readonly shared: () => readonly Prefix[];
}

/** Those below are what people choose first, and Docker gives out from here upwards one by one. */
const FIRST_NUMBER = 4096;
const NUMBER_LIMIT = 0x1000000;
/** A record that others change at the same time; or a number that is taken. */
const ATTEMPTS = 50;

export class Networks {
  readonly #parts: NetworksParts;
  /** Of which a change may have been made, or may yet be made: only another one after it keeps it from that. */
  readonly #uncertain = new Set<string>();

  constructor(parts: NetworksParts) {
    this.#parts = parts;
  }

  /** As ControlPlane.agree. */
  async agree(terms: Terms, how: 'join' | 'look'): Promise<Agreement> {
    const id = networkId(terms.name);
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const known = await this.#read(id);
      const numbers = known.record?.numbers ?? candidates(id, terms, attempt);
      if (known.record !== undefined) assertEqual(known.record, terms, numbers);
      const shared = this.#sharedOf(terms);
      const agreement = { plane: this.#parts.plane, id, name: terms.name, numbers, shared };
      if (how === 'look') {
        const isHere = known.record !== undefined || (await this.#isFree(id, terms));
        // Read once more; a record that is still not there has been lost.
        if (!isHere && attempt === 0) continue;
        return agreement;
      }
      if (this.#isSurelyIn(id, known.record) || (await this.#join(id, terms, numbers, known)))
        return agreement;
      if (known.record === undefined) await this.#isFree(id, terms);
    }
    throw new CnmError(
      'cluster-unreachable',
      `The record of network ${terms.name} in ${this.#parts.store.name} changes too often`,
    );
  }

  /**
   * Written again as it was agreed on: the store has lost it, or this host in it.
   * @returns false when it was not answered
   * @throws CnmError `network-conflict` when others have made it with other numbers meanwhile.
   */
  async restore({ terms, agreement: { id, numbers } }: OwnNetwork): Promise<boolean> {
    const found = await this.#parts.store.get(networkKey(id));
    if (!found.ok) return false;
    const record = decodeNetwork(found.entry?.value);
    if (this.#isSurelyIn(id, record)) return true;
    if (record !== undefined && record.numbers.join() !== numbers.join()) throw lostNumbers(record, numbers);
    const known = { record, revision: found.entry?.revision };
    try {
      return await this.#join(id, terms, numbers, known);
    } catch (error) {
      if (error instanceof CnmError) return false;
      throw error;
    }
  }

  /** Whether it is not known what became of a change. */
  isUncertain(id: string): boolean {
    return this.#uncertain.has(id);
  }

  /** @returns false when it was not answered, or the host is another one, which is back. */
  async leave(id: string, host = this.#parts.me.id): Promise<boolean> {
    const { store, me } = this.#parts;
    const key = networkKey(id);
    const isAway: readonly Condition[] = host === me.id ? [] : [{ key: hostKey(host), is: 'absent' }];
    for (;;) {
      const found = await store.get(key);
      if (!found.ok) return false;
      const { entry } = found;
      const record = decodeNetwork(entry?.value);
      if (entry === undefined || record === undefined) return true;
      if (record.hosts[host] === undefined && (host !== me.id || !this.#uncertain.has(id))) return true;
      const hosts = Object.fromEntries(Object.entries(record.hosts).filter(([one]) => one !== host));
      const claims = Object.keys(hosts).length > 0 ? [] : await this.#claimsOf(record, id);
      if (claims === undefined) return false;
      const changes: readonly ClusterChange[] =
        Object.keys(hosts).length > 0
          ? [{ put: key, value: { ...record, hosts } }]
          : [key, ...claims.map((claim) => claim.key)].map((one) => ({ delete: one }));
      const when = [{ key, revision: entry.revision }, ...isAway, ...claims];
      const done = await this.#transact(id, when, changes);
      if (!done.ok) return false;
      if (done.done) return true;
      for (const condition of isAway) {
        const member = await store.get(condition.key);
        if (!member.ok || member.entry !== undefined) return false;
      }
    }
  }

  /** Those that it still has: one that was lost may be another network's by now. Undefined: not answered. */
  async #claimsOf({ claims }: NetworkRecord, id: string): Promise<readonly Condition[] | undefined> {
    const found = await Promise.all(claims.map((key) => this.#parts.store.get(key)));
    if (found.some((one) => !one.ok)) return undefined;
    return found.flatMap((one) =>
      one.ok && one.entry?.value === id ? [{ key: one.entry.key, revision: one.entry.revision }] : [],
    );
  }

  async #transact(
    id: string,
    when: readonly Condition[],
    then: readonly ClusterChange[],
  ): ReturnType<ClusterStore['transact']> {
    const done = await this.#parts.store.transact(when, then);
    if (!done.ok && done.uncertain) this.#uncertain.add(id);
    if (done.ok && done.done) this.#uncertain.delete(id);
    return done;
  }

  #isSurelyIn(id: string, record: NetworkRecord | undefined): boolean {
    return record?.hosts[this.#parts.me.id] !== undefined && !this.#uncertain.has(id);
  }

  async #read(id: string): Promise<Known> {
    const found = await this.#parts.store.get(networkKey(id));
    if (!found.ok) throw unreachable(found);
    return { record: decodeNetwork(found.entry?.value), revision: found.entry?.revision };
  }

  /** False: somebody was quicker, a claim is another network's, or there was no answer and what was done has to be read. */
  async #join(id: string, terms: Terms, numbers: readonly number[], known: Known): Promise<boolean> {
    const { me } = this.#parts;
    const { record, revision } = known;
    const key = networkKey(id);
    const claims = record?.claims ?? [...numbers.map(numberKey), ...this.#sharedOf(terms).map(subnetKey)];
    const hosts = { ...record?.hosts, [me.id]: me.name };
    const value: NetworkRecord = { name: terms.name, equal: terms.equal, numbers, claims, hosts };
    const unchanged: Condition = revision === undefined ? { key, is: 'absent' } : { key, revision };
    const write = async (held: readonly Condition[]) => {
      const done = await this.#transact(
        id,
        [unchanged, ...held],
        [{ put: key, value }, ...held.map((one) => ({ put: one.key, value: id }))],
      );
      if (!done.ok && !done.uncertain) throw unreachable(done);
      return done.ok && done.done;
    };
    if (record !== undefined) return write([]);
    if (await write(claims.map((one) => ({ key: one, is: 'absent' })))) return true;
    // Those that are its own already are of a record that was lost without them.
    return write(await Promise.all(claims.map((one) => this.#own(one, id))));
  }

  /** That a claim is nobody's, or this network's. */
  async #own(key: string, id: string): Promise<Condition> {
    const found = await this.#parts.store.get(key);
    if (!found.ok) throw unreachable(found);
    return found.entry?.value === id ? { key, revision: found.entry.revision } : { key, is: 'absent' };
  }

  #sharedOf({ subnets }: Terms): readonly Prefix[] {
    const shared = this.#parts.shared();
    return subnets.filter((pool) => shared.includes(pool));
  }

  /**
   * @returns false when it is this very network that has them, which another host has made since it was looked for
   * @throws CnmError naming the network that has one of the subnets, or of the numbers that were given
   */
  async #isFree(id: string, terms: Terms): Promise<boolean> {
    const numbers = (terms.numbers.given ?? []).map((one) => [numberKey(one), `VNI ${one}`] as const);
    const subnets = this.#sharedOf(terms).map((pool) => [subnetKey(pool), `Subnet ${pool}`] as const);
    for (const [key, what] of [...numbers, ...subnets]) {
      const found = await this.#parts.store.get(key);
      if (!found.ok) throw unreachable(found);
      if (found.entry === undefined) continue;
      const holder = typeof found.entry.value === 'string' ? found.entry.value : '';
      if (holder === id) return false;
      const { record } = await this.#read(holder);
      const hosts = Object.values(record?.hosts ?? {}).join(', ');
      throw new CnmError(
        'network-conflict',
        `${what} belongs to network ${record?.name ?? holder} of the cluster (on ${hosts}), and cannot be network ${terms.name}'s: choose another`,
      );
    }
    return true;
  }
}

export interface OwnNetwork {
  readonly agreement: Agreement;
  readonly terms: Terms;
}

interface Known {
  readonly record: NetworkRecord | undefined;
  readonly revision: number | undefined;
}

/** The same for the same network, so that it has them again should the store be lost; others when they turn out to be taken. */
function candidates(id: string, { numbers: { count, given } }: Terms, attempt: number): readonly number[] {
  if (given !== undefined) return given;
  const room = NUMBER_LIMIT - FIRST_NUMBER;
  const start = Number.parseInt(id.slice(0, 10), 16) + attempt * count;
  return Array.from({ length: count }, (_, index) => FIRST_NUMBER + ((start + index) % room));
}

/** @throws CnmError that shows both. */
function assertEqual(
  record: NetworkRecord,
  { name, equal, numbers: { given } }: Terms,
  numbers: readonly number[],
): void {
  const there = { ...record.equal, vni: numbers.join(',') };
  const here = { ...equal, vni: (given ?? numbers).join(',') };
  const differs = [...new Set([...Object.keys(there), ...Object.keys(here)])].filter(
    (key) => there[key as keyof typeof there] !== here[key as keyof typeof here],
  );
  if (differs.length === 0) return;
  const show = (terms: Readonly<Record<string, string>>) =>
    differs.map((key) => `${key} ${terms[key] ?? '(none)'}`).join(', ');
  throw new CnmError(
    'network-conflict',
    `Network ${name} has ${show(there)} on ${Object.values(record.hosts).join(', ')}, and was to have ${show(here)} here: ` +
      `give the same on every host, or another name`,
  );
}

function lostNumbers({ name, numbers, hosts }: NetworkRecord, own: readonly number[]): CnmError {
  return new CnmError(
    'network-conflict',
    `Network ${name} has VNI ${numbers.join(',')} on ${Object.values(hosts).join(', ')} since ` +
      `the cluster lost its record, and ${own.join(',')} here: remove it here and create it again`,
  );
}

export function unreachable({ message }: Failure): CnmError {
  return new CnmError('cluster-unreachable', `What the other hosts have is not known: ${message}`);
}
