/**
 * The admin API: JSON over a unix socket that only root can open, for the `cnm` command and for programs.
 * Failures answer `{ "error": { "code", "message" } }` with the status of `cnm/errors.ts`; never a stack trace.
 */
import express from 'express';
import type { Cnm, EngineView } from '../cnm/cnm.ts';
import { CnmError } from '../cnm/errors.ts';
import type { Log } from '../cnm/log.ts';
import type { Ipam } from '../ipam/ipam.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { AddressBook } from './address-book.ts';
import type { Dns } from '../dns/service.ts';
import { dnsRoutes } from './dns.ts';
import { commands } from './doctor.ts';
import { answerError, answerUnknownPath } from './failures.ts';
import { ipamRoutes } from './ipam-routes.ts';
import { metricsRoute } from './metrics.ts';
import { Observatory, type ObservatoryOptions } from './observatory.ts';
import { overlayRoutes, type OverlayService } from './overlay.ts';
import { publishedRoutes, type PublishedService } from './published.ts';
import {
  decodeCheck,
  decodeJoin,
  decodeLeave,
  decodeNetwork,
  decodePublish,
  decodeSandbox,
} from './schema.ts';
import { Standalone } from './standalone.ts';
import { subnetView } from './summaries.ts';
import type { NetworkRequest, PlanView, VersionView } from './views.ts';

export interface AdminOptions {
  readonly cnm: Cnm;
  readonly ipam: Ipam;
  readonly kernel: Kernel;
  readonly log: Log;
  readonly version: string;
  /** Where the daemon keeps the namespaces of its sandboxes; shown by GET /v1/version. */
  readonly runDir: string;
  /** Names of Docker's networks and containers. */
  readonly engine?: EngineView;
  /** Files of all namespaces that a container may live in. */
  readonly namespaces?: () => readonly string[];
  /** What opening the store found, as sentences; the doctor shows them. */
  readonly notices?: readonly string[];
  readonly dns?: Dns;
  /** What a DHCP server has given an endpoint. */
  readonly lease?: NonNullable<ObservatoryOptions['lease']>;
  readonly overlay?: OverlayService;
  /** Absent: this host is in no cluster. */
  readonly published?: PublishedService;
  /** Where others make standalone networks too. */
  readonly standalone?: Standalone;
  /** Ends answers that go on until the reader hangs up, so that nobody waits for them at the end. */
  readonly stopping?: AbortSignal;
}

/** Enough for every option of a network; Docker's largest requests are a few KiB. */
const BODY_LIMIT = '256kb';

export function adminApp(options: AdminOptions): express.Express {
  const standalone = options.standalone ?? new Standalone(options);
  const observatory = new Observatory({ ...options, standalone });
  const book = new AddressBook({ ...options, standalone, names: () => observatory.names() });
  const app = express();
  app.disable('x-powered-by');
  app.disable('etag');
  app.set('query parser', 'simple');
  // Whatever the content type says: curl sends a form's by default.
  app.use(express.json({ limit: BODY_LIMIT, strict: true, type: () => true }));
  app.use('/v1', versionRoutes(options), doctorRoutes(observatory), firewallRoutes(observatory));
  app.use(
    '/v1',
    dnsRoutes({
      dns: options.dns,
      findNetwork: (ref) => observatory.findNetwork(ref),
      sandboxes: () => options.cnm.sandboxes(),
      stopping: options.stopping,
    }),
  );
  const findNetwork = (ref: string) => observatory.findNetwork(ref);
  app.use('/v1', overlayRoutes({ overlay: options.overlay, findNetwork }));
  app.use('/v1', publishedRoutes({ published: options.published, findNetwork }));
  app.use('/v1/networks', networkRoutes(options, standalone, observatory));
  app.use('/v1/endpoints', endpointRoutes(standalone, observatory));
  app.use('/v1/ipam', ipamRoutes(book));
  app.use('/metrics', metricsRoute(options.ipam, options.dns));
  app.use('/v1/sandboxes', sandboxRoutes(standalone, observatory));
  app.use(answerUnknownPath);
  app.use(answerError(options.log));
  return app;
}

function versionRoutes({ version, runDir, cnm }: AdminOptions): express.Router {
  const drivers = cnm.drivers.map((driver) => driver.name);
  const answer: VersionView = { version, node: process.version, runDir, drivers };
  return express.Router().get('/version', (_request, response) => {
    response.json(answer);
  });
}

function doctorRoutes(observatory: Observatory): express.Router {
  return express
    .Router()
    .get('/drift', async (_request, response) => {
      response.json(await observatory.doctor());
    })
    .post('/reconcile', async (_request, response) => {
      response.json(await observatory.fix());
    });
}

function networkRoutes(
  options: AdminOptions,
  standalone: Standalone,
  observatory: Observatory,
): express.Router {
  return express
    .Router()
    .get('/', async (_request, response) => {
      response.json(await observatory.networks());
    })
    .post('/', async (request, response) => {
      const wanted = decodeNetwork(request.body);
      if (request.query['dry-run'] !== undefined) {
        response.json(await dryRun(options, standalone, wanted));
        return;
      }
      const { id } = await standalone.createNetwork(wanted);
      response.status(201).json({ id });
    })
    .get('/:ref', async (request, response) => {
      response.json(await observatory.network(request.params.ref));
    })
    .post('/:ref/check', async (request, response) => {
      const { ask } = decodeCheck(request.body);
      response.json(await observatory.checkNetwork(request.params.ref, ask));
    })
    .delete('/:ref', async (request, response) => {
      const network = await observatory.findNetwork(request.params.ref);
      await standalone.deleteNetwork(network);
      response.json({ id: network.id });
    });
}

async function dryRun(
  { ipam }: AdminOptions,
  standalone: Standalone,
  wanted: NetworkRequest,
): Promise<PlanView> {
  const { name, driver } = wanted;
  const { spec, plan } = await standalone.dryRun(wanted);
  const pools = ipam.pools();
  const subnets = [...spec.ipv4, ...spec.ipv6].map((subnet, index) =>
    subnetView(subnet, spec.pools?.[index], pools),
  );
  return { name, driver, subnets, plan: commands(plan) };
}

function firewallRoutes(observatory: Observatory): express.Router {
  return express
    .Router()
    .get('/ports', async (request, response) => {
      response.json(await observatory.ports(once(request, 'of')));
    })
    .get('/firewall', async (request, response) => {
      response.json(await observatory.firewall(once(request, 'network')));
    })
    .get('/firewall/nft', async (request, response) => {
      response.json({ ruleset: await observatory.ruleset(once(request, 'network')) });
    });
}

/** @throws CnmError `request-invalid` for a query parameter that is there twice. */
function once({ query }: express.Request, name: string): string | undefined {
  const value = query[name];
  if (value === undefined || typeof value === 'string') return value;
  throw new CnmError('request-invalid', `The query parameter "${name}" must be given once`);
}

function endpointRoutes(standalone: Standalone, observatory: Observatory): express.Router {
  return express
    .Router()
    .get('/', async (request, response) => {
      response.json(await observatory.endpoints(once(request, 'network')));
    })
    .get('/:ref', async (request, response) => {
      response.json(await observatory.endpoint(request.params.ref));
    })
    .post('/:ref/publish', async (request, response) => {
      const { ports } = decodePublish(request.body);
      const endpoint = await observatory.findEndpoint(request.params.ref);
      await standalone.publish(endpoint, ports);
      response.json(await observatory.endpoint(endpoint.id));
    })
    .post('/:ref/unpublish', async (request, response) => {
      const endpoint = await observatory.findEndpoint(request.params.ref);
      await standalone.publish(endpoint, []);
      response.json(await observatory.endpoint(endpoint.id));
    });
}

function sandboxRoutes(standalone: Standalone, observatory: Observatory): express.Router {
  return express
    .Router()
    .get('/', async (_request, response) => {
      response.json(await observatory.sandboxes());
    })
    .post('/', async (request, response) => {
      const { id, path } = await standalone.createSandbox(decodeSandbox(request.body));
      response.status(201).json({ id, path });
    })
    .get('/:ref', async (request, response) => {
      response.json(await observatory.sandbox(request.params.ref));
    })
    .delete('/:ref', async (request, response) => {
      const sandbox = observatory.findSandbox(request.params.ref);
      await standalone.deleteSandbox(sandbox);
      response.json({ id: sandbox.id });
    })
    .post('/:ref/join', async (request, response) => {
      const wanted = decodeJoin(request.body);
      const sandbox = observatory.findSandbox(request.params.ref);
      const network = await observatory.findNetwork(wanted.network);
      const { id } = await standalone.join(sandbox, network, wanted);
      response.status(201).json(await observatory.endpoint(id));
    })
    .post('/:ref/leave', async (request, response) => {
      const wanted = decodeLeave(request.body);
      const sandbox = observatory.findSandbox(request.params.ref);
      const network = await observatory.findNetwork(wanted.network);
      await standalone.leave(sandbox, network);
      response.json({ id: sandbox.id });
    });
}
