/** One address given, or freed and at rest, and its record in the store. */
import { parseIp } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import type { Change } from '../store/store.ts';

export type Purpose = 'gateway' | 'endpoint' | 'aux';

export interface Lease {
  /** The pool id that asked for it. Pools that share their addresses release only their own. */
  readonly poolId: string;
  readonly address: Ip;
  readonly purpose: Purpose;
  /** Of the endpoint, or the key of the auxiliary address. */
  readonly name?: string;
  /** When it was given, in milliseconds since 1970; absent where the record cannot tell. */
  readonly since?: number;
}

/** A lease that was: its address rests, and its name may have it back. */
export interface FormerLease {
  readonly poolId: string;
  readonly address: Ip;
  readonly name?: string;
  /** Milliseconds since 1970. */
  readonly freed: number;
}

export const LEASES = 'ipam/lease/';
export const FORMER_LEASES = 'ipam/former/';

export function putLease(lease: Lease): Change {
  const { purpose, name, since } = lease;
  return { put: LEASES + tail(lease), value: { purpose, name, since } };
}

export function deleteLease(lease: Lease): Change {
  return { delete: LEASES + tail(lease) };
}

export function putFormer(former: FormerLease): Change {
  const { freed, name } = former;
  return { put: FORMER_LEASES + tail(former), value: { freed, name } };
}

export function deleteFormer(former: Pick<FormerLease, 'poolId' | 'address'>): Change {
  return { delete: FORMER_LEASES + tail(former) };
}

function tail({ poolId, address }: Pick<Lease, 'poolId' | 'address'>): string {
  return `${poolId}/${address}`;
}

/** The key alone says what is taken; a value that cannot be read costs the name and never the lease. */
export function decodeLease(key: string, value: unknown): Lease | undefined {
  const from = split(key, LEASES);
  if (from === undefined) return undefined;
  const { purpose, name, since } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return {
    ...from,
    purpose: purpose === 'gateway' || purpose === 'aux' ? purpose : 'endpoint',
    ...(typeof name === 'string' && { name }),
    ...(typeof since === 'number' && { since }),
  };
}

/** A value that cannot be read was freed just now: it rests longer than it must. */
export function decodeFormer(key: string, value: unknown, now: number): FormerLease | undefined {
  const from = split(key, FORMER_LEASES);
  if (from === undefined) return undefined;
  const { freed, name } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return {
    ...from,
    // A clock that was set back since must not keep it at rest for ever.
    freed: typeof freed === 'number' && freed < now ? freed : now,
    ...(typeof name === 'string' && { name }),
  };
}

function split(key: string, folder: string): Pick<Lease, 'poolId' | 'address'> | undefined {
  const slash = key.lastIndexOf('/');
  const address = parseIp(key.slice(slash + 1));
  if (address === undefined || !key.startsWith(folder)) return undefined;
  return { poolId: key.slice(folder.length, slash), address };
}
