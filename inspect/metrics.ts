/** Figures for Prometheus, counted when they are asked for. */
import type express from 'express';
import { Counter, Gauge, Registry } from 'prom-client';
import type { Dns } from '../dns/service.ts';
import type { Ipam } from '../ipam/ipam.ts';

export function metricsRoute(ipam: Ipam, dns: Dns | undefined): express.RequestHandler {
  return async (_request, response) => {
    // Made anew for each look: what is counted is counted elsewhere.
    const registry = new Registry();
    ipamFigures(registry, ipam);
    if (dns !== undefined) dnsFigures(registry, dns);
    response.type(registry.contentType).send(await registry.metrics());
  };
}

function ipamFigures(registry: Registry, ipam: Ipam): void {
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
}

function dnsFigures(registry: Registry, dns: Dns): void {
  const gauge = <T extends string>(name: string, help: string, labelNames: T[]) =>
    new Gauge({ name, help, labelNames, registers: [registry] });
  const counter = <T extends string>(name: string, help: string, labelNames: T[]) =>
    new Counter({ name, help, labelNames, registers: [registry] });
  const answers = counter(
    'cnm_dns_answers_total',
    'Answers, by the network that the name is of (empty: none) and code',
    ['network', 'rcode'],
  );
  for (const { network, networkName, rcode, count } of dns.counts())
    answers.inc({ network: networkName ?? network.slice(0, 12), rcode }, count);
  const asked = counter('cnm_dns_upstream_total', 'What became of queries to a server', [
    'upstream',
    'outcome',
  ]);
  const up = gauge('cnm_dns_upstream_up', '1 while the server is asked in its turn', ['upstream']);
  const roundTrip = gauge('cnm_dns_upstream_round_trip_seconds', 'Smoothed time of its answers', [
    'upstream',
  ]);
  for (const { address, port, state, roundTrip: ms, ...outcomes } of dns.upstreams()) {
    const upstream = port === 53 ? address : `${address}#${port}`;
    for (const [outcome, count] of Object.entries(outcomes)) asked.inc({ upstream, outcome }, count);
    up.set({ upstream }, state === 'up' ? 1 : 0);
    if (ms !== undefined) roundTrip.set({ upstream }, ms / 1000);
  }
  const { waiting, cached } = dns.load();
  gauge('cnm_dns_waiting', 'Questions that wait for a server', []).set(waiting);
  gauge('cnm_dns_cached', 'Replies that are kept', []).set(cached);
  gauge('cnm_dns_endpoints', 'Endpoints that have names', []).set(dns.names().length);
}
