/** A server that queries are forwarded to, and what is remembered of how it did. Times in milliseconds. Pure, but for what it remembers. */

export interface UpstreamCounts {
  asked: number;
  answered: number;
  /** SERVFAIL and REFUSED. */
  refused: number;
  timedOut: number;
  /** It could not be sent to at all: nobody listens, or there is no route. */
  unreachable: number;
}

export type Failure = Exclude<keyof UpstreamCounts, 'asked' | 'answered'>;

/** How long the first attempt is waited for before the next server is asked as well. */
const PATIENCE = 800;
/** For one that failed last time, and is asked again. */
const IMPATIENCE = 300;
/** In a row, after which it is asked last: one packet may get lost, and one domain may be broken. */
const TOLERATED: Readonly<Record<Failure, number>> = { unreachable: 1, timedOut: 2, refused: 4 };
const REST_FIRST = 1_000;
const REST_MAX = 30_000;

export class Upstream {
  readonly address: string;
  readonly port: number;
  readonly counts: UpstreamCounts = { asked: 0, answered: 0, refused: 0, timedOut: 0, unreachable: 0 };
  /** Smoothed as TCP does (RFC 6298 section 2); undefined before the first answer. */
  roundTrip: number | undefined;
  /** It leads back to us. */
  loops = false;
  #failures = 0;
  #restsUntil = 0;
  #rests = 0;

  constructor(address: string, port = 53) {
    this.address = address;
    this.port = port;
  }

  /** Has failed so often that others are asked first. */
  isDown(): boolean {
    return this.#rests > 0;
  }

  /** Down, and due to be looked at again. */
  isDue(now: number): boolean {
    return this.isDown() && now >= this.#restsUntil;
  }

  /** Until the next server is asked as well. A far one that always takes its time is given it. */
  patience(): number {
    if (this.#failures > 0) return IMPATIENCE;
    return this.roundTrip === undefined
      ? PATIENCE
      : Math.min(2 * PATIENCE, Math.max(PATIENCE, 3 * this.roundTrip));
  }

  answered(took: number): void {
    this.counts.answered += 1;
    this.roundTrip = this.roundTrip === undefined ? took : this.roundTrip * 0.875 + took * 0.125;
    this.#failures = 0;
    this.#rests = 0;
  }

  failed(how: Failure, now: number): void {
    this.counts[how] += 1;
    this.#failures += 1;
    if (this.#failures < TOLERATED[how] && !this.isDown()) return;
    // Queries that were under way when it went down do not make its rest longer.
    if (this.isDown() && now < this.#restsUntil) return;
    this.#restsUntil = now + Math.min(REST_MAX, REST_FIRST * 2 ** this.#rests);
    this.#rests += 1;
  }

  /** It is being looked at: until then nobody else looks. */
  probing(now: number): void {
    this.#restsUntil = now + REST_FIRST;
  }
}

/** The order of resolv.conf, but those that are down last, and none that loop. */
export function inOrder(upstreams: readonly Upstream[]): readonly Upstream[] {
  const usable = upstreams.filter(({ loops }) => !loops);
  return [...usable.filter((one) => !one.isDown()), ...usable.filter((one) => one.isDown())];
}

/** Upstreams by address: what is known of a server is known wherever it is listed. */
export class Upstreams {
  readonly #known = new Map<string, Upstream>();

  /** As they are written: an address, or an address and a port as `10.0.0.1#5353` (dnsmasq's way; `:` belongs to IPv6). */
  of(written: readonly string[]): readonly Upstream[] {
    return written.map((text) => {
      const known = this.#known.get(text);
      if (known !== undefined) return known;
      const [address = '', port] = text.split('#');
      const fresh = new Upstream(address, port === undefined ? 53 : Number(port));
      this.#known.set(text, fresh);
      return fresh;
    });
  }

  all(): readonly Upstream[] {
    return [...this.#known.values()];
  }

  /** Forgets those that nobody lists any more. */
  keep(written: ReadonlySet<string>): void {
    for (const text of this.#known.keys()) if (!written.has(text)) this.#known.delete(text);
  }
}
