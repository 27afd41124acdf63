/**
 * Pools and addresses that Docker has forgotten. When the connection of a Request or Release breaks, Docker's retry comes
 * without its arguments and fails (libnetwork.md §0), and Docker never speaks of that pool or address again: its subnet
 * could never be used for another network, its address never for another container. So they are compared with Docker's
 * own list, as endpoints are in cnm/reclaim.ts, and given back only when for a whole minute nothing spoke for them: not
 * Docker's list, not a record of ours, not an interface that bears the address. A pool under which any network of Docker's has its subnet is in use, whatever
 * IPAM driver that network names, for a managed plugin does not know its own name. Pools with an owner belong to
 * standalone networks (inspect/leaks.ts), those that Docker asked for in the
 * global space to Swarm's managers, of which this Docker does not know all; with the option `space` they are its own.
 */
import type { Ip } from '../address/ip.ts';
import { addressOf, networkOf } from '../address/prefix.ts';
import type { Cnm, EngineNetwork } from '../cnm/cnm.ts';
import type { Log } from '../cnm/log.ts';
import type { Ipam, PoolView } from './ipam.ts';
import { SPACE } from './options.ts';

export interface LeaseReclaimOptions {
  readonly cnm: Pick<Cnm, 'networks' | 'endpoints'>;
  readonly ipam: Ipam;
  readonly log: Log;
  /**
   * Addresses that interfaces bear now, on the host and in every namespace that a container may live in. Rejects when that
   * cannot be told, and then nothing goes back. Asked only when something is due.
   */
  readonly live: () => Promise<ReadonlySet<Ip>>;
  /** Milliseconds for which nothing must have spoken for it. Default 60 s: several times what a slow creation takes. */
  readonly age?: number;
  readonly now?: () => number;
}

export interface LeaseReclaimer {
  /** One look, with Docker's list of this moment. Returns what was given back by it. */
  look(listed: readonly EngineNetwork[]): Promise<readonly string[]>;
}

interface Lost {
  readonly key: string;
  /** An interface with one of these holds it. */
  readonly addresses: readonly Ip[];
  readonly release: () => Promise<void>;
}

export function createLeaseReclaimer(options: LeaseReclaimOptions): LeaseReclaimer {
  const { cnm, ipam, log, age = 60_000, now = Date.now } = options;
  let missingSince = new Map<string, number>();
  return {
    async look(listed) {
      const lost = lostOf(cnm, ipam, listed);
      const before = missingSince;
      missingSince = new Map(lost.map(({ key }) => [key, before.get(key) ?? now()]));
      const due = lost.filter(({ key }) => now() - (before.get(key) ?? now()) >= age);
      if (due.length === 0) return [];
      const live = await options.live();
      const gone = due.filter(({ addresses }) => !addresses.some((address) => live.has(address)));
      for (const { key, release } of gone) {
        await release();
        log.warn({ object: key }, 'given back: Docker has forgotten it');
      }
      return gone.map(({ key }) => key);
    },
  };
}

function lostOf(
  cnm: LeaseReclaimOptions['cnm'],
  ipam: Ipam,
  listed: readonly EngineNetwork[],
): readonly Lost[] {
  // A list that says nothing of subnets cannot tell what is forgotten.
  if (listed.some((network) => network.subnets === undefined)) return [];
  const alive = new Set([...listed.flatMap(poolsListed), ...cnm.networks().flatMap(poolsRecorded)]);
  const spokenFor = new Set<Ip>([...listed.flatMap(addressesListed), ...addressesRecorded(cnm)]);
  return ipam
    .pools()
    .filter(({ space, owner, options }) => {
      const ofThisHost = [ipam.localSpace, ipam.defaultSpace].includes(space) || options[SPACE] !== undefined;
      return owner === undefined && ofThisHost;
    })
    .flatMap((pool) => (alive.has(pool.pool) ? lostLeases(ipam, pool, spokenFor) : [lostPool(ipam, pool)]));
}

function lostPool(ipam: Ipam, { poolId, leases }: PoolView): Lost {
  // The gateway's address is the bridge's own, which outlives its network when its driver was killed.
  const held = leases.filter(({ purpose }) => purpose !== 'gateway').map(({ address }) => address);
  return { key: `pool ${poolId}`, addresses: held, release: () => ipam.releasePool(poolId) };
}

/** A living pool's gateway stays: Docker lists it only where the user named it. */
function lostLeases(ipam: Ipam, { poolId, leases }: PoolView, spokenFor: ReadonlySet<Ip>): readonly Lost[] {
  return leases
    .filter(({ address, purpose }) => purpose === 'endpoint' && !spokenFor.has(address))
    .map(({ address }) => ({
      key: `address ${poolId}/${address}`,
      addresses: [address],
      release: () => ipam.releaseAddress(poolId, address),
    }));
}

function poolsListed({ subnets = [] }: EngineNetwork) {
  return subnets.map(({ pool }) => pool);
}

function poolsRecorded({ ipv4, ipv6 }: ReturnType<Cnm['networks']>[number]) {
  return [...ipv4, ...ipv6].map(({ pool }) => networkOf(pool));
}

export function addressesListed({ subnets = [], endpoints }: EngineNetwork): readonly Ip[] {
  const own = endpoints.flatMap(({ ipv4, ipv6 }) => [ipv4, ipv6]);
  return [...own, ...subnets.flatMap(({ aux }) => aux)].filter((address) => address !== undefined);
}

function addressesRecorded(cnm: LeaseReclaimOptions['cnm']): readonly Ip[] {
  const aux = cnm
    .networks()
    .flatMap(({ ipv4, ipv6 }) => [...ipv4, ...ipv6].flatMap((subnet) => Object.values(subnet.aux)));
  const own = cnm.endpoints().flatMap(({ address, addressV6 }) => [address, addressV6]);
  return [...aux, ...own].filter((prefix) => prefix !== undefined).map(addressOf);
}
