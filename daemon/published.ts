/** Networks that are on every host of the cluster: said by one host, made by each for itself, also when it comes or wakes up later. */
import type { ClusterPlane } from '../cnm/cluster/index.ts';
import { hostKey } from '../cnm/cluster/keys.ts';
import { unreachable } from '../cnm/cluster/networks.ts';
import { CnmError } from '../cnm/errors.ts';
import type { Log } from '../cnm/log.ts';
import type { NetworkRecord } from '../cnm/model.ts';
import { difference, isSame, type Outcome } from '../cnm/published/decide.ts';
import {
  decodePublished,
  descriptionOf,
  publishedKey,
  type PublishedNetwork,
  type Report,
  reportKey,
} from '../cnm/published/record.ts';
import type { ClusterEntry, ClusterStore } from '../store/cluster.ts';
import { Chore } from './chore.ts';
import { type HereParts, PublishedHere } from './published-here.ts';
import { type Heard, PublishedMirror } from './published-mirror.ts';

export interface PublishedParts extends HereParts {
  readonly store: ClusterStore;
  readonly plane: Pick<ClusterPlane, 'lease'>;
  readonly host: { readonly id: string; readonly name: string };
  readonly log: Log;
  readonly pace?: Partial<PublishedPace>;
}

/** All in milliseconds. */
export interface PublishedPace {
  /** Between looks while something is to be waited for: an Engine, a lease. */
  readonly soon: number;
  /** Between looks at what is as it should be, or was refused. */
  readonly late: number;
}

const PACE: PublishedPace = { soon: 3000, late: 60_000 };
/** Transactions that others are quicker than. */
const ATTEMPTS = 20;

/** `unheard`: the host has said nothing, in the time that there was. */
export interface HostOutcome {
  readonly id: string;
  readonly host: string;
  readonly outcome: Report['outcome'] | 'unheard';
  readonly message?: string;
}

export interface PublishedState {
  readonly network: PublishedNetwork;
  readonly hosts: readonly HostOutcome[];
}

/** A network as the last word on it is: the description, and whether it is to be there. */
type Saying = (known: PublishedNetwork | undefined) => PublishedNetwork;

export class PublishedNetworks {
  readonly #parts: PublishedParts;
  readonly #pace: PublishedPace;
  readonly #mirror = new PublishedMirror();
  readonly #here: PublishedHere;
  readonly #chore: Chore;
  /** What was last written of a network, and with which lease: what is so already is not written again. */
  readonly #said = new Map<string, string>();

  constructor(parts: PublishedParts) {
    this.#parts = parts;
    this.#pace = { ...PACE, ...parts.pace };
    this.#here = new PublishedHere(parts);
    this.#chore = new Chore('the making of published networks', parts.log, () => this.#settleAll());
  }

  /** When records and kernel agree: what is made takes the way of every other network. */
  start(): void {
    this.#mirror.start(this.#parts.store, () => {
      this.#chore.within(0);
    });
  }

  /**
   * Answers when every host has said what became of it, or when the time is up.
   * @throws CnmError `request-invalid`, `network-conflict` when it is published otherwise, `unavailable`, `cluster-unreachable`
   */
  async publish(network: NetworkRecord, milliseconds: number): Promise<PublishedState> {
    const description = descriptionOf(await this.#here.describe(network));
    const by = this.#parts.host.name;
    return this.#say(description.name, milliseconds, (known) => {
      if (known?.state !== 'published') return { ...description, state: 'published', by };
      if (isSame(known, description)) return known;
      throw new CnmError(
        'network-conflict',
        `Network ${difference(known, description)}: unpublish it first, or create this one anew as it is there`,
      );
    });
  }

  /** As publish. @throws CnmError `network-unknown` for one that is not published; `cluster-unreachable` */
  async withdraw(name: string, milliseconds: number): Promise<PublishedState> {
    const by = this.#parts.host.name;
    return this.#say(name, milliseconds, (known) => {
      if (known === undefined)
        throw new CnmError('network-unknown', `No network of the name ${JSON.stringify(name)} is published`);
      return { ...known, state: 'withdrawn', by };
    });
  }

  /** Those that are published now, as far as this host has heard. */
  all(): readonly PublishedState[] {
    return this.#mirror
      .all()
      .filter(({ network }) => network.state === 'published')
      .map((heard) => ({
        network: heard.network,
        hosts: outcomes(
          heard,
          heard.revision,
          new Map([...heard.reports].map(([id, { host }]) => [id, host])),
        ),
      }));
  }

  async close(): Promise<void> {
    this.#mirror.close();
    // It may wait for a call of its own to our plugin, whose socket is closed by now.
    this.#parts.engine.close();
    await this.#chore.stop();
  }

  async #say(name: string, milliseconds: number, saying: Saying): Promise<PublishedState> {
    const deadline = performance.now() + milliseconds;
    const { network, revision } = await this.#write(name, saying);
    const { there, away } = await this.#hosts();
    const heard = () => this.#mirror.get(name);
    await this.#mirror.until(
      () => outcomes(heard(), revision, there).every(({ outcome }) => outcome !== 'unheard'),
      Math.max(0, deadline - performance.now()),
    );
    return { network, hosts: outcomes(heard(), revision, new Map([...away, ...there])) };
  }

  /** Also when it says so already: then hosts look once more. */
  async #write(
    name: string,
    saying: Saying,
  ): Promise<{ readonly network: PublishedNetwork; readonly revision: number }> {
    const { store } = this.#parts;
    const key = publishedKey(name);
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const found = await store.get(key);
      if (!found.ok) throw unreachable(found);
      const { entry } = found;
      const network = saying(decodePublished(entry?.value));
      const unchanged =
        entry === undefined ? { key, is: 'absent' as const } : { key, revision: entry.revision };
      const put = await store.transact([unchanged], [{ put: key, value: network }]);
      if (put.ok && put.done) return { network, revision: put.revision };
      if (!put.ok && !put.uncertain) throw unreachable(put);
    }
    throw new CnmError(
      'cluster-unreachable',
      `The record of network ${name} in ${store.name} changes too often`,
    );
  }

  /** Names by ids: of the hosts that there are now, and of those that are away and hold addresses still. */
  async #hosts(): Promise<Readonly<Record<'there' | 'away', ReadonlyMap<string, string>>>> {
    const { store, host, ipam } = this.#parts;
    const found = await store.list(hostKey(''));
    if (!found.ok) throw unreachable(found);
    const known = ipam.cluster?.hosts ?? [];
    const away = known.map(({ id, name }) => [id, name ?? id.slice(0, 12)] as const);
    const there = found.entries.map((entry) => [entry.key.slice(hostKey('').length), nameIn(entry)] as const);
    return { there: new Map([...there, [host.id, host.name]]), away: new Map(away) };
  }

  async #settleAll(): Promise<void> {
    let waits = false;
    for (const heard of this.#mirror.all()) waits = !(await this.#settle(heard)) || waits;
    if (waits) this.#chore.within(this.#pace.soon);
    else if (this.#mirror.all().length > 0) this.#chore.within(this.#pace.late);
  }

  /** False: to be looked at again soon. */
  async #settle({ network, revision }: Heard): Promise<boolean> {
    const { log, host } = this.#parts;
    // A host on which it could not be removed keeps it, until it is told again: who uses it counts on that.
    if (network.state === 'withdrawn' && this.#hasSaid(network.name, revision)) return true;
    const { outcome, message } = await this.#attempt(network);
    const report = { host: host.name, revision, outcome, ...(message !== undefined && { message }) };
    const isNew = this.#said.get(network.name) !== this.#words(report);
    if (isNew)
      log.info({ network: network.name, outcome, message }, `a network is ${network.state} by ${network.by}`);
    return (await this.#report(network.name, report)) && outcome !== 'waiting';
  }

  async #attempt(network: PublishedNetwork): Promise<Outcome> {
    try {
      return await this.#here.settle(network);
    } catch (error) {
      this.#parts.log.error({ err: error, network: network.name }, 'a published network could not be made');
      return { outcome: 'refused', message: "the daemon failed; the cause is in its host's log" };
    }
  }

  /** With this host's lease: who hears nothing of it knows that it is away. */
  async #report(name: string, report: Report): Promise<boolean> {
    const { store, plane, host } = this.#parts;
    const words = this.#words(report);
    if (this.#said.get(name) === words) return true;
    const { lease } = plane;
    if (lease === undefined) return false;
    const put = await store.transact([], [{ put: reportKey(name, host.id), value: report, lease }]);
    if (put.ok) this.#said.set(name, words);
    return put.ok;
  }

  #words(report: Report): string {
    return JSON.stringify([this.#parts.plane.lease?.id, report]);
  }

  #hasSaid(name: string, revision: number): boolean {
    const [lease, report] = JSON.parse(this.#said.get(name) ?? '[]') as [string?, Report?];
    return (
      lease === this.#parts.plane.lease?.id && report?.revision === revision && report.outcome !== 'waiting'
    );
  }
}

function nameIn({ value }: ClusterEntry): string {
  const { name } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return typeof name === 'string' ? name : '?';
}

function outcomes(
  heard: Heard | undefined,
  revision: number,
  hosts: ReadonlyMap<string, string>,
): readonly HostOutcome[] {
  return [...hosts]
    .map(([id, name]): HostOutcome => {
      const report = heard?.reports.get(id);
      if (report === undefined || report.revision < revision) return { id, host: name, outcome: 'unheard' };
      const { host, outcome, message } = report;
      return { id, host, outcome, ...(message !== undefined && { message }) };
    })
    .sort((a, b) => a.host.localeCompare(b.host));
}
