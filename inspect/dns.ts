/** The resolver's part of the admin API: who is called what, one question, every question, and figures. */
import express from 'express';
import { z } from 'zod';
import { CnmError } from '../cnm/errors.ts';
import type { SandboxRecord } from '../cnm/model.ts';
import type { Dns } from '../dns/service.ts';
import { decode } from './schema.ts';
import type { DnsView } from './views.ts';

export interface DnsRouteParts {
  readonly dns: Dns | undefined;
  readonly stopping: AbortSignal | undefined;
  findNetwork(ref: string): Promise<{ readonly id: string }>;
  sandboxes(): readonly SandboxRecord[];
}

const query = z.strictObject({
  name: z.string().min(1).max(255),
  type: z.string().max(20).default('A'),
  from: z.string().max(255).optional(),
});

export function dnsRoutes({ dns, stopping, ...objects }: DnsRouteParts): express.Router {
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
      const end = () => response.end();
      stopping?.addEventListener('abort', end);
      response.on('close', () => {
        stop();
        stopping?.removeEventListener('abort', end);
      });
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

/** A sandbox by name or id; a container by any of its names, or the beginning of its endpoint's id. @throws CnmError `sandbox-unknown`, `request-invalid` for several. */
function ownerOf(dns: Dns, { sandboxes }: Pick<DnsRouteParts, 'sandboxes'>, ref: string): string {
  const sandbox = sandboxes().find(({ id, name }) => name === ref || id === ref);
  if (sandbox !== undefined) return sandbox.id;
  const names = dns.names();
  const first = names.filter((view) => view.names[0] === ref);
  const meant =
    first.length > 0
      ? first
      : names.filter(
          ({ names, endpoint, owner }) =>
            names.includes(ref) || endpoint.startsWith(ref) || owner.startsWith(ref),
        );
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
