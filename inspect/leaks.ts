/**
 * Leases of standalone networks that nothing accounts for: what a crash leaves between a step of the IPAM and the record
 * that was to go with it. Pure.
 */
import type { Ip } from '../address/ip.ts';
import { addressOf, type Prefix } from '../address/prefix.ts';
import type { EndpointRecord, NetworkRecord } from '../cnm/model.ts';
import type { PoolView } from '../ipam/ipam.ts';
import type { LeakView } from './views.ts';

export function leakedLeases(
  networks: readonly NetworkRecord[],
  endpoints: readonly EndpointRecord[],
  pools: readonly PoolView[],
): readonly LeakView[] {
  const standalone = networks.filter((network) => network.origin === 'cnm');
  return pools.flatMap((pool) => {
    const network = standalone.find((candidate) => candidate.pools?.includes(pool.poolId) === true);
    if (network !== undefined) return strayLeases(pool, addressesOf(network, endpoints));
    return pool.owner === undefined
      ? []
      : [...strayLeases(pool, new Set()), { poolId: pool.poolId, pool: pool.pool }];
  });
}

function strayLeases(pool: PoolView, held: ReadonlySet<Ip>): readonly LeakView[] {
  return pool.leases
    .filter((lease) => !held.has(lease.address))
    .map(({ address, name }) => ({
      poolId: pool.poolId,
      pool: pool.pool,
      address,
      ...(name !== undefined && { name }),
    }));
}

/** Every address that the records of a network speak for. An endpoint that is being removed still does. */
function addressesOf(network: NetworkRecord, endpoints: readonly EndpointRecord[]): ReadonlySet<Ip> {
  const subnets = [...network.ipv4, ...network.ipv6];
  const own = endpoints.filter((endpoint) => endpoint.network === network.id);
  const prefixes: readonly (Prefix | undefined)[] = [
    ...subnets.flatMap((subnet) => [subnet.gateway, ...Object.values(subnet.aux)]),
    ...own.flatMap((endpoint) => [endpoint.address, endpoint.addressV6]),
  ];
  return new Set(prefixes.filter((prefix) => prefix !== undefined).map(addressOf));
}
