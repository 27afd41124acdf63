/** The resolver's part of the admin API: who is called what, one question, every question, and figures. */
import express from 'express';
import { Gauge, Registry } from 'prom-client';
import { z } from 'zod';
import { CnmError } from '../cnm/errors.ts';
import type { SandboxRecord } from '../cnm/model.ts';
import type { Dns } from '../dns/service.ts';
import { decode } from './schema.ts';
import type { DnsView } from './views.ts';

/** What of the objects is needed to find what a person means. */
export interface DnsObjects {
  findNetwork(ref: string): Promise<{ readonly id: string }>;
  sandboxes(): readonly SandboxRecord[];
}

const query = z.strictObject({
  name: z.string().min(1).max(255),
  type: z.string().max(20).default('A'),
  from: z.string().max(255).optional(),
});

export function dnsRoutes(dns: Dns | undefined, objects: DnsObjects): express.Router {
  return express
    .Router()
    .get('/dns', async (request, response) => {
      const { network } = request.query;
      const only = typeof network === 'string' ? (await objects.findNetwork(network)).id : undefined;
      response.json(viewOf(running(dns), only));
    })
    .post('/dns/query', async (request, response) => {
      const { name, type, from } = decode(query, request.body);
      const own = running(dns);
      response.json(await own.ask(name, type, from === undefined ? undefined : ownerOf(own, objects, from)));
    })
    .get('/dns/log', (_request, response) => {
      const own = running(dns);
      response.type('application/x-ndjson').flushHeaders();
      const stop = own.listen((event) => {
        // Who reads too slowly gets no more of it, and the daemon keeps nothing for him.
        if (response.writableLength < LOG_BACKLOG) response.write(`${JSON.stringify(event)}\n`);
      });
      response.on('close', stop);
    })
    .get('/metrics', async (_request, response) => {
      const registry = figures(running(dns));
      response.type(registry.contentType).send(await registry.metrics());
    });
}

const LOG_BACKLOG = 2 ** 20;

function running(dns: Dns | undefined): Dns {
  if (dns === undefined) throw new CnmError('unavailable', 'This daemon has no resolver');
  return dns;
}

function viewOf(dns: Dns, network: string | undefined): DnsView {
  return {
    names: dns.names(network),
    servers: network === undefined ? dns.doors() : [],
    upstreams: network === undefined ? dns.upstreams() : [],
  };
}

/** A sandbox by name or id; a container by any of its names. @throws CnmError `sandbox-unknown`, `request-invalid` for several. */
function ownerOf(dns: Dns, objects: DnsObjects, ref: string): string {
  const sandbox = objects.sandboxes().find(({ id, name }) => name === ref || id === ref);
  if (sandbox !== undefined) return sandbox.id;
  const names = dns.names();
  const first = names.filter((view) => view.names[0] === ref);
  const meant =
    first.length > 0
      ? first
      : names.filter((view) => view.names.includes(ref) || view.endpoint.startsWith(ref));
  const [owner, ...others] = new Set(meant.map((view) => view.owner));
  if (owner === undefined)
    throw new CnmError('sandbox-unknown', `No sandbox or container is called "${ref}"`);
  if (others.length > 0)
    throw new CnmError(
      'request-invalid',
      `"${ref}" means ${others.length + 1} containers; give the name of one`,
    );
  return owner;
}

/** Made anew for each look: what is counted is counted elsewhere. */
function figures(dns: Dns): Registry {
  const registry = new Registry();
  const gauge = <T extends string>(name: string, help: string, labelNames: T[]) =>
    new Gauge({ name, help, labelNames, registers: [registry] });
  const answers = gauge(
    'cnm_dns_answers_total',
    'Answers, by the network that the name is of (empty: none) and code',
    ['network', 'rcode'],
  );
  const titles = new Map(
    dns.names().map((view) => [view.network, view.networkName ?? view.network.slice(0, 12)]),
  );
  for (const { network, rcode, count } of dns.counts())
    answers.set({ network: titles.get(network) ?? network.slice(0, 12), rcode }, count);
  const asked = gauge('cnm_dns_upstream_total', 'What became of queries to a server', [
    'upstream',
    'outcome',
  ]);
  const up = gauge('cnm_dns_upstream_up', '1 while the server is asked in its turn', ['upstream']);
  const roundTrip = gauge('cnm_dns_upstream_round_trip_seconds', 'Smoothed time of its answers', [
    'upstream',
  ]);
  for (const { address, port, state, roundTrip: ms, ...outcomes } of dns.upstreams()) {
    const upstream = port === 53 ? address : `${address}#${port}`;
    for (const [outcome, count] of Object.entries(outcomes)) asked.set({ upstream, outcome }, count);
    up.set({ upstream }, state === 'up' ? 1 : 0);
    if (ms !== undefined) roundTrip.set({ upstream }, ms / 1000);
  }
  const { waiting, cached } = dns.load();
  gauge('cnm_dns_waiting', 'Questions that wait for a server', []).set(waiting);
  gauge('cnm_dns_cached', 'Replies that are kept', []).set(cached);
  gauge('cnm_dns_endpoints', 'Endpoints that have names', []).set(dns.names().length);
  return registry;
}
