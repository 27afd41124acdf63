/** Where the records of networks that hosts have together are in the cluster store, and what they say. drivers/overlay/README.md has them as a table. Pure. */
import { createHash } from 'node:crypto';
import { parseIp } from '../../address/ip.ts';
import { isUnicast, parseMac } from '../../address/mac.ts';
import { parsePrefix, type Prefix } from '../../address/prefix.ts';
import { ANY_MAC } from '../../kernel/entry.ts';
import type { OwnEndpoint, Place, Remote, RemoteEndpoint, RemoteHost } from '../control.ts';

/** All networks. */
export const NETWORKS = 'overlay/network/';

export function networkKey(id: string): string {
  return NETWORKS + id;
}

/** The network that has a number. */
export function numberKey(number: number): string {
  return `overlay/vni/${number}`;
}

/** The network that has a subnet of an address space that the hosts share. */
export function subnetKey(pool: Prefix): string {
  return `overlay/subnet/${pool}`;
}

/** A host that is there: goes with its lease. */
export function hostKey(host: string): string {
  return `overlay/host/${host}`;
}

/** Hosts that have endpoints on a network, and these: each goes with its host's lease. */
export function onNetwork(id: string): string {
  return `overlay/on/${id}/`;
}

export function placeKey(id: string, host: string): string {
  return `${onNetwork(id)}${host}`;
}

export function endpointKey(id: string, host: string, endpoint: string): string {
  return `${placeKey(id, host)}/${endpoint}`;
}

/** The same for the same name, on every host. */
export function networkId(name: string): string {
  return createHash('sha256').update(name).digest('hex').slice(0, 16);
}

export interface NetworkRecord {
  readonly name: string;
  readonly equal: Readonly<Record<string, string>>;
  readonly numbers: readonly number[];
  /** Keys of what it alone may have. */
  readonly claims: readonly string[];
  /** Names of the hosts that have it, by their ids. */
  readonly hosts: Readonly<Record<string, string>>;
}

/** Undefined: not written by us. */
export function decodeNetwork(value: unknown): NetworkRecord | undefined {
  const { name, equal, numbers, claims, hosts } = (value ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof name !== 'string' || !isTexts(equal) || !isTexts(hosts) || !Array.isArray(numbers))
    return undefined;
  return numbers.every((one) => Number.isInteger(one))
    ? { name, equal, hosts, numbers: numbers as readonly number[], claims: texts(claims) }
    : undefined;
}

function isTexts(value: unknown): value is Readonly<Record<string, string>> {
  return (
    typeof value === 'object' &&
    value !== null &&
    Object.values(value).every((one) => typeof one === 'string')
  );
}

/** A host's own record on a network. */
export interface PlaceRecord extends Place {
  readonly name: string;
  /** It goes in a moment, and not because its host is gone. */
  readonly left?: true;
}

export type EndpointRecord = Omit<OwnEndpoint, 'id'> & Pick<RemoteEndpoint, 'at'>;

/** `key` as under onNetwork(). Undefined: not written by us. */
export function decodeRemote(key: string, value: unknown): Remote | undefined {
  const [host = '', endpoint, ...more] = key.split('/');
  if (host === '' || more.length > 0) return undefined;
  return endpoint === undefined ? decodePlace(host, value) : decodeEndpoint(host, endpoint, value);
}

function decodePlace(id: string, value: unknown): RemoteHost | undefined {
  const { name, at, details, left } = (value ?? {}) as Readonly<Record<string, unknown>>;
  if (left === true) return undefined;
  const address = typeof at === 'string' ? parseIp(at) : undefined;
  if (typeof name !== 'string' || address === undefined || !isTexts(details)) return undefined;
  return { kind: 'host', id, name, at: address, details };
}

function decodeEndpoint(host: string, id: string, value: unknown): RemoteEndpoint | undefined {
  const record = (value ?? {}) as Readonly<Record<string, unknown>>;
  const at = typeof record['at'] === 'string' ? parseIp(record['at']) : undefined;
  const mac = typeof record['mac'] === 'string' ? parseMac(record['mac']) : undefined;
  const generation = record['generation'];
  // That of all zeros would be a host's entry, and no bridge takes a group's.
  if (at === undefined || mac === undefined || mac === ANY_MAC || !isUnicast(mac)) return undefined;
  if (!isGeneration(generation)) return undefined;
  const addresses = texts(record['addresses'])
    .map(parsePrefix)
    .filter((one) => one !== undefined);
  const [names, ports] = [texts(record['names']), texts(record['ports'])];
  return { kind: 'endpoint', id, host, at, mac, addresses, generation, names, ports };
}

/** Such that there are greater ones. */
function isGeneration(value: unknown): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function texts(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === 'string') : [];
}
