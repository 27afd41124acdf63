/** The sentences for what cannot be had of a cluster's pool. */
import type { Ip } from '../../address/ip.ts';
import { familyOfPrefix } from '../../address/prefix.ts';
import type { Prefix } from '../../address/prefix.ts';
import { CnmError } from '../../cnm/errors.ts';
import type { Range } from '../pool.ts';
import type { HostRecord } from './keys.ts';

type Hosts = ReadonlyMap<string, HostRecord>;

/** `the host web1 (3f2a…)`, and that it is away. */
export function hostText(host: string, hosts: Hosts): string {
  const record = hosts.get(host);
  return record === undefined ? `the host ${host} (away)` : `the host ${record.name} (${host})`;
}

export function exhausted(
  { pool, subPool, options }: Range,
  others: readonly string[],
  hosts: Hosts,
): CnmError {
  const where = subPool === undefined ? pool : `${subPool}, the range of ${pool}`;
  const set = options.reserved.length === 0 ? '' : ' or reserved for those who name it';
  const away = others.filter((host) => !hosts.has(host));
  const kept =
    away.length === 0
      ? ''
      : `. Some may be free of those that are held by ${away.map((host) => hostText(host, hosts)).join(', ')}: when it is gone for good, cnm ipam release --host frees them`;
  return new CnmError(
    'pool-exhausted',
    `no available IPv${familyOfPrefix(pool)} addresses in ${where}: every one that may be given is held by a host of the cluster${set}${kept}`,
  );
}

export function taken(pool: Prefix, address: Ip, by: string): CnmError {
  return new CnmError('address-taken', `Address already in use: ${address} of ${pool} is held by ${by}`);
}

export function takenByHost(pool: Prefix, address: Ip, host: string, hosts: Hosts): CnmError {
  const away = hosts.has(host)
    ? ''
    : ': when it is gone for good, cnm ipam release --host frees what it held';
  return taken(pool, address, `${hostText(host, hosts)}${away}`);
}

/** Others were quicker each time. */
export function busy(pool: Prefix): CnmError {
  return new CnmError(
    'cluster-unreachable',
    `The records of ${pool} in the cluster change too fast: try again in a moment`,
  );
}
