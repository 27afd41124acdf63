/** Whether two hosts of an encrypted network can read each other, by what they say of their keys: never the keys. Pure. */
import { hkdfSync } from 'node:crypto';
import type { Ip } from '../../../address/ip.ts';
import type { Encryption } from '../../../cnm/driver.ts';

export interface KeysSaid {
  /** Of a period, in milliseconds. */
  readonly lasts: number;
  /** Which one it is there. */
  readonly period: number;
  /** Of each secret 32 bits that follow from it and lead nowhere. */
  readonly prints: readonly string[];
}

const PRINT_BYTES = 4;
/** Keys of so many periods before and after a host's own are read by it, with one to spare for who is asked to change early. */
const APART_MOST = 1;

export function keysSaid({ secrets, period, lasts }: Encryption): KeysSaid {
  const prints = secrets.map((secret) =>
    Buffer.from(hkdfSync('sha256', secret, 'cnm-overlay', 'check 1', PRINT_BYTES)).toString('hex'),
  );
  return { lasts, period, prints };
}

/** What is wrong between this host's and a peer's, in a sentence, and what to do. */
export function keysDiffer(
  ours: KeysSaid,
  theirs: KeysSaid,
  peer: Ip,
): { readonly what: string; readonly todo: string } | undefined {
  if (!ours.prints.some((print) => theirs.prints.includes(print)))
    return {
      what: `This host and ${peer} have different secrets: neither can read what the other one sends`,
      todo: 'give both the same file (--overlay-keys) and run cnm overlay rotate on them; in a cluster see that both reach etcd',
    };
  if (ours.lasts !== theirs.lasts)
    return {
      what: `Keys change every ${ours.lasts / 1000} s here and every ${theirs.lasts / 1000} s on ${peer}: neither can read what the other one sends`,
      todo: 'start cnmd on both with the same --overlay-rekey',
    };
  const apart = theirs.period - ours.period;
  if (Math.abs(apart) <= APART_MOST) return undefined;
  return {
    what: `The clock of ${peer} is ${Math.abs(apart)} periods of keys ${apart > 0 ? 'ahead' : 'behind'}: keys that one sends with the other one has not yet, or no more`,
    todo: 'set the clocks of both hosts by NTP: timedatectl',
  };
}
