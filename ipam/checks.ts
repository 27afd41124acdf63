/** What of a request can be done, and the sentences for what cannot. */
import type { Ip } from '../address/ip.ts';
import { addressOf, covers, familyOfPrefix, isMulticast, lengthOf, networkOf } from '../address/prefix.ts';
import type { Prefix } from '../address/prefix.ts';
import { CnmError } from '../cnm/errors.ts';
import type { AddressRequest, PoolRequest } from './ipam.ts';
import { unusable } from './policy.ts';
import type { Range } from './pool.ts';

/** Docker ≥ 29 asks for a subnet of a size of its own by an unspecified address: `0.0.0.0/26`. */
function isSizeOnly(pool: Prefix): boolean {
  return lengthOf(pool) > 0 && ['0.0.0.0', '::'].includes(addressOf(pool));
}

/** The subnet that the request names, its host bits cleared as Docker < 25 does (later ones refuse them); or none. */
export function explicitPool({ pool, subPool }: PoolRequest): Prefix | undefined {
  if (pool === undefined || isSizeOnly(pool)) {
    if (subPool === undefined) return undefined;
    throw new CnmError(
      'address-invalid',
      `The range ${subPool} has no subnet to lie in: name both, or neither`,
    );
  }
  if (isMulticast(pool)) {
    throw new CnmError(
      'address-invalid',
      `${pool} is a multicast block: a container's subnet must be of unicast addresses`,
    );
  }
  return networkOf(pool);
}

export function checkedRange(pool: Prefix, subPool: Prefix | undefined): Prefix | undefined {
  if (subPool === undefined || networkOf(subPool) === pool) return undefined;
  if (covers(pool, subPool)) return networkOf(subPool);
  throw new CnmError(
    'address-invalid',
    `The range ${subPool} is not inside the subnet ${pool}: it must be a part of it`,
  );
}

export function chosen(range: Range, { serial, name }: AddressRequest): Ip {
  const address = range.parent.choose(range, serial, name);
  if (address !== undefined) return address;
  const { pool, subPool, options } = range;
  const set = options.reserved.length === 0 ? '' : ' or reserved for those who name it';
  const where = subPool === undefined ? pool : `${subPool}, the range of ${pool}`;
  throw new CnmError(
    'pool-exhausted',
    `no available IPv${familyOfPrefix(pool)} addresses in ${where}: every one that may be given is in use${set}`,
  );
}

/** Anywhere in the pool, also outside of the range: that is where Docker's users keep their fixed addresses. */
export function checkedAddress({ parent }: Range, address: Ip): Ip {
  const reason = unusable(parent.prefix, address);
  if (reason !== undefined) {
    throw new CnmError(
      'address-invalid',
      `${address} cannot be used, it is ${reason}: choose a free address of ${parent.prefix}`,
    );
  }
  const lease = parent.leases.get(address);
  if (lease === undefined) return address;
  // Docker asks for an auxiliary address exactly as for an endpoint's.
  const other = lease.name ?? 'an endpoint or set aside with --aux-address';
  const holder = lease.purpose === 'gateway' ? 'the gateway' : other;
  throw new CnmError(
    'address-taken',
    `Address already in use: ${address} of ${parent.prefix} is held by ${holder}`,
  );
}

export function unknownPool(poolId: string): CnmError {
  return new CnmError(
    'pool-unknown',
    `There is no pool ${poolId}: it was never requested, or has been released`,
  );
}

export function malformed(poolId: string): CnmError {
  return new CnmError(
    'request-invalid',
    `${JSON.stringify(poolId)} is not a pool id: it must be as cnm-local/10.0.0.0/24`,
  );
}
