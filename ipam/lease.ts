/** One address given, and its record in the store. */
import { parseIp } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import type { Change } from '../store/store.ts';

export type Purpose = 'gateway' | 'endpoint';

export interface Lease {
  /** The pool id that asked for it. Pools that share their addresses release only their own. */
  readonly poolId: string;
  readonly address: Ip;
  readonly purpose: Purpose;
  readonly name?: string;
}

export const LEASES = 'ipam/lease/';

function leaseKey({ poolId, address }: Lease): string {
  return `${LEASES}${poolId}/${address}`;
}

export function putLease(lease: Lease): Change {
  const { purpose, name } = lease;
  return { put: leaseKey(lease), value: { purpose, name } };
}

export function deleteLease(lease: Lease): Change {
  return { delete: leaseKey(lease) };
}

/** The key alone says what is taken; a value that cannot be read costs the name and never the lease. */
export function decodeLease(key: string, value: unknown): Lease | undefined {
  const slash = key.lastIndexOf('/');
  const address = parseIp(key.slice(slash + 1));
  if (address === undefined || !key.startsWith(LEASES)) return undefined;
  const { purpose, name } = (value ?? {}) as { readonly purpose?: unknown; readonly name?: unknown };
  return {
    poolId: key.slice(LEASES.length, slash),
    address,
    purpose: purpose === 'gateway' ? 'gateway' : 'endpoint',
    ...(typeof name === 'string' && { name }),
  };
}
