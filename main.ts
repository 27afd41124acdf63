#!/usr/bin/env node
/** `cnmd`: builds everything from its configuration, starts it, and stops it. The only file that knows all folders. */
import { realpathSync } from 'node:fs';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import type { Cnm, EngineView } from './cnm/cnm.ts';
import type { Driver } from './cnm/driver.ts';
import { createCnm } from './cnm/index.ts';
import type { Log } from './cnm/log.ts';
import { claimNetworkNamespace } from './daemon/claim.ts';
import { joinCluster } from './daemon/cluster.ts';
import { type Configuration, ConfigurationError, parseConfiguration } from './daemon/configuration.ts';
import { openControl } from './daemon/control.ts';
import { createDhcp, type Dhcp, openLeases } from './daemon/dhcp.ts';
import { openIpam } from './daemon/ipam.ts';
import { textLine } from './daemon/log-format.ts';
import { namespacesOf } from './daemon/namespaces.ts';
import { otherHosts } from './daemon/other-hosts.ts';
import { type Overlay, overlayService } from './daemon/overlay.ts';
import { openKeys } from './daemon/keys.ts';
import { createOverlayCheck } from './daemon/overlay-check/index.ts';
import { type Daemon, type ProcessLog, runUntilSignal } from './daemon/process.ts';
import { PublishedNetworks } from './daemon/published.ts';
import { whenReady } from './daemon/readiness.ts';
import { usage } from './daemon/settings.ts';
import { noticeText, start } from './daemon/start.ts';
import { createUpkeep, type Pace, type Upkeep } from './daemon/upkeep.ts';
import { drivers as allDrivers } from './drivers/index.ts';
import type { CheckReport } from './drivers/overlay/check/report.ts';
import { createDns, type Dns } from './dns/service.ts';
import { adminApp } from './inspect/admin-api.ts';
import { ownVersion } from './inspect/cli/own-version.ts';
import { standaloneDoor } from './inspect/published.ts';
import { reclaimLeases, Standalone } from './inspect/standalone.ts';
import { hostId } from './ipam/cluster/identity.ts';
import type { Ipam } from './ipam/ipam.ts';
import { type Kernel, KernelError } from './kernel/kernel.ts';
import { openKernel } from './kernel/linux.ts';
import { pluginApp } from './plugin-api/app.ts';
import { engineClient } from './plugin-api/engine-client.ts';
import { engineNames } from './plugin-api/engine-names.ts';
import { engineDoor } from './plugin-api/engine-networks.ts';
import { listenUnix } from './plugin-api/listen.ts';
import { openStore } from './store/sqlite.ts';
import type { Store } from './store/store.ts';

/** What tests put in the place of the machine. */
export interface Overrides {
  readonly kernel?: Kernel;
  readonly store?: Store;
  readonly engine?: EngineView;
  readonly pace?: Partial<Pace>;
}

/** How long a request may wait for the start. dockerd gives a managed plugin 30 s for an answer. */
const READY_BOUND_MS = 25_000;
/** For requests under way when we are told to stop. Docker kills a plugin 10 s after the signal. */
const DRAIN_MS = 6_000;

/** Beside this file, in whichever form it is. */
const VTEP_WORKER = new URL(`vtep-worker${extname(import.meta.filename)}`, import.meta.url);

/** Given back in the opposite order, at the end or when a later part cannot be had. */
type Held = (() => Promise<void>)[];

/**
 * Locks the state, listens, and starts to compare records and kernel. When it rejects, nothing has been touched: not the
 * kernel, and no socket that another daemon answers on.
 */
export async function compose(
  configuration: Configuration,
  log: Log,
  overrides: Overrides = {},
): Promise<Daemon> {
  const held: Held = [];
  const release = async () => {
    for (const one of held.splice(0).reverse()) await one();
  };
  try {
    const parts = await assemble(configuration, log, overrides, held);
    const started: PromiseWithResolvers<void> = Promise.withResolvers();
    // Whoever awaits `ready` hears of a failure; this keeps Node from calling it unhandled until somebody does.
    started.promise.catch(() => undefined);
    await listen(configuration, parts, started.promise, held);
    const { cnm, ipam } = parts;
    const leases = () => reclaimLeases({ cnm, ipam, log });
    const starting = start({ ...parts, version: ownVersion(), reclaimLeases: leases });
    held.push(() => starting.catch(() => undefined));
    started.resolve(starting);
    return { ready: started.promise, close: release };
  } catch (error) {
    await release();
    throw error;
  }
}

interface Parts {
  readonly log: Log;
  readonly store: Store;
  readonly kernel: Kernel;
  readonly cnm: Cnm;
  readonly ipam: Ipam;
  readonly engine: EngineView;
  readonly upkeep: Upkeep;
  readonly dns: Dns;
  readonly overlay: Overlay<CheckReport>;
  readonly dhcp: Dhcp;
  readonly standalone: Standalone;
  readonly published: PublishedNetworks | undefined;
}

/** Reads the records. Touches nothing in the kernel. */
async function assemble(
  configuration: Configuration,
  log: Log,
  overrides: Overrides,
  held: Held,
): Promise<Parts> {
  const { form, stateDir, runDir, dockerSocket, drivers, resolvConf, advertise, scope } = configuration;
  const store = overrides.store ?? (await openStore(stateDir));
  held.push(() => store.close());
  if (overrides.kernel === undefined) {
    const claim = await claimNetworkNamespace();
    held.push(() => claim.release());
  }
  const kernel =
    overrides.kernel ??
    (await openKernel({
      netnsDir: join(runDir, 'netns'),
      ownMounts: form === 'managed',
      log,
      vtepWorker: VTEP_WORKER,
    }));
  held.push(() => kernel.close());
  const served = allDrivers
    .filter((driver) => drivers.includes(shortName(driver)))
    .map((driver) => ({ ...driver, scope: driver.allocate === undefined ? driver.scope : scope }));
  const engine = overrides.engine ?? engineClient({ socket: dockerSocket, log });
  const host = advertise === undefined ? {} : { advertise };
  const leases = openLeases(store, kernel, log);
  const membership = await joinCluster(configuration);
  if (membership !== undefined) held.push(() => membership.store.close());
  const keys = await openKeys(configuration, { store, membership, log });
  const encryption = () => keys?.current();
  // Written down when it is first asked for; a state without any records is to be known as one.
  const id = membership === undefined ? '' : await hostId(store);
  const control =
    membership &&
    openControl({
      ...{ store: membership.store, records: store, log, kernel, cnm: () => cnm, ipam: () => ipam },
      host: { id, name: membership.name, boot: membership.boot },
      pace: { ttl: configuration.clusterLease },
    });
  if (control !== undefined) held.push(() => control.close());
  const cnm = createCnm({
    ...{ kernel, store, drivers: served, log, runDir, engine, leases, control, encryption, ...host },
  });
  held.push(() => cnm.close());
  control?.start();
  const pace = overrides.pace ?? {};
  const { ipam, leases: reclaimer } = await openIpam(configuration, {
    store,
    kernel,
    cnm,
    log,
    pace,
    membership,
  });
  held.push(() => ipam.close());
  const bind = kernel.bindSockets.bind(kernel);
  const drain = kernel.drainDatagrams.bind(kernel);
  const names = engineNames({ socket: dockerSocket, log });
  const { dnsListen: listen, dnsServeStale: stale } = configuration;
  const others = otherHosts(cnm);
  const dns = createDns({
    ...{ cnm, ipam, engine: names, others, bind, drain, log, resolvConf, stale, runDir, listen },
  });
  held.push(() => dns.close());
  const settings = { netnsDir: join(runDir, 'netns'), ...host };
  const overlay = overlayService({
    ...{ cnm, kernel, log, keys },
    checks: createOverlayCheck({ cnm, kernel, log, host: settings, encryption }),
  });
  held.push(() => overlay.close());
  const dhcp = createDhcp({ leases, cnm, engine: names, log });
  held.push(() => dhcp.close());
  const standalone = new Standalone({ cnm, ipam, log });
  const published = publishedNetworks(configuration, { membership, control, id, log, cnm, ipam, standalone });
  if (published !== undefined) held.push(() => published.close());
  const upkeep = createUpkeep({ cnm, kernel, engine, log, leases: reclaimer, pace });
  held.push(() => upkeep.stop());
  return { log, store, kernel, cnm, ipam, engine, upkeep, dns, dhcp, overlay, standalone, published };
}

function publishedNetworks(
  { dockerSocket, form }: Configuration,
  {
    membership,
    control,
    id,
    standalone,
    ...parts
  }: Pick<Parts, 'log' | 'cnm' | 'ipam' | 'standalone'> & {
    readonly membership: Awaited<ReturnType<typeof joinCluster>>;
    readonly control: ReturnType<typeof openControl> | undefined;
    readonly id: string;
  },
): PublishedNetworks | undefined {
  if (membership === undefined || control === undefined) return undefined;
  return new PublishedNetworks({
    ...parts,
    ...{ store: membership.store, plane: control, host: { id, name: membership.name } },
    engine: engineDoor({ socket: dockerSocket, log: parts.log, runsUs: form === 'managed' }),
    standalone: standaloneDoor(standalone, parts.ipam),
  });
}

/**
 * At once, whatever there is to be put right first: Docker kills a plugin whose socket is late. Requests wait for `ready`.
 * A service has a socket for each driver and one for IPAM; a managed plugin one for both.
 */
async function listen(
  configuration: Configuration,
  { cnm, ipam, kernel, engine, log, store, upkeep, dns, dhcp, overlay, standalone, published }: Parts,
  ready: Promise<void>,
  held: Held,
): Promise<void> {
  const { form, pluginDir, adminSocket, runDir } = configuration;
  const suspectLoss = () => {
    upkeep.suspectLoss();
  };
  const edge = { cnm, log, onLostRequest: suspectLoss, onEngineStart: suspectLoss };
  const [driver] = cnm.drivers;
  const plugins =
    form === 'managed' && driver !== undefined
      ? [{ name: 'cnm', app: pluginApp({ ...edge, driver, ipam }) }]
      : [
          ...cnm.drivers.map((one) => ({ name: one.name, app: pluginApp({ ...edge, driver: one }) })),
          { name: 'cnm-ipam', app: pluginApp({ ...edge, ipam }) },
        ];
  const stopping = new AbortController();
  const admin = adminApp({
    ...{ cnm, ipam, kernel, engine, log, runDir, dns, overlay, standalone },
    ...(published !== undefined && { published }),
    lease: (network, endpoint) => dhcp.lease(network, endpoint),
    version: ownVersion(),
    namespaces: () => namespacesOf(configuration),
    notices: store.notices.map(noticeText),
    stopping: stopping.signal,
  });
  const sockets = [
    { app: admin, path: adminSocket },
    ...plugins.map(({ name, app }) => ({ app, path: join(pluginDir, `${name}.sock`) })),
  ];
  for (const { app, path } of sockets) {
    const socket = await listenUnix(whenReady(app, ready, READY_BOUND_MS), path, {
      mode: 0o600,
      drain: DRAIN_MS,
    });
    held.push(() => socket.close());
    log.debug({ path }, 'listening');
  }
  held.push(() => {
    stopping.abort();
    return Promise.resolve();
  });
}

/** `bridge`, as in --drivers, for the driver that Docker knows as `cnm-bridge`. */
function shortName({ name }: Driver): string {
  return name.replace(/^cnm-/, '');
}

function openLog({ logLevel, logFormat }: Configuration): ProcessLog {
  // Synchronous, so that the last words of a process that dies are not lost in a buffer.
  const output = pino.destination({ sync: true });
  const write = (line: string) => output.write(logFormat === 'json' ? line : textLine(line));
  return pino({ level: logLevel, base: null, timestamp: pino.stdTimeFunctions.isoTime }, { write });
}

function advice(error: unknown): string {
  const denied = error instanceof KernelError && error.errno === 'EPERM';
  return denied ? '. cnmd needs CAP_NET_ADMIN and CAP_SYS_ADMIN: run it as root' : '';
}

async function main(argv: readonly string[]): Promise<void> {
  const available = allDrivers.map(shortName);
  try {
    const request = parseConfiguration(argv, process.env, available);
    if (request.do === 'run') {
      const { configuration } = request;
      const log = openLog(configuration);
      await runUntilSignal(log, () => compose(configuration, log));
    } else process.stdout.write(request.do === 'help' ? usage(available) : `cnmd ${ownVersion()}\n`);
  } catch (error) {
    process.stderr.write(`cnmd: ${error instanceof Error ? error.message : String(error)}${advice(error)}\n`);
    process.exit(error instanceof ConfigurationError ? 2 : 1);
  }
}

/** Started as a program (npm links `cnmd` to this file), and not imported by a test. */
const program = process.argv[1];
if (program !== undefined && realpathSync(program) === fileURLToPath(import.meta.url)) {
  await main(process.argv.slice(2));
}
