/**
 * What the other hosts say on one network. A host whose lease has ended is not taken for dead at once: it may only be cut off from the
 * store, or without its daemon, and its containers run on. While it answers, what it said last is believed.
 */
import type { Ip } from '../../address/ip.ts';
import type { ClusterEntry, WatchChange, WatchEvent } from '../../store/cluster.ts';
import type { Remote, RemoteNews } from '../control.ts';
import type { Log } from '../log.ts';
import { Heard, type HeardParts } from './heard.ts';
import { decodeRemote } from './keys.ts';

export interface OthersParts {
  /** Of the network's keys. */
  readonly prefix: string;
  /** This host's id: what it says itself is passed over. */
  readonly me: string;
  /** Where the others send to. */
  readonly here: Ip;
  readonly listener: (news: RemoteNews) => void;
  /** A revision of the store, or an endpoint's generation, was heard of. */
  readonly onGeneration: (generation: number) => void;
  /** Whether a machine answers at an address. */
  readonly isThere: (address: Ip) => Promise<boolean>;
  /** That the store knows for certain: what the host has not said on this network is not so. */
  readonly saysAll: (host: string) => Promise<boolean>;
  /** This host's own, where it is kept what was heard. */
  readonly records: HeardParts['records'];
  readonly pace: DoubtPace;
  readonly log: Log;
}

/** In milliseconds. */
export interface DoubtPace {
  /** Between questions to a host that does not answer; after three it is dead. */
  readonly ask: number;
  /** Between questions to one that does. */
  readonly askAgain: number;
  /** What a host that is back has not said again by then is no more. */
  readonly back: number;
}

interface Doubt {
  /** What it had said, and has not said again. */
  readonly keys: Set<string>;
  /** Where it was last. */
  at: Ip;
  isBack: boolean;
}

const QUESTIONS = 3;

export class Others {
  readonly #parts: OthersParts;
  /** By key under the prefix. */
  readonly #remotes = new Map<string, Remote>();
  /** By host. */
  readonly #doubts = new Map<string, Doubt>();
  readonly #heard: Heard;
  readonly #closed = new AbortController();

  constructor(parts: OthersParts) {
    this.#parts = parts;
    this.#heard = new Heard(parts);
  }

  /** What was heard by a daemon before this one is told. */
  start(): void {
    for (const [key, remote] of this.#heard.load()) this.#remotes.set(key, remote);
    if (this.#remotes.size > 0)
      this.#parts.listener({ what: 'remembered', remotes: [...this.#remotes.values()] });
  }

  /** As Session.close. */
  close(left: boolean): void {
    this.#closed.abort();
    this.#doubts.clear();
    if (left) this.#heard.clear();
    else this.#heard.flush();
  }

  hear(event: WatchEvent): void {
    if ('revision' in event) this.#parts.onGeneration(event.revision);
    if (event.kind === 'snapshot') this.#replace(event.entries);
    if (event.kind === 'changes') this.#change(event.changes);
  }

  #change(changes: readonly WatchChange[]): void {
    const ended = this.#endedIn(changes);
    const put = new Map<string, Remote>();
    const gone = new Set<string>();
    for (const change of changes) {
      const key = 'put' in change ? change.put.key : change.delete;
      const host = this.#hostOf(key);
      const former = this.#remotes.get(key);
      if ('delete' in change && former !== undefined && ended.get(host) === change.revision) {
        this.#doubt(host, key, former);
        continue;
      }
      this.#heardAgain(host, key, 'put' in change);
      const remote = 'put' in change ? this.#learn(change.put) : undefined;
      if (remote === undefined) this.#forget(key);
      if (former !== undefined && former.id !== remote?.id) gone.add(former.id);
      if (remote === undefined) put.delete(former?.id ?? '');
      else put.set(remote.id, remote);
    }
    this.#tell(put, gone);
  }

  /** Hosts that did not say that they leave, and are gone: with the revision in which all of theirs went. */
  #endedIn(changes: readonly WatchChange[]): ReadonlyMap<string, number> {
    return new Map(
      changes.flatMap((change) =>
        'delete' in change && this.#remotes.get(change.delete)?.kind === 'host'
          ? [[this.#hostOf(change.delete), change.revision] as const]
          : [],
      ),
    );
  }

  /** A host that said nothing of leaving, and of which there is nothing, is as one whose lease has ended. */
  #replace(entries: readonly ClusterEntry[]): void {
    const former = new Map(this.#remotes);
    this.#remotes.clear();
    for (const entry of entries) this.#learn(entry);
    const isHere = new Set(hostsIn(this.#remotes));
    const wasHere = new Set(hostsIn(former));
    for (const [key, remote] of former) {
      const host = this.#hostOf(key);
      const doubt = this.#doubts.get(host);
      if (this.#remotes.has(key)) this.#heardAgain(host, key, true);
      else if (doubt?.keys.has(key) === true) this.#remotes.set(key, remote);
      else if (isHere.has(host) || !wasHere.has(host)) this.#forget(key);
      else {
        this.#remotes.set(key, remote);
        this.#doubt(host, key, remote);
      }
    }
    this.#parts.listener({ what: 'all', remotes: [...this.#remotes.values()] });
  }

  /** Undefined: this host's own, one that leaves, or not written by us. */
  #learn({ key, value }: ClusterEntry): Remote | undefined {
    const remote = this.#hostOf(key) === this.#parts.me ? undefined : decodeRemote(this.#short(key), value);
    if (remote?.kind === 'endpoint') this.#parts.onGeneration(remote.generation);
    if (remote === undefined) return undefined;
    this.#remotes.set(key, remote);
    this.#heard.note(key, remote);
    return remote;
  }

  #forget(key: string): void {
    this.#remotes.delete(key);
    this.#heard.note(key, undefined);
  }

  #tell(put: ReadonlyMap<string, Remote>, gone: Set<string>): void {
    // Of two keys with one id (an endpoint that has come from another host under its own id) the one that is there counts.
    if (gone.size > 0) for (const { id } of this.#remotes.values()) gone.delete(id);
    if (put.size + gone.size === 0) return;
    this.#parts.listener({ what: 'changes', put: [...put.values()], gone: [...gone] });
  }

  #short(key: string): string {
    return key.slice(this.#parts.prefix.length);
  }

  #hostOf(key: string): string {
    return this.#short(key).split('/')[0] ?? '';
  }

  #heardAgain(host: string, key: string, put: boolean): void {
    const doubt = this.#doubts.get(host);
    doubt?.keys.delete(key);
    if (doubt !== undefined && put && this.#short(key) === host) doubt.isBack = true;
  }

  #doubt(host: string, key: string, remote: Remote): void {
    const known = this.#doubts.get(host);
    const doubt = known ?? { keys: new Set(), at: remote.at, isBack: false };
    doubt.keys.add(key);
    doubt.isBack = false;
    if (remote.kind === 'host') doubt.at = remote.at;
    if (known !== undefined) return;
    this.#doubts.set(host, doubt);
    void this.#resolve(host, doubt);
  }

  async #resolve(host: string, doubt: Doubt): Promise<void> {
    const { isThere, saysAll, pace, log } = this.#parts;
    let unanswered = 0;
    let told = false;
    while (this.#doubts.get(host) === doubt && unanswered < QUESTIONS) {
      if (doubt.isBack) {
        await this.#pause(pace.back);
        // Unless it has gone once more meanwhile.
        if (this.#isBack(doubt)) break;
      }
      if (this.#isTaken(host, doubt.at) || (await saysAll(host))) {
        doubt.isBack = true;
        continue;
      }
      if (await isThere(doubt.at)) unanswered = 0;
      else unanswered += 1;
      if (unanswered === 0 && !told)
        log.warn(
          { host, at: doubt.at },
          'this host is not in the cluster any more, and answers: its entries stay',
        );
      told = true;
      if (unanswered < QUESTIONS) await this.#pause(unanswered === 0 ? pace.askAgain : pace.ask);
    }
    if (this.#doubts.get(host) !== doubt) return;
    this.#doubts.delete(host);
    if (unanswered === QUESTIONS)
      log.warn({ host, at: doubt.at }, 'this host is gone, and its entries with it');
    const gone = new Set<string>();
    for (const key of doubt.keys) {
      const remote = this.#remotes.get(key);
      this.#forget(key);
      if (remote !== undefined) gone.add(remote.id);
    }
    this.#tell(new Map(), gone);
  }

  #isBack(doubt: Doubt): boolean {
    return doubt.isBack;
  }

  /** It is another host's now, or this one's under an id that it had before: whoever answers there is not the one that is looked for. */
  #isTaken(host: string, address: Ip): boolean {
    if (address === this.#parts.here) return true;
    return [...this.#remotes.values()].some(
      (one) => one.kind === 'host' && one.id !== host && one.at === address,
    );
  }

  #pause(milliseconds: number): Promise<void> {
    const { signal } = this.#closed;
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(timer);
        signal.removeEventListener('abort', end);
        resolve();
      };
      const timer = setTimeout(end, milliseconds).unref();
      signal.addEventListener('abort', end);
    });
  }
}

function hostsIn(remotes: ReadonlyMap<string, Remote>): readonly string[] {
  return [...remotes.values()].flatMap(({ kind, id }) => (kind === 'host' ? [id] : []));
}
