/**
 * What the Docker Engine says exists, over its API socket. Never waited for while a call of Docker's is being answered: the
 * Engine holds locks of its own then, and the two would wait for each other.
 */
import { type Ip, parseIp } from '../address/ip.ts';
import { addressOf, networkOf, parsePrefix } from '../address/prefix.ts';
import { z } from 'zod';
import type { EngineNetwork, EngineView } from '../cnm/cnm.ts';
import type { Log } from '../cnm/log.ts';
import { exchange } from './engine-exchange.ts';

export interface EngineOptions {
  /** Path of the API socket, for example /var/run/docker.sock. */
  readonly socket: string;
  /**
   * Names of the drivers whose networks are wanted, with or without the tag that managed plugins have (`name:latest`).
   * Absent = every network: a managed plugin does not know under what name it was installed.
   */
  readonly drivers?: readonly string[];
  /** Milliseconds for one request. Default 5 000. */
  readonly timeout?: number;
  readonly log: Log;
}

/** Newest version of the API whose answers these schemas were written for; an Engine that is older gets its own. */
const NEWEST = '1.51';
const TIMEOUT = 5_000;

export function engineClient(options: EngineOptions): EngineView {
  return {
    async networks() {
      try {
        return await readNetworks(options);
      } catch (error) {
        options.log.debug({ socket: options.socket, err: error }, 'The Docker Engine did not answer');
        return undefined;
      }
    },
  };
}

/**
 * All or nothing: what is missing from the answer is taken for gone by whoever asked, so that a list that is only partly
 * known must not be given. A network that vanishes between the list and its inspection is gone, and left out.
 */
async function readNetworks(options: EngineOptions): Promise<readonly EngineNetwork[]> {
  const base = await apiBase(options);
  const listed = networkList.parse(await fetchJson(options, `${base}/networks`));
  const wanted = listed.filter((network) => isWanted(network.Driver, options.drivers));
  const found: EngineNetwork[] = [];
  for (const { Id } of wanted) {
    const reply = await fetchJson(options, `${base}/networks/${encodeURIComponent(Id)}`);
    if (reply !== undefined) found.push(engineNetwork(inspected.parse(reply)));
  }
  return found;
}

/** What stands before each path: the version of the API that both sides speak. @throws as fetchJson */
export async function apiBase(options: EngineOptions): Promise<string> {
  return `/v${versionFor(version.parse(await fetchJson(options, '/version')))}`;
}

export function isWanted(driver: string, drivers: readonly string[] | undefined): boolean {
  return (
    drivers === undefined || drivers.includes(driver) || drivers.includes(driver.replace(/:[^:/]*$/, ''))
  );
}

const version = z.object({ ApiVersion: z.string(), MinAPIVersion: z.string().optional() });

/** The newest version that both sides speak; Engine 20.10 has 1.41, Engine 29 nothing below 1.44. */
function versionFor(engine: z.infer<typeof version>): string {
  return compareVersions(engine.ApiVersion, NEWEST) < 0 ||
    compareVersions(engine.MinAPIVersion ?? '1.0', NEWEST) > 0
    ? engine.ApiVersion
    : NEWEST;
}

function compareVersions(a: string, b: string): number {
  const [aMajor = 0, aMinor = 0] = a.split('.').map(Number);
  const [bMajor = 0, bMinor = 0] = b.split('.').map(Number);
  return aMajor - bMajor || aMinor - bMinor;
}

const networkList = z.array(z.object({ Id: z.string(), Driver: z.string() }));

const attached = z.object({
  Name: z.string(),
  EndpointID: z.string(),
  IPv4Address: z.string().optional(),
  IPv6Address: z.string().optional(),
});

const configured = z.object({
  Subnet: z.string().optional(),
  AuxiliaryAddresses: z.record(z.string(), z.string()).nullish(),
});

const inspected = z.object({
  Id: z.string(),
  Name: z.string(),
  Driver: z.string(),
  // Keyed by the container's id, or by `ep-<endpoint id>` for an endpoint with no container.
  Containers: z.record(z.string(), attached).nullish(),
  Peers: z.array(z.object({ IP: z.string() })).nullish(),
  Ingress: z.boolean().optional(),
  IPAM: z.object({ Config: z.array(configured).nullish() }).nullish(),
});

function engineNetwork(network: z.infer<typeof inspected>): EngineNetwork {
  return {
    id: network.Id,
    name: network.Name,
    driver: network.Driver,
    endpoints: Object.entries(network.Containers ?? {}).map(([container, endpoint]) => {
      const ipv4 = addressIn(endpoint.IPv4Address);
      const ipv6 = addressIn(endpoint.IPv6Address);
      return {
        id: endpoint.EndpointID,
        container: endpoint.Name === '' ? container : endpoint.Name,
        ...(ipv4 !== undefined && { ipv4 }),
        ...(ipv6 !== undefined && { ipv6 }),
      };
    }),
    ...(network.Peers && { peers: network.Peers.flatMap(({ IP }) => parseIp(IP) ?? []) }),
    ...(network.Ingress === true && { ingress: true }),
    ...(network.IPAM && { subnets: (network.IPAM.Config ?? []).flatMap(subnetOf) }),
  };
}

function addressIn(prefix: string | undefined): Ip | undefined {
  const parsed = parsePrefix(prefix ?? '');
  return parsed && addressOf(parsed);
}

function subnetOf({ Subnet, AuxiliaryAddresses }: z.infer<typeof configured>) {
  const pool = parsePrefix(Subnet ?? '');
  if (pool === undefined) return [];
  const aux = Object.values(AuxiliaryAddresses ?? {}).flatMap((address) => parseIp(address) ?? []);
  return [{ pool: networkOf(pool), aux }];
}

/** The reply of a GET; undefined for 404. @throws on any other status, on a late reply, and on what is not JSON. */
export async function fetchJson(
  { socket, timeout = TIMEOUT }: EngineOptions,
  path: string,
): Promise<unknown> {
  const signal = AbortSignal.timeout(timeout);
  const { status, text } = await exchange({ socket, method: 'GET', path, signal });
  if (status === 404) return undefined;
  if (status !== 200) throw new Error(`GET ${path}: the Engine answered ${status}: ${text.slice(0, 200)}`);
  return JSON.parse(text) as unknown;
}
