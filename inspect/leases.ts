/** Which leases at the IPAM belong to a standalone network and to its endpoints. Pure. */
import { addressOf, contains } from '../address/prefix.ts';
import { CnmError } from '../cnm/errors.ts';
import type { EndpointRecord, NetworkRecord, Subnet } from '../cnm/model.ts';
import type { AddressPlan } from './allocate.ts';

/** `pools` lists the pool of every subnet, IPv4's first. */
export function poolOf(network: NetworkRecord, subnet: Subnet): string {
  const poolId = network.pools?.[[...network.ipv4, ...network.ipv6].indexOf(subnet)];
  if (poolId !== undefined) return poolId;
  throw new CnmError(
    'pool-unknown',
    `The pool of subnet ${subnet.pool} of network ${network.id} is not known`,
  );
}

/** What a network holds for itself. */
export function leasesOfNetwork(network: NetworkRecord): AddressPlan {
  const leases = [...network.ipv4, ...network.ipv6].flatMap((subnet) => {
    const own = [subnet.gateway, ...Object.values(subnet.aux)].filter((prefix) => prefix !== undefined);
    return own.map((prefix) => ({ poolId: poolOf(network, subnet), address: addressOf(prefix) }));
  });
  return { leases, pools: network.pools ?? [] };
}

/** What an endpoint of the network holds. */
export function leasesOfEndpoint(network: NetworkRecord, endpoint: EndpointRecord): AddressPlan['leases'] {
  return [endpoint.address, endpoint.addressV6].flatMap((prefix) => {
    if (prefix === undefined) return [];
    const address = addressOf(prefix);
    const subnet = [...network.ipv4, ...network.ipv6].find((candidate) => contains(candidate.pool, address));
    return subnet === undefined ? [] : [{ poolId: poolOf(network, subnet), address }];
  });
}
