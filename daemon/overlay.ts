/** What of overlay networks is neither the driver's planning nor the kernel's: the network below, the test of the ways between hosts, and the keys. */
import type { Cnm } from '../cnm/cnm.ts';
import { CnmError } from '../cnm/errors.ts';
import type { NetworkRecord } from '../cnm/model.ts';
import { type BelowParts, followBelow } from './overlay-below.ts';
import type { Keys, Rotation } from './overlay-keys.ts';

/** overlay-check/, which knows the driver. */
export interface Checks<Report> {
  start(): void;
  check(network: NetworkRecord): Promise<Report>;
  readonly below: BelowParts['wrong'];
  close(): void;
}

export interface Overlay<Report = unknown> {
  /** To be called when the records are true. */
  start(): void;
  check(network: NetworkRecord): Promise<Report>;
  /** @throws CnmError `option-invalid` where there are no keys, or none further ahead */
  rotate(): Promise<Rotation>;
  /** When the next keys come by themselves; undefined: there are none. */
  until(): string | undefined;
  close(): Promise<void>;
}

export interface OverlayParts<Report> extends Omit<BelowParts, 'cnm' | 'wrong'> {
  readonly cnm: BelowParts['cnm'] & Pick<Cnm, 'renewKeys'>;
  readonly checks: Checks<Report>;
  readonly keys: Keys | undefined;
}

export function overlayService<Report>(parts: OverlayParts<Report>): Overlay<Report> {
  const { cnm, checks, keys } = parts;
  let below: ReturnType<typeof followBelow> | undefined;
  return {
    start() {
      checks.start();
      below = followBelow({ ...parts, wrong: checks.below });
      keys?.start(cnm);
    },
    check: (network) => checks.check(network),
    rotate() {
      if (keys === undefined)
        throw new CnmError(
          'option-invalid',
          'This daemon has no keys to rotate: start cnmd with --overlay-keys FILE on all hosts, or with --cluster',
        );
      return keys.rotate(cnm);
    },
    until: () => keys?.until,
    async close() {
      checks.close();
      await below?.stop();
      await keys?.close();
    },
  };
}
