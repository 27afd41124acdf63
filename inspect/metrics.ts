/** Figures for Prometheus, counted when they are asked for. */
import type express from 'express';
import { Gauge, Registry } from 'prom-client';
import type { Ipam } from '../ipam/ipam.ts';

export function metricsRoute(ipam: Ipam): express.RequestHandler {
  return async (_request, response) => {
    const registry = new Registry();
    const addresses = new Gauge({
      name: 'cnm_ipam_addresses',
      help: 'Addresses of a pool: used (leased), free (of those that may be chosen), resting (free and lately used), reserved (given only to those who name them)',
      labelNames: ['pool_id', 'space', 'state'],
      registers: [registry],
    });
    for (const { poolId, space, usage } of ipam.pools()) {
      const { used, free, resting, reserved } = usage;
      const figures = { used, free: Number(free), resting, reserved: Number(reserved) };
      for (const [state, value] of Object.entries(figures))
        addresses.set({ pool_id: poolId, space, state }, value);
    }
    const pools = new Gauge({
      name: 'cnm_ipam_pools',
      help: 'Pools, a range of a pool counting as one',
      labelNames: ['space'],
      registers: [registry],
    });
    for (const space of [ipam.localSpace, ipam.globalSpace])
      pools.set({ space }, ipam.pools().filter((pool) => pool.space === space).length);
    response.type(registry.contentType).send(await registry.metrics());
  };
}
