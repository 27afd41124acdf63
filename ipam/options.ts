/** Options of a pool: `--ipam-opt KEY=VALUE` at Docker, kept with the pool as they were given. */
import { familyOf, ipValue, parseIp } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import { contains, familyOfPrefix, firstOf, lastOf, parsePrefix } from '../address/prefix.ts';
import type { Prefix } from '../address/prefix.ts';
import { CnmError } from '../cnm/errors.ts';
import type { Span } from './spans.ts';

export interface PoolOptions {
  /** Kept for addresses that are named: never chosen. As numbers of addresses, both ends included. */
  readonly reserved: readonly Span[];
  /** Milliseconds for which a freed address rests; absent = as the daemon was told. */
  readonly rest?: number;
  /** A name gets the address back that it had last. */
  readonly sticky: boolean;
  /** The next address after the last that was chosen, going round. */
  readonly serial: boolean;
}

export const DEFAULTS: PoolOptions = { reserved: [], sticky: true, serial: false };

/** Docker's own name of the serial option (moby, ipamapi.AllocSerialPrefix). */
const SERIAL = 'com.docker.network.ipam.serial';
/** Which address space the pool is in: Docker always names the local one for a driver of local scope. */
export const SPACE = 'space';
/** By which hosts of a cluster have one chosen subnet together. */
const NAME = 'name';
const REST_MAX_S = 7 * 24 * 3600;

/**
 * @throws CnmError `option-invalid`, or `address-invalid` for reserved addresses outside of the pool. Docker's own options
 *   that are not for us are passed over: Docker adds to them.
 */
export function poolOptions(pool: Prefix, given: Readonly<Record<string, string>>): PoolOptions {
  let options = DEFAULTS;
  for (const [key, value] of Object.entries(given)) {
    if (key === 'reserved') options = { ...options, reserved: reservedOf(pool, value) };
    else if (key === 'rest') options = { ...options, rest: seconds(key, value) * 1000 };
    else if (key === 'sticky') options = { ...options, sticky: flag(key, value) };
    else if (key === 'serial' || key === SERIAL) options = { ...options, serial: flag(key, value) };
    else if (key !== SPACE && key !== NAME && !key.startsWith('com.docker.')) {
      throw new CnmError(
        'option-invalid',
        `The IPAM option ${JSON.stringify(key)} is not known: it must be name, reserved, rest, sticky, serial or space`,
      );
    }
  }
  return options;
}

/**
 * The name under which a subnet is chosen once for all hosts.
 * @throws CnmError `option-invalid` for one that cannot be, and where no other host would hear of it.
 */
export function sharedName(given: Readonly<Record<string, string>>, inCluster: boolean): string | undefined {
  const { [NAME]: name } = given;
  if (name === undefined) return undefined;
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/.test(name))
    throw refused(NAME, name, 'a name of letters, digits and _.-, at most 128');
  if (inCluster) return name;
  throw new CnmError(
    'option-invalid',
    `The IPAM option ${NAME} is for subnets that hosts share: with cnmd --cluster, in the address space cnm-global`,
  );
}

function flag(key: string, value: string): boolean {
  // Go's ParseBool, as Docker reads its own.
  if (['1', 't', 'T', 'true', 'TRUE', 'True'].includes(value)) return true;
  if (['0', 'f', 'F', 'false', 'FALSE', 'False'].includes(value)) return false;
  throw refused(key, value, 'true or false');
}

function seconds(key: string, value: string): number {
  const number = Number(value);
  if (/^\d{1,6}$/.test(value) && number <= REST_MAX_S) return number;
  throw refused(key, value, `a whole number of seconds from 0 to ${REST_MAX_S}`);
}

/**
 * Addresses, ranges FIRST-LAST and subnets, comma-separated. Docker gives a network's options to its subnets of both
 * families, so those of the other family are another subnet's.
 */
function reservedOf(pool: Prefix, value: string): readonly Span[] {
  return value.split(',').flatMap((part) => {
    const ends = endsOf(part.trim());
    if (ends === undefined)
      throw refused('reserved', value, 'addresses, ranges FIRST-LAST and subnets, separated by commas');
    const [first, last] = ends;
    if (familyOf(first) !== familyOfPrefix(pool)) return [];
    if (contains(pool, first) && contains(pool, last))
      return [{ first: ipValue(first), last: ipValue(last) }];
    throw new CnmError(
      'address-invalid',
      `The reserved addresses ${part.trim()} are not inside the subnet ${pool}: they must be a part of it`,
    );
  });
}

function endsOf(text: string): readonly [first: Ip, last: Ip] | undefined {
  const subnet = parsePrefix(text);
  if (subnet !== undefined) return [firstOf(subnet), lastOf(subnet)];
  const ends = text.split('-').map(parseIp);
  const [first, last = first] = ends;
  if (first === undefined || last === undefined || ends.length > 2 || ends.includes(undefined))
    return undefined;
  return familyOf(first) === familyOf(last) && ipValue(first) <= ipValue(last) ? [first, last] : undefined;
}

function refused(key: string, value: string, right: string): CnmError {
  return new CnmError(
    'option-invalid',
    `The IPAM option ${key} cannot be ${JSON.stringify(value)}: it must be ${right}`,
  );
}
