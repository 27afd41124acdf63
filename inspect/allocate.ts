/** Asking the IPAM for all that a standalone network needs, and giving all of it back. */
import type { Ip } from '../address/ip.ts';
import { addressOf, type Prefix } from '../address/prefix.ts';
import type { Log } from '../cnm/log.ts';
import type { Subnet } from '../cnm/model.ts';
import type { AddressRequest, Ipam } from '../ipam/ipam.ts';
import { SPACE } from '../ipam/options.ts';
import type { SubnetRequest } from './subnets.ts';

/** What is held at the IPAM. Pools go back after their addresses. */
export interface AddressPlan {
  readonly leases: readonly { readonly poolId: string; readonly address: Ip }[];
  readonly pools: readonly string[];
}

export interface Allocation extends AddressPlan {
  /** IPv4 before IPv6; `pools[n]` is the pool of `subnets[n]`. */
  readonly subnets: readonly Subnet[];
}

interface Allocating {
  readonly leases: { poolId: string; address: Ip }[];
  readonly pools: string[];
  readonly subnets: Subnet[];
}

/** All subnets, or none: @throws CnmError of the IPAM, after what was got is given back. */
export async function allocate(
  ipam: Ipam,
  log: Log,
  owner: string,
  requests: readonly SubnetRequest[],
): Promise<Allocation> {
  const got: Allocating = { leases: [], pools: [], subnets: [] };
  try {
    const ordered = [...requests].sort((a, b) => Number(a.v6) - Number(b.v6));
    for (const request of ordered) got.subnets.push(await subnet(ipam, owner, request, got));
    return got;
  } catch (error) {
    await release(ipam, log, got);
    throw error;
  }
}

async function subnet(ipam: Ipam, owner: string, wanted: SubnetRequest, got: Allocating): Promise<Subnet> {
  const { v6, pool, range, options = {} } = wanted;
  const space = options[SPACE] ?? ipam.defaultSpace;
  const answer = await ipam.requestPool({
    space,
    v6,
    options,
    owner,
    ...(pool && { pool }),
    ...(range && { subPool: range }),
  });
  got.pools.push(answer.poolId);
  // What the user named comes first, so that the gateway that the IPAM chooses is none of it.
  const aux: Record<string, Prefix> = {};
  for (const [key, address] of Object.entries(wanted.aux)) {
    aux[key] = await lease(ipam, answer.poolId, { address, gateway: false, aux: true, name: key }, got);
  }
  if (wanted.noGateway === true) return { addressSpace: space, pool: answer.pool, aux };
  const explicit = wanted.gateway === undefined ? {} : { address: wanted.gateway };
  const gateway = await lease(ipam, answer.poolId, { ...explicit, gateway: true }, got);
  return { addressSpace: space, pool: answer.pool, gateway, aux };
}

async function lease(
  ipam: Ipam,
  poolId: string,
  request: Omit<AddressRequest, 'serial'>,
  got: Allocating,
): Promise<Prefix> {
  const prefix = await ipam.requestAddress(poolId, { ...request, serial: false });
  got.leases.push({ poolId, address: addressOf(prefix) });
  return prefix;
}

/**
 * Never throws: it runs where an error is on its way already, or where the network is gone. What cannot be released now
 * is found by `reclaimLeases`.
 */
export async function release(ipam: Ipam, log: Log, { leases, pools }: AddressPlan): Promise<void> {
  const attempt = async (what: string, work: () => Promise<void>) => {
    try {
      await work();
    } catch (error) {
      log.warn({ what, error: String(error) }, 'a lease could not be released yet');
    }
  };
  for (const { poolId, address } of leases)
    await attempt(address, () => ipam.releaseAddress(poolId, address));
  for (const poolId of pools) await attempt(poolId, () => ipam.releasePool(poolId));
}
