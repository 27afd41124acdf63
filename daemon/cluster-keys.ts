/** What encrypted networks of a cluster are encrypted with: a secret that its hosts share (cnm/cluster/secret.ts), and the number of the period. */
import { SharedSecret, type SharedSecretParts } from '../cnm/cluster/secret.ts';
import type { Encryption } from '../cnm/driver.ts';
import { type Keyed, KeyRenewal, type KeyRenewalParts } from './key-renewal.ts';
import type { Keys, Rotation } from './overlay-keys.ts';

export type ClusterKeysParts = KeyRenewalParts & Omit<SharedSecretParts, 'life' | 'onChange' | 'now'>;

/** Keys follow from a secret for so many periods; then the secret is another one, and who learns the one has not learned the other. */
const LIFE_PERIODS = 24;

export class ClusterKeys implements Keys {
  readonly #parts: ClusterKeysParts;
  readonly #renewal: KeyRenewal;
  readonly #secret: SharedSecret;
  #cnm: Keyed | undefined;
  #changed = 0;

  constructor(parts: ClusterKeysParts) {
    this.#parts = parts;
    this.#renewal = new KeyRenewal(parts);
    this.#secret = new SharedSecret({
      ...parts,
      life: LIFE_PERIODS * parts.period,
      onChange: async () => {
        if (this.#cnm !== undefined) this.#changed = await this.#renewal.renew(this.#cnm);
      },
    });
  }

  current(): Encryption | undefined {
    const { period } = this.#renewal;
    const { secrets } = this.#secret;
    return secrets.length === 0 ? undefined : { secrets, period, sending: period, lasts: this.#parts.period };
  }

  get until(): string {
    return this.#renewal.next;
  }

  /** Only then can this host say that it receives with a secret. */
  start(cnm: Keyed): void {
    this.#cnm = cnm;
    this.#renewal.start(cnm);
    this.#secret.start();
  }

  async rotate(): Promise<Rotation> {
    await this.#secret.rotate();
    const { length: secrets } = this.#secret.secrets;
    return { secrets, ahead: 0, networks: this.#changed, next: this.#renewal.next };
  }

  async close(): Promise<void> {
    await this.#secret.close();
    await this.#renewal.close();
  }
}
