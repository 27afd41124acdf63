/** Questions to other hosts for addresses that they hold: a record under each one's name, which it removes when it has looked. */
import { randomBytes } from 'node:crypto';
import type { ClusterLease } from '../../store/cluster.ts';
import { askKey } from './keys.ts';
import type { Ask } from './keys.ts';
import type { Records } from './records.ts';

/** So many hosts are asked at a time, at most. */
const MOST_ASKED = 50;

export interface AskingOptions {
  readonly records: Records;
  /** A question goes with the host that asks it. */
  readonly lease: () => ClusterLease | undefined;
  /** Milliseconds. */
  readonly answerTime: number;
}

/** Resolves when each has looked, or is away, or did not answer in time. */
export async function askHosts(options: AskingOptions, hosts: Iterable<string>, ask: Ask): Promise<void> {
  const { mirror, me, cluster } = options.records;
  const lease = options.lease();
  const others = [...hosts].filter((host) => host !== me && mirror.hosts.has(host)).slice(0, MOST_ASKED);
  if (lease === undefined || others.length === 0) return;
  const keys = others.map((host) => askKey(host, me, randomBytes(6).toString('hex')));
  await options.records.change(
    [],
    keys.map((put) => ({ put, value: ask, lease })),
  );
  await mirror.until(() => keys.every((key) => mirror.entry(key) === undefined), options.answerTime);
  const left = keys.filter((key) => mirror.entry(key) !== undefined);
  if (left.length > 0)
    await cluster.transact(
      [],
      left.map((key) => ({ delete: key })),
    );
}
