/**
 * A block: a fixed run of a pool's addresses, and who holds which of them. One record in the cluster store, so that whatever
 * changes hands does so in one comparison with what was there: no address of it can ever be two hosts'. Pure.
 */
import { ipFromValue, ipValue, parseIp } from '../../address/ip.ts';
import type { Ip } from '../../address/ip.ts';
import { familyOfPrefix, firstOf, lastOf, lengthOf, prefixOf } from '../../address/prefix.ts';
import type { Prefix } from '../../address/prefix.ts';
import { joined, within, without } from '../spans.ts';
import type { Span } from '../spans.ts';

/** Addresses that one host may give without asking anybody, and those it has given. */
export interface Part extends Span {
  readonly host: string;
}

/** An address that every host of the pool bears alike: a gateway, or one that is set aside. */
export interface Shared {
  readonly purpose: 'gateway' | 'aux';
  readonly hosts: readonly string[];
}

export interface Block {
  /** In order; none overlaps another, nor a shared address. */
  readonly parts: readonly Part[];
  readonly shared: ReadonlyMap<bigint, Shared>;
}

export const EMPTY: Block = { parts: [], shared: new Map() };

/**
 * How many bits of an address are a block's own: 16 blocks in a pool of 256 addresses, of 256 addresses at most, so that small
 * pools go round among many hosts and a record stays small.
 */
export function blockBits(pool: Prefix): number {
  const bits = (familyOfPrefix(pool) === 4 ? 32 : 128) - lengthOf(pool);
  return Math.min(bits, Math.max(4, Math.min(8, bits - 4)));
}

export function blockOf(pool: Prefix, value: bigint): Span {
  const bits = BigInt(blockBits(pool));
  const first = (value >> bits) << bits;
  return { first, last: first + (1n << bits) - 1n };
}

/** As a prefix, by which its record is named. */
export function blockName(pool: Prefix, value: bigint): Prefix {
  const family = familyOfPrefix(pool);
  const { first } = blockOf(pool, value);
  return prefixOf(ipFromValue(family, first), (family === 4 ? 32 : 128) - blockBits(pool));
}

export function spanOf(prefix: Prefix): Span {
  return { first: ipValue(firstOf(prefix)), last: ipValue(lastOf(prefix)) };
}

/** What of a block nobody holds, of those addresses that are in `bounds`. */
export function gaps({ parts, shared }: Block, block: Span): readonly Span[] {
  const taken = [...parts, ...[...shared.keys()].map((at) => ({ first: at, last: at }))];
  return without([block], joined(taken));
}

export function partsOf({ parts }: Block, host: string): readonly Span[] {
  return parts.filter((part) => part.host === host);
}

export function holderOf({ parts }: Block, value: bigint): string | undefined {
  return parts.find(({ first, last }) => first <= value && value <= last)?.host;
}

export function give(block: Block, host: string, spans: readonly Span[]): Block {
  const own = joined([...partsOf(block, host), ...spans]).map((span) => ({ ...span, host }));
  return sorted({ ...block, parts: [...block.parts.filter((part) => part.host !== host), ...own] });
}

export function takeBack(block: Block, host: string, spans: readonly Span[]): Block {
  const own = without(partsOf(block, host), joined(spans)).map((span) => ({ ...span, host }));
  return sorted({ ...block, parts: [...block.parts.filter((part) => part.host !== host), ...own] });
}

/** The host bears the address from now on, too. */
export function share(block: Block, at: bigint, host: string, purpose: Shared['purpose']): Block {
  const now = block.shared.get(at);
  const hosts = [...new Set([...(now?.hosts ?? []), host])].sort();
  return { ...block, shared: new Map([...block.shared, [at, { purpose: now?.purpose ?? purpose, hosts }]]) };
}

export function unshare(block: Block, at: bigint, host: string): Block {
  const shared = new Map(block.shared);
  const now = shared.get(at);
  const hosts = now?.hosts.filter((one) => one !== host) ?? [];
  if (now === undefined || hosts.length === 0) shared.delete(at);
  else shared.set(at, { ...now, hosts });
  return { ...block, shared };
}

/** Without all that is a host's. */
export function forgetHost(block: Block, host: string): Block {
  const left = { ...block, parts: block.parts.filter((part) => part.host !== host) };
  return [...block.shared.keys()].reduce<Block>((now, at) => unshare(now, at, host), left);
}

export function isEmpty({ parts, shared }: Block): boolean {
  return parts.length === 0 && shared.size === 0;
}

function sorted(block: Block): Block {
  return { ...block, parts: [...block.parts].sort((a, b) => (a.first < b.first ? -1 : 1)) };
}

/** The record's value: `{ parts: [[first, last, host], …], shared: { address: { purpose, hosts } } }`. */
export function encodeBlock(pool: Prefix, { parts, shared }: Block): unknown {
  const text = (value: bigint) => ipFromValue(familyOfPrefix(pool), value);
  const together = Object.fromEntries([...shared].map(([at, one]) => [text(at), one]));
  return {
    parts: parts.map(({ first, last, host }) => [text(first), text(last), host]),
    ...(shared.size > 0 && { shared: together }),
  };
}

/** Undefined for what cannot be read whole: nobody takes anything of it then. */
export function decodeBlock(span: Span, value: unknown): Block | undefined {
  const { parts = [], shared = {} } = (value ?? {}) as {
    readonly parts?: unknown;
    readonly shared?: unknown;
  };
  if (!Array.isArray(parts) || typeof shared !== 'object' || shared === null) return undefined;
  const read = parts.map((part) => decodePart(span, part));
  const together = Object.entries(shared).map(([at, one]) => decodeShared(span, at, one));
  if (read.includes(undefined) || together.includes(undefined)) return undefined;
  const block = sorted({ parts: read.filter(isRead), shared: new Map(together.filter(isRead)) });
  const taken = block.parts.every((part, n) => n === 0 || part.first > (block.parts[n - 1]?.last ?? -1n));
  return taken && ![...block.shared.keys()].some((at) => within(block.parts, at)) ? block : undefined;
}

function isRead<T>(value: T | undefined): value is T {
  return value !== undefined;
}

function decodePart(span: Span, value: unknown): Part | undefined {
  if (!Array.isArray(value)) return undefined;
  const [from, to, host] = value as readonly unknown[];
  const [first, last] = [numberOf(span, from), numberOf(span, to)];
  if (first === undefined || last === undefined || first > last || typeof host !== 'string') return undefined;
  return { first, last, host };
}

function decodeShared(span: Span, at: string, value: unknown): readonly [bigint, Shared] | undefined {
  const address = numberOf(span, at);
  const { purpose, hosts } = (value ?? {}) as { readonly purpose?: unknown; readonly hosts?: unknown };
  if (address === undefined || (purpose !== 'gateway' && purpose !== 'aux')) return undefined;
  if (!Array.isArray(hosts) || !hosts.every((one) => typeof one === 'string')) return undefined;
  return [address, { purpose, hosts }];
}

function numberOf(span: Span, text: unknown): bigint | undefined {
  const address: Ip | undefined = typeof text === 'string' ? parseIp(text) : undefined;
  const value = address && ipValue(address);
  return value !== undefined && within([span], value) ? value : undefined;
}
