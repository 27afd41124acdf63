/** Docker's IpamDriver protocol (moby, libnetwork/docs/ipam.md) over our own IPAM. */
import type { Router } from 'express';
import type { Ipam } from '../ipam/ipam.ts';
import { callRouter } from './call.ts';
import type { Call, Edge } from './call.ts';
import * as wire from './wire-ipam.ts';

export function ipamDriverRouter(ipam: Ipam, edge: Edge): Router {
  return callRouter({ ...greetings(ipam, edge), ...poolCalls(ipam), ...addressCalls(ipam) }, edge);
}

/**
 * RequiresMACAddress: false, addresses do not depend on it (dockerd would invent one for every container).
 * RequiresRequestReplay: false, pools and leases are durable before they are answered; a replay would carry less than we
 * stored, as its RequestAddress has no options.
 */
const CAPABILITIES = { RequiresMACAddress: false, RequiresRequestReplay: false } as const;

function greetings(ipam: Ipam, edge: Edge): Record<string, Call> {
  const spaces: wire.AddressSpacesReply = {
    LocalDefaultAddressSpace: ipam.defaultSpace,
    GlobalDefaultAddressSpace: ipam.globalSpace,
  };
  return {
    'IpamDriver.GetCapabilities': {
      kind: 'greeting',
      answer: () => {
        edge.onEngineStart?.();
        return CAPABILITIES;
      },
    },
    'IpamDriver.GetDefaultAddressSpaces': { kind: 'greeting', answer: () => spaces },
  };
}

function poolCalls(ipam: Ipam): Record<string, Call> {
  const spaces = [ipam.localSpace, ipam.globalSpace];
  return {
    'IpamDriver.RequestPool': {
      kind: 'change',
      answer: async (body): Promise<wire.PoolReply> => {
        const { poolId, pool } = await ipam.requestPool(wire.decodePool(body, spaces));
        return { PoolID: poolId, Pool: pool, Data: {} };
      },
    },
    'IpamDriver.ReleasePool': {
      kind: 'change',
      answer: async (body) => {
        await ipam.releasePool(wire.decodePoolId(body));
        return {};
      },
    },
  };
}

function addressCalls(ipam: Ipam): Record<string, Call> {
  return {
    'IpamDriver.RequestAddress': {
      kind: 'change',
      answer: async (body): Promise<wire.AddressReply> => {
        const { poolId, request } = wire.decodeAddress(body);
        return { Address: await ipam.requestAddress(poolId, request), Data: {} };
      },
    },
    'IpamDriver.ReleaseAddress': {
      kind: 'change',
      answer: async (body) => {
        const { poolId, address } = wire.decodeRelease(body);
        await ipam.releaseAddress(poolId, address);
        return {};
      },
    },
  };
}
