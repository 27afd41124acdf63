/** The IpamDriver messages (moby, daemon/libnetwork/ipams/remote/api): replies as types, requests decoded. */
import type { Ip } from '../address/ip.ts';
import { familyOfPrefix } from '../address/prefix.ts';
import type { Prefix } from '../address/prefix.ts';
import { CnmError } from '../cnm/errors.ts';
import type { AddressRequest, PoolRequest } from '../ipam/ipam.ts';
import * as field from './fields.ts';

/** ipamapi's names in the Options of RequestAddress. */
const ADDRESS_TYPE = 'RequestAddressType';
const GATEWAY_TYPE = 'com.docker.network.gateway';
const SERIAL = 'com.docker.network.ipam.serial';
const ENDPOINT_NAME = 'com.docker.network.endpoint.name';

export interface AddressSpacesReply {
  readonly LocalDefaultAddressSpace: string;
  readonly GlobalDefaultAddressSpace: string;
}

export interface PoolReply {
  readonly PoolID: string;
  readonly Pool: Prefix;
  readonly Data: Readonly<Record<string, string>>;
}

export interface AddressReply {
  /** With the pool's prefix length, which becomes the container's. */
  readonly Address: Prefix;
  readonly Data: Readonly<Record<string, string>>;
}

const poolId = field.requiredText('the id of a pool');

const requestPool = field
  .object({
    AddressSpace: field.requiredText('the name of an address space'),
    Pool: field.optionalPrefix,
    SubPool: field.optionalPrefix,
    Options: field.texted,
    V6: field.optionalFlag,
  })
  .refine((request) => request.Pool !== undefined || request.SubPool === undefined, {
    path: ['SubPool'],
    message: 'there is no Pool for this range to lie in: give both, or neither',
  });

/** @param spaces the address spaces that exist */
export function decodePool(body: unknown, spaces: readonly string[]): PoolRequest {
  const { AddressSpace, Pool, SubPool, Options, V6 } = field.decode(requestPool, body);
  if (!spaces.includes(AddressSpace)) {
    throw new CnmError(
      'request-invalid',
      `AddressSpace: ${field.show(AddressSpace)} is not an address space of this driver (${spaces.join(' or ')})`,
    );
  }
  return {
    space: AddressSpace,
    ...(Pool === undefined ? {} : { pool: Pool }),
    ...(SubPool === undefined ? {} : { subPool: SubPool }),
    // V6 only chooses the family when no pool is named; swarm's manager leaves it false beside an IPv6 pool.
    v6: Pool === undefined ? (V6 ?? false) : familyOfPrefix(Pool) === 6,
    options: Options,
  };
}

const releasePool = field.object({ PoolID: poolId });

export function decodePoolId(body: unknown): string {
  return field.decode(releasePool, body).PoolID;
}

const requestAddress = field.object({ PoolID: poolId, Address: field.optionalIp, Options: field.texted });

export function decodeAddress(body: unknown): { readonly poolId: string; readonly request: AddressRequest } {
  const { PoolID, Address, Options } = field.decode(requestAddress, body);
  const name = Options[ENDPOINT_NAME];
  return {
    poolId: PoolID,
    request: {
      ...(Address === undefined ? {} : { address: Address }),
      gateway: Options[ADDRESS_TYPE] === GATEWAY_TYPE,
      ...(name === undefined || name === '' ? {} : { name }),
      serial: Options[SERIAL] === 'true',
    },
  };
}

const releaseAddress = field.object({ PoolID: poolId, Address: field.requiredIp });

export function decodeRelease(body: unknown): { readonly poolId: string; readonly address: Ip } {
  const { PoolID, Address } = field.decode(releaseAddress, body);
  return { poolId: PoolID, address: Address };
}
