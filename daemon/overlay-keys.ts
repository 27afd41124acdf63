/**
 * What encrypted networks are encrypted with: secrets from a file that all hosts have. Networks get new keys when a period begins, or when
 * they are asked for ahead of it.
 */
import { readFileSync, statSync } from 'node:fs';
import type { Encryption } from '../cnm/driver.ts';
import { CnmError, messageOf } from '../cnm/errors.ts';
import { ConfigurationError } from './configuration.ts';
import { type Keyed, KeyRenewal, type KeyRenewalParts } from './key-renewal.ts';

/** Where the keys of encrypted networks come from. */
export interface Keys {
  /** As of now; undefined: there are none yet. */
  current(): Encryption | undefined;
  /** When the next ones come by themselves. */
  readonly until: string;
  /** To be called when the records are true. */
  start(cnm: Keyed): void;
  /** Other keys from now on. @throws CnmError */
  rotate(cnm: Keyed): Promise<Rotation>;
  close(): Promise<void>;
}

export interface OverlayKeysParts extends KeyRenewalParts {
  readonly file: string;
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

export class OverlayKeys implements Keys {
  readonly #parts: OverlayKeysParts;
  readonly #renewal: KeyRenewal;
  #secrets: readonly string[];
  #sending = 0;

  /** @throws ConfigurationError when the file cannot be used */
  constructor(parts: OverlayKeysParts) {
    this.#parts = parts;
    this.#renewal = new KeyRenewal(parts);
    this.#secrets = readSecrets(parts.file);
  }

  /** The clock of hosts that were asked to rotate ahead of time runs on until it has caught up. */
  current(): Encryption {
    const { period } = this.#renewal;
    const sending = Math.max(period, this.#sending);
    return { secrets: this.#secrets, period, sending, lasts: this.#parts.period };
  }

  get until(): string {
    return this.#renewal.next;
  }

  start(cnm: Keyed): void {
    this.#renewal.start(cnm);
  }

  /**
   * Reads the file again, and sends with the keys of the next period from now on.
   * @throws CnmError `option-invalid` when the file cannot be used, or when this host is ahead already
   */
  async rotate(cnm: Keyed): Promise<Rotation> {
    const networks = await this.#renewal.renew(cnm, () => {
      this.#advance();
    });
    const { period, next } = this.#renewal;
    return { secrets: this.#secrets.length, ahead: Math.max(0, this.#sending - period), networks, next };
  }

  #advance(): void {
    const before = this.#secrets;
    this.#secrets = this.#read();
    const { period, next } = this.#renewal;
    const isNew = before.join('\n') !== this.#secrets.join('\n');
    const ahead = Math.max(period, this.#sending) - period;
    if (!isNew && ahead >= AHEAD_MOST)
      throw new CnmError(
        'option-invalid',
        `This host sends with keys of the next period already, and the other hosts have none beyond: the next come at ${next}, or with another secret in ${this.#parts.file}`,
      );
    if (ahead < AHEAD_MOST) this.#sending = period + ahead + 1;
  }

  close(): Promise<void> {
    return this.#renewal.close();
  }

  #read(): readonly string[] {
    try {
      return readSecrets(this.#parts.file);
    } catch (error) {
      if (error instanceof ConfigurationError) throw new CnmError('option-invalid', error.message);
      throw error;
    }
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
    throw new ConfigurationError(`--overlay-keys: ${file} cannot be read: ${messageOf(error)}.`);
  }
}
