/**
 * What encrypted networks are encrypted with: secrets from a file that all hosts have, and the number of the period, counted from 1970, that
 * a clock tells without anybody having to agree. Networks get new keys when a period begins, or when they are asked for ahead of it.
 */
import { readFileSync, statSync } from 'node:fs';
import type { Cnm } from '../cnm/cnm.ts';
import type { Encryption } from '../cnm/driver.ts';
import { CnmError } from '../cnm/errors.ts';
import type { Log } from '../cnm/log.ts';
import { ConfigurationError } from './configuration.ts';

export interface OverlayKeysParts {
  readonly file: string;
  /** Milliseconds. */
  readonly period: number;
  readonly log: Log;
  readonly now?: () => number;
  /** Milliseconds until keys that are no longer sent with are removed: what was sent with them has arrived by then. */
  readonly retireAfter?: number;
}

export interface Rotation {
  /** Secrets in the file, of which the first is sent with. */
  readonly secrets: number;
  /** How many periods ahead of the clock the keys are that are sent with. */
  readonly ahead: number;
  /** Networks that have other keys now. */
  readonly networks: number;
  /** When the next period begins. */
  readonly next: string;
}

/** The hosts receive with the keys of two periods ahead; one is left for a host whose clock is behind. */
const AHEAD_MOST = 1;
const RETIRE_MS = 2000;
/** setTimeout takes no more than 31 bits. */
const LOOK_MS = 3_600_000;

export class OverlayKeys {
  readonly #parts: OverlayKeysParts;
  #secrets: readonly string[];
  #sending = 0;
  #timer: NodeJS.Timeout | undefined;
  #working: Promise<unknown> = Promise.resolve();
  #closed = false;

  /** @throws ConfigurationError when the file cannot be used */
  constructor(parts: OverlayKeysParts) {
    this.#parts = parts;
    this.#secrets = readSecrets(parts.file);
  }

  /** As of now: the clock of hosts that were asked to rotate ahead of time runs on until it has caught up. */
  current(): Encryption {
    const period = this.#period();
    const sending = Math.max(period, this.#sending);
    return { secrets: this.#secrets, period, sending, lasts: this.#parts.period };
  }

  /** From now on, whenever a period begins. To be called when the records are true. */
  start(cnm: Pick<Cnm, 'renewKeys'>): void {
    void this.#queue(() => this.#renew(cnm)).catch(() => undefined);
    this.#wait(cnm);
  }

  /**
   * Reads the file again, and sends with the keys of the next period from now on.
   * @throws CnmError `option-invalid` when the file cannot be used, or when this host is ahead already
   */
  async rotate(cnm: Pick<Cnm, 'renewKeys'>): Promise<Rotation> {
    const before = this.#secrets;
    this.#secrets = this.#read();
    const period = this.#period();
    const isNew = before.join('\n') !== this.#secrets.join('\n');
    const ahead = Math.max(period, this.#sending) - period;
    if (!isNew && ahead >= AHEAD_MOST)
      throw new CnmError(
        'option-invalid',
        `This host sends with keys of the next period already, and the other hosts have none beyond: the next come at ${this.#next()}, or with another secret in ${this.#parts.file}`,
      );
    if (ahead < AHEAD_MOST) this.#sending = period + ahead + 1;
    const networks = await this.#queue(() => this.#renew(cnm));
    return { secrets: this.#secrets.length, ahead: this.#sending - period, networks, next: this.#next() };
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#working;
  }

  #read(): readonly string[] {
    try {
      return readSecrets(this.#parts.file);
    } catch (error) {
      if (error instanceof ConfigurationError) throw new CnmError('option-invalid', error.message);
      throw error;
    }
  }

  /** New keys at once, beside the old ones; and some time later without them. */
  async #renew(cnm: Pick<Cnm, 'renewKeys'>): Promise<number> {
    const added = await cnm.renewKeys(false);
    if (!this.#closed)
      await new Promise((resolve) => void setTimeout(resolve, this.#parts.retireAfter ?? RETIRE_MS));
    const changed = Math.max(added, await cnm.renewKeys(true));
    if (changed > 0)
      this.#parts.log.info({ networks: changed, next: this.#next() }, 'encrypted networks have new keys');
    return changed;
  }

  #queue<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#working.then(work, work);
    this.#working = next.catch((error: unknown) => {
      this.#parts.log.error({ error: String(error) }, 'keys of encrypted networks could not be renewed');
    });
    return next;
  }

  #wait(cnm: Pick<Cnm, 'renewKeys'>): void {
    const { period, now = Date.now } = this.#parts;
    const until = (this.#period() + 1) * period - now();
    this.#timer = setTimeout(
      () => {
        if (until <= LOOK_MS) void this.#queue(() => this.#renew(cnm)).catch(() => undefined);
        this.#wait(cnm);
      },
      Math.min(until, LOOK_MS) + 1,
    );
    this.#timer.unref();
  }

  #period(): number {
    const { period, now = Date.now } = this.#parts;
    return Math.floor(now() / period);
  }

  #next(): string {
    return new Date((this.#period() + 1) * this.#parts.period).toISOString();
  }
}

const SECRETS_MOST = 3;
/** Of a text that is as hard to guess as it is long: 128 bits in hex. */
const LENGTH_LEAST = 32;

/** One secret a line; empty lines and comments count nothing. @throws ConfigurationError */
export function readSecrets(file: string): readonly string[] {
  const text = contents(file);
  const secrets = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  const advice = 'make one with: openssl rand -hex 32';
  if (secrets.length === 0 || secrets.length > SECRETS_MOST)
    throw new ConfigurationError(
      `--overlay-keys: ${file} has ${secrets.length} secrets; it must have one to ${SECRETS_MOST}, one a line; ${advice}.`,
    );
  if (new Set(secrets).size < secrets.length)
    throw new ConfigurationError(`--overlay-keys: ${file} has a secret twice.`);
  // Never shown, not even in part.
  const short = secrets.findIndex((secret) => secret.length < LENGTH_LEAST);
  if (short >= 0)
    throw new ConfigurationError(
      `--overlay-keys: secret ${short + 1} of ${file} has fewer than ${LENGTH_LEAST} characters; ${advice}.`,
    );
  return secrets;
}

function contents(file: string): string {
  try {
    if ((statSync(file).mode & 0o077) !== 0)
      throw new ConfigurationError(`--overlay-keys: others may read ${file}: chmod 600 ${file}.`);
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof ConfigurationError) throw error;
    throw new ConfigurationError(
      `--overlay-keys: ${file} cannot be read: ${error instanceof Error ? error.message : String(error)}.`,
    );
  }
}
