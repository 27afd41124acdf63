/**
 * When keys of encrypted networks change: as a period begins, whose number the clock tells without anybody having to agree, or when somebody
 * asks. New keys come at once, beside the old ones, which go some time later: what was sent with them has arrived by then.
 */
import type { Cnm } from '../cnm/cnm.ts';
import type { Log } from '../cnm/log.ts';

export interface KeyRenewalParts {
  /** Milliseconds. */
  readonly period: number;
  readonly log: Log;
  readonly now?: () => number;
  /** Milliseconds until keys that are no longer sent with are removed. */
  readonly retireAfter?: number;
}

/** The networks, as far as their keys are concerned. */
export type Keyed = Pick<Cnm, 'renewKeys'>;

const RETIRE_MS = 2000;
/** How long a machine that slept, or whose clock was set, may send with keys that its peers have no more. */
const LOOK_MS = 30_000;

export class KeyRenewal {
  readonly #parts: KeyRenewalParts;
  #timer: NodeJS.Timeout | undefined;
  #working: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(parts: KeyRenewalParts) {
    this.#parts = parts;
  }

  /** The number of the period that it is, counted from 1970. */
  get period(): number {
    const { period, now = Date.now } = this.#parts;
    return Math.floor(now() / period);
  }

  /** When the next one begins. */
  get next(): string {
    return new Date((this.period + 1) * this.#parts.period).toISOString();
  }

  /** From now on, whenever a period begins. To be called when the records are true. */
  start(cnm: Keyed): void {
    this.#begin(cnm);
    this.#wait(cnm);
  }

  /**
   * @param begin changes what the keys follow from, when it is its turn: a renewal that is under way ends with what it began with
   * @returns how many networks have other keys now
   * @throws what `begin` throws; CnmError when a network could not get its own; the others have theirs
   */
  renew(cnm: Keyed, begin: () => void = () => undefined): Promise<number> {
    const next = this.#working.then(() => {
      begin();
      return this.#renew(cnm);
    });
    this.#working = next.catch(() => undefined);
    return next;
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#working;
  }

  async #renew(cnm: Keyed): Promise<number> {
    const added = await cnm.renewKeys(false);
    if (!this.#closed)
      await new Promise((resolve) => void setTimeout(resolve, this.#parts.retireAfter ?? RETIRE_MS));
    const changed = Math.max(added, await cnm.renewKeys(true));
    if (changed > 0)
      this.#parts.log.info({ networks: changed, next: this.next }, 'encrypted networks have new keys');
    return changed;
  }

  /** Nobody asked, so it is told. */
  #begin(cnm: Keyed): void {
    this.renew(cnm).catch((error: unknown) => {
      this.#parts.log.error({ error: String(error) }, 'keys of encrypted networks could not be renewed');
    });
  }

  /** Timers know nothing of a machine's sleep, or of a clock that is set: the period may have begun however long it was to be. */
  #wait(cnm: Keyed): void {
    const { period, now = Date.now } = this.#parts;
    const current = this.period;
    const until = (current + 1) * period - now();
    this.#timer = setTimeout(
      () => {
        if (this.period !== current) this.#begin(cnm);
        this.#wait(cnm);
      },
      Math.min(until, LOOK_MS) + 1,
    );
    this.#timer.unref();
  }
}
