/**
 * Questions that others know the answer to: put to the servers in order, with the next one asked as soon as one fails or keeps us
 * waiting. What many ask at once is asked once.
 */
import { randomInt } from 'node:crypto';
import { Cache, cacheKey } from './cache.ts';
import { askTcp, askUdp } from './exchange.ts';
import type { Question } from './question.ts';
import { encodeQuery } from './reply.ts';
import { inOrder, type Upstream } from './upstream.ts';
import { FLAG, RCODE } from './wire.ts';

export type Forwarded =
  | { readonly reply: Buffer; readonly upstream: string; readonly cached: boolean }
  /** `overload`: too many wait already, of this client or of all. `none`: there is no server. */
  | { readonly failed: 'timeout' | 'unreachable' | 'overload' | 'none' };

export interface ForwarderOptions {
  /** Questions that wait for a server at a time; each takes a socket and a few KiB. Default 4096. */
  readonly capacity?: number;
  /** Milliseconds since some moment. */
  readonly now?: () => number;
  /** Bytes. */
  readonly cacheSize?: number;
  /** Milliseconds after their end that replies are still given out where nobody has a newer one (RFC 8767); default 0: not at all. */
  readonly stale?: number;
}

/** glibc and musl wait 5 s before they ask again. */
const DEADLINE = 4_500;
/** RFC 8767 section 5, the client response timer: so long nobody is given what has expired. */
const STALE_AFTER = 1_800;
/** How often each server is asked before we give up. */
const ROUNDS = 2;

export class Forwarder {
  readonly #capacity: number;
  readonly #now: () => number;
  readonly #cache: Cache;
  readonly #underWay = new Map<string, Promise<Forwarded>>();
  readonly #waitingOf = new Map<string, number>();
  readonly #stops = new Set<() => void>();
  #waiting = 0;

  constructor({ capacity = 4096, now = () => performance.now(), cacheSize, stale }: ForwarderOptions = {}) {
    this.#capacity = capacity;
    this.#now = now;
    this.#cache = new Cache(cacheSize, stale);
  }

  /** Questions that wait, and replies that are kept. */
  get load(): { readonly waiting: number; readonly cached: number } {
    return { waiting: this.#waiting, cached: this.#cache.entries };
  }

  /** What was answered by servers that are no longer asked counts no more. */
  forget(): void {
    this.#cache.clear();
  }

  /** What these servers have answered before, when it still counts: at once, so that it costs no more than a name of ours. */
  recall(question: Question, upstreams: readonly Upstream[]): Forwarded | undefined {
    const key = keyAt(question, upstreams);
    const reply = key === undefined ? undefined : this.#cache.get(key, this.#now());
    return reply === undefined ? undefined : { reply, upstream: 'cache', cached: true };
  }

  /** Also what could be recalled. @param client who asks, for the sharing of what there is room for */
  async ask(
    query: Buffer,
    question: Question,
    transport: 'udp' | 'tcp',
    upstreams: readonly Upstream[],
    client: string,
  ): Promise<Forwarded> {
    const kept = this.recall(question, upstreams);
    if (kept !== undefined) return kept;
    const key = keyAt(question, upstreams);
    const order = inOrder(upstreams);
    if (order.length === 0) return { failed: 'none' };
    if (!this.#admits(client)) return this.#staleOr({ failed: 'overload' }, key);
    const result = this.#shared(query, question, transport, order, client, key);
    return key !== undefined && this.#cache.has(key, this.#now())
      ? this.#soon(result, key)
      : this.#staleOr(await result, key);
  }

  /** Together with all others who ask the same at the moment. */
  async #shared(
    query: Buffer,
    question: Question,
    transport: 'udp' | 'tcp',
    order: readonly Upstream[],
    client: string,
    key: string | undefined,
  ): Promise<Forwarded> {
    const shared = key === undefined ? undefined : `${transport} ${key}`;
    const running = shared === undefined ? undefined : this.#underWay.get(shared);
    const work = running ?? this.#put(query, question, transport, order);
    if (shared !== undefined && running === undefined) this.#underWay.set(shared, work);
    this.#count(client, 1);
    try {
      const result = await work;
      if ('reply' in result && key !== undefined) this.#cache.put(key, result.reply, question, this.#now());
      return result;
    } finally {
      this.#count(client, -1);
      if (shared !== undefined) this.#underWay.delete(shared);
    }
  }

  /** What has expired, when the servers take long; their answer is kept for the next one who asks. */
  async #soon(result: Promise<Forwarded>, key: string): Promise<Forwarded> {
    const late: Forwarded = { failed: 'timeout' };
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<Forwarded>((resolve) => {
      timer = setTimeout(() => {
        resolve(late);
      }, STALE_AFTER);
    });
    try {
      const first = this.#staleOr(await Promise.race([result, patience]), key);
      return first === late ? await result : first;
    } finally {
      clearTimeout(timer);
    }
  }

  #staleOr(result: Forwarded, key: string | undefined): Forwarded {
    if (key === undefined || ('reply' in result && !isFailure(result.reply))) return result;
    const stale = this.#cache.getStale(key, this.#now());
    return stale === undefined ? result : { reply: stale, upstream: 'stale', cached: true };
  }

  /**
   * Nobody may wait for more than what is still free: one client gets half of the room, two get a third each, and so on (Choudhury and
   * Hahne, "Dynamic queue length thresholds", 1998). No number to set, and there is always some room left for a newcomer.
   */
  #admits(client: string): boolean {
    return (this.#waitingOf.get(client) ?? 0) < this.#capacity - this.#waiting;
  }

  #count(client: string, change: 1 | -1): void {
    this.#waiting += change;
    const waiting = (this.#waitingOf.get(client) ?? 0) + change;
    if (waiting === 0) this.#waitingOf.delete(client);
    else this.#waitingOf.set(client, waiting);
  }

  #put(
    query: Buffer,
    question: Question,
    transport: 'udp' | 'tcp',
    order: readonly Upstream[],
  ): Promise<Forwarded> {
    const message = () => encodeQuery(query, question, randomInt(0x10000));
    this.#lookAtThoseThatRest(order, message);
    return new Promise((resolve) => {
      const race = new Race({ order, message, transport, now: this.#now }, (result) => {
        this.#stops.delete(stop);
        resolve(result);
      });
      const stop = () => {
        race.stop();
      };
      this.#stops.add(stop);
      race.start();
    });
  }

  /** A server that was down is tried with a question that another server answers, so that nobody waits for it in vain. */
  #lookAtThoseThatRest(order: readonly Upstream[], message: () => Buffer): void {
    const now = this.#now();
    if (order.every((upstream) => upstream.isDown())) return;
    for (const upstream of order.filter((one) => one.isDue(now))) {
      upstream.probing(now);
      const stop = askUdp(upstream, message(), (outcome) => {
        clearTimeout(timer);
        this.#stops.delete(stop);
        judge(upstream, outcome, this.#now() - now, this.#now());
      });
      upstream.counts.asked += 1;
      const timer = setTimeout(() => {
        stop();
        this.#stops.delete(stop);
        upstream.failed('timedOut', this.#now());
      }, upstream.patience());
      this.#stops.add(stop);
    }
  }

  /** Whoever waits is told that it failed. */
  close(): void {
    for (const stop of [...this.#stops]) stop();
    this.#stops.clear();
  }
}

/** The servers as they are listed: which of them is down at the moment is no matter. */
function keyAt(question: Question, upstreams: readonly Upstream[]): string | undefined {
  const named = cacheKey(question);
  if (named === undefined) return undefined;
  return `${upstreams.map(({ address, port }) => `${address}#${port}`).join(' ')} ${named}`;
}

function isFailure(reply: Buffer): boolean {
  const rcode = (reply[3] ?? 0) & 15;
  return rcode === RCODE.SERVFAIL || rcode === RCODE.REFUSED;
}

/** True for an answer that is worth handing on. A failure of the server's is not: another may do better. */
function judge(upstream: Upstream, outcome: Buffer | Error, took: number, now: number): outcome is Buffer {
  if (outcome instanceof Error) {
    upstream.failed('unreachable', now);
    return false;
  }
  if (isFailure(outcome)) {
    upstream.failed('refused', now);
    return false;
  }
  upstream.answered(took);
  return true;
}

interface RaceOptions {
  /** At least one. */
  readonly order: readonly Upstream[];
  /** A new one each time: with a number of its own. */
  readonly message: () => Buffer;
  readonly transport: 'udp' | 'tcp';
  readonly now: () => number;
}

/** One question and its servers. Those that were asked already may still answer while the next one is. */
class Race {
  readonly #options: RaceOptions;
  readonly #done: (result: Forwarded) => void;
  readonly #running = new Set<() => void>();
  readonly #deadline: NodeJS.Timeout;
  #next = 0;
  #impatience: NodeJS.Timeout | undefined;
  /** SERVFAIL or REFUSED, handed on when nobody has better. */
  #worst: Forwarded | undefined;
  #over = false;

  constructor(options: RaceOptions, done: (result: Forwarded) => void) {
    this.#options = options;
    this.#done = done;
    this.#deadline = setTimeout(() => {
      this.#finish(this.#worst ?? { failed: 'timeout' });
    }, DEADLINE);
  }

  start(): void {
    clearTimeout(this.#impatience);
    const { order, message, transport, now } = this.#options;
    const upstream = order[this.#next % order.length];
    if (upstream === undefined || this.#next >= order.length * ROUNDS) {
      // The rest of the time is for those that were asked.
      if (this.#running.size === 0) this.#finish(this.#worst ?? { failed: 'unreachable' });
      return;
    }
    this.#next += 1;
    upstream.counts.asked += 1;
    const began = now();
    const stop = ask(upstream, message(), transport, (outcome) => {
      this.#running.delete(stop);
      if (judge(upstream, outcome, now() - began, now())) {
        this.#finish({ reply: outcome, upstream: upstream.address, cached: false });
        return;
      }
      if (Buffer.isBuffer(outcome))
        this.#worst = { reply: outcome, upstream: upstream.address, cached: false };
      this.start();
    });
    this.#running.add(stop);
    this.#impatience = setTimeout(() => {
      upstream.failed('timedOut', now());
      this.start();
    }, upstream.patience());
  }

  stop(): void {
    this.#finish({ failed: 'unreachable' });
  }

  #finish(result: Forwarded): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#deadline);
    clearTimeout(this.#impatience);
    for (const stop of this.#running) stop();
    this.#done(result);
  }
}

/** By UDP first, whatever the asker uses: few answers are too long, and some servers have no TCP. */
function ask(
  upstream: Upstream,
  message: Buffer,
  transport: 'udp' | 'tcp',
  done: (outcome: Buffer | Error) => void,
): () => void {
  let stop = askUdp(upstream, message, (outcome) => {
    if (transport === 'udp' || outcome instanceof Error || (outcome.readUInt16BE(2) & FLAG.TC) === 0)
      done(outcome);
    else stop = askTcp(upstream, message, done);
  });
  return () => {
    stop();
  };
}
