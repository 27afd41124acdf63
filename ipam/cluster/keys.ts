/** Where things are in the cluster store. ipam/README.md has the same as a table. Pure. */
import { parseIp } from '../../address/ip.ts';
import type { Ip } from '../../address/ip.ts';
import { networkOf, parsePrefix } from '../../address/prefix.ts';
import type { Prefix } from '../../address/prefix.ts';

/** All of them are under it, and one watch follows them. */
export const IPAM = 'ipam/';

/** Changed with every pool that is added, so that two that overlap cannot be added at once. */
export const ADDED = 'ipam/added';
export const ULA = 'ipam/ula';

/** A host that is there: goes with its lease. */
export function hostKey(host: string): string {
  return `ipam/host/${host}`;
}

export function poolKey(pool: Prefix): string {
  return `ipam/pool/${pool}`;
}

export function blockKey(pool: Prefix, block: Prefix): string {
  return `ipam/block/${pool}/${block}`;
}

/** A block that a host takes its addresses from while others have others: goes with its lease. */
export function batchKey(pool: Prefix, block: Prefix): string {
  return `ipam/batch/${pool}/${block}`;
}

/** One host asks another for addresses that it holds and does not use. Removed by the other one when it has looked. */
export function askKey(of: string, by: string, id: string): string {
  return `ipam/ask/${of}/${by}/${id}`;
}

export type Key =
  | { readonly kind: 'host'; readonly host: string }
  | { readonly kind: 'pool'; readonly pool: Prefix }
  | { readonly kind: 'block' | 'batch'; readonly pool: Prefix; readonly block: Prefix }
  | { readonly kind: 'ask'; readonly of: string; readonly by: string };

/** Undefined for what is not ours to read. */
export function parseKey(key: string): Key | undefined {
  const [root, kind, ...rest] = key.split('/');
  if (root !== 'ipam') return undefined;
  const [one = '', two = '', three = '', four = ''] = rest;
  if (kind === 'host' && rest.length === 1) return { kind, host: one };
  if (kind === 'ask' && rest.length === 3) return { kind, of: one, by: two };
  const pool = parsePrefix(`${one}/${two}`);
  if (pool === undefined || networkOf(pool) !== pool) return undefined;
  if (kind === 'pool' && rest.length === 2) return { kind, pool };
  const block = parsePrefix(`${three}/${four}`);
  if (block === undefined || rest.length !== 4 || (kind !== 'block' && kind !== 'batch')) return undefined;
  return { kind, pool, block };
}

/** What a host says of itself. */
export interface HostRecord {
  /** For people: its name, and where it can be reached. */
  readonly name: string;
  readonly advertise?: string;
  /** Which boot of its machine: another one under the same id is a copy of its state. */
  readonly boot: string;
}

export function decodeHost(value: unknown): HostRecord {
  const { name, advertise, boot } = (value ?? {}) as Readonly<Record<string, unknown>>;
  return {
    name: typeof name === 'string' ? name : '?',
    ...(typeof advertise === 'string' && { advertise }),
    boot: typeof boot === 'string' ? boot : '',
  };
}

export interface PoolRecord {
  /** That have the pool. */
  readonly hosts: readonly string[];
  /** `--ipam-opt name`, of one that was chosen: who says the same gets the same. */
  readonly name?: string;
}

/** What cannot be read has hosts that nobody knows: it stays. */
export function decodePool(value: unknown): PoolRecord {
  const { hosts, name } = (value ?? {}) as { readonly hosts?: unknown; readonly name?: unknown };
  return Array.isArray(hosts) && hosts.every((host) => typeof host === 'string')
    ? { hosts, ...(typeof name === 'string' && { name }) }
    : { hosts: ['?'] };
}

export interface Ask {
  readonly pool: Prefix;
  /** This one; or else any of `range`, or of the whole pool. */
  readonly address?: Ip;
  readonly range?: Prefix;
}

export function decodeAsk(value: unknown): Ask | undefined {
  const { pool, address, range } = (value ?? {}) as Readonly<Record<string, unknown>>;
  const read = typeof pool === 'string' ? parsePrefix(pool) : undefined;
  const one = typeof address === 'string' ? parseIp(address) : undefined;
  const part = typeof range === 'string' ? parsePrefix(range) : undefined;
  return read && { pool: read, ...(one && { address: one }), ...(part && { range: part }) };
}
