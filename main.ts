#!/usr/bin/env node
/** `cnmd`: builds everything from its configuration, starts it, and stops it. The only file that knows all folders. */
import { existsSync, readFileSync, readdirSync, realpathSync } from 'node:fs';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import type { Cnm, EngineNetwork, EngineView } from './cnm/cnm.ts';
import type { Driver } from './cnm/driver.ts';
import { createCnm } from './cnm/index.ts';
import type { Log } from './cnm/log.ts';
import { claimNetworkNamespace } from './daemon/claim.ts';
import { type Configuration, ConfigurationError, parseConfiguration, usage } from './daemon/configuration.ts';
import { hostPrefixes } from './daemon/host-prefixes.ts';
import { liveAddresses } from './daemon/live-addresses.ts';
import { textLine } from './daemon/log-format.ts';
import { type Daemon, type ProcessLog, runUntilSignal } from './daemon/process.ts';
import { whenReady } from './daemon/readiness.ts';
import { createUpkeep, logReport, type Pace, type Upkeep } from './daemon/upkeep.ts';
import { drivers as allDrivers } from './drivers/index.ts';
import { adminApp } from './inspect/admin-api.ts';
import { reclaimLeases } from './inspect/standalone.ts';
import { createIpam } from './ipam/index.ts';
import type { Ipam } from './ipam/ipam.ts';
import { createLeaseReclaimer } from './ipam/reclaim.ts';
import { createStrangers } from './ipam/strangers.ts';
import { type Kernel, KernelError } from './kernel/kernel.ts';
import { openKernel } from './kernel/linux.ts';
import { pluginApp } from './plugin-api/app.ts';
import { engineClient } from './plugin-api/engine-client.ts';
import { listenUnix } from './plugin-api/listen.ts';
import { openStore } from './store/sqlite.ts';
import type { Store, StoreNotice } from './store/store.ts';

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
    const starting = start(parts);
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
}

/** Reads the records. Touches nothing in the kernel. */
async function assemble(
  configuration: Configuration,
  log: Log,
  overrides: Overrides,
  held: Held,
): Promise<Parts> {
  const { form, stateDir, runDir, dockerSocket, drivers, advertise } = configuration;
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
  const served = allDrivers.filter((driver) => drivers.includes(shortName(driver)));
  const engine = overrides.engine ?? engineClient({ socket: dockerSocket, log });
  const host = advertise === undefined ? {} : { advertise };
  const cnm = createCnm({ kernel, store, drivers: served, log, runDir, engine, ...host });
  held.push(() => cnm.close());
  const pace = overrides.pace ?? {};
  const { ipam, leases } = await openIpam(configuration, { store, kernel, cnm, log, pace });
  const upkeep = createUpkeep({ cnm, kernel, engine, log, leases, pace });
  held.push(() => upkeep.stop());
  return { log, store, kernel, cnm, ipam, engine, upkeep };
}

/** The IPAM, and the comparison of what it has given with what Docker and the kernel say is there. */
async function openIpam(
  configuration: Configuration,
  {
    store,
    kernel,
    cnm,
    log,
    pace,
  }: Pick<Parts, 'store' | 'kernel' | 'cnm' | 'log'> & { readonly pace: Partial<Pace> },
) {
  const { defaultPools, addressRest } = configuration;
  const strangers = createStrangers(() => ipam);
  const hostPools = async () => [
    ...hostPrefixes(await kernel.facts({ firewall: false }), resolvConf()),
    ...strangers.prefixes(),
  ];
  const ipam = await createIpam({ store, log, hostPrefixes: hostPools, defaultPools, rest: addressRest });
  const live = async () => {
    const netns = namespacesOf(configuration);
    return liveAddresses(await kernel.facts({ firewall: false, netns }));
  };
  const age = pace.leaseAge === undefined ? {} : { age: pace.leaseAge };
  const reclaimer = createLeaseReclaimer({ cnm, ipam, log, live, ...age });
  const look = (listed: readonly EngineNetwork[]) => {
    strangers.look(listed);
    return reclaimer.look(listed);
  };
  return { ipam, leases: { look } };
}

/** Of containers, in dockerd's exec-root beside its socket, and of our own sandboxes. */
function namespacesOf({ dockerSocket, runDir }: Configuration): readonly string[] {
  return [join(dirname(dockerSocket), 'docker/netns'), join(runDir, 'netns')].flatMap(filesIn);
}

/** None when there is no such folder. */
function filesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder).map((name) => join(folder, name));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/**
 * At once, whatever there is to be put right first: Docker kills a plugin whose socket is late. Requests wait for `ready`.
 * A service has a socket for each driver and one for IPAM; a managed plugin one for both.
 */
async function listen(
  configuration: Configuration,
  { cnm, ipam, kernel, engine, log, store, upkeep }: Parts,
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
  const notices = store.notices.map(noticeText);
  const namespaces = () => namespacesOf(configuration);
  const admin = adminApp({ cnm, ipam, kernel, engine, log, version: version(), runDir, namespaces, notices });
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
}

/** Brings records and kernel to agree: what a crash cut off is undone or finished, what is missing is put back. */
async function start({ kernel, cnm, ipam, log, store, upkeep }: Parts): Promise<void> {
  const began = performance.now();
  for (const notice of store.notices) log.warn(notice, noticeText(notice));
  await kernel.prepare();
  const removeOrphans = isComplete(store);
  logReport(log, await cnm.reconcile({ removeOrphans, forwarding: false }));
  if (!removeOrphans) await tellOfOrphans(cnm, log);
  await reclaimLeases({ cnm, ipam, log });
  upkeep.start();
  const counts = { networks: cnm.networks().length, endpoints: cnm.endpoints().length };
  log.info({ version: version(), ...counts, ms: Math.round(performance.now() - began) }, 'ready');
}

/**
 * Whether what no record tells of can be taken for an orphan. It may well be a running container's when a damaged file was
 * set aside, or when there are no records at all: the state directory is then a wrong one, or that of the other form.
 */
function isComplete(store: Store): boolean {
  return !store.notices.some((notice) => notice.kind === 'damaged') && store.list('').length > 0;
}

async function tellOfOrphans(cnm: Cnm, log: Log): Promise<void> {
  const { orphans } = await cnm.drift();
  if (orphans.length === 0) return;
  const advice =
    'kept: no record tells of it, but records may be lost. See cnm doctor; cnm doctor --fix removes it';
  log.warn({ orphans: orphans.length }, advice);
}

function noticeText(notice: StoreNotice): string {
  if (notice.kind === 'damaged') return notice.message;
  return `The records were brought from schema ${notice.from} to ${notice.to}`;
}

/** `bridge`, as in --drivers, for the driver that Docker knows as `cnm-bridge`. */
function shortName({ name }: Driver): string {
  return name.replace(/^cnm-/, '');
}

function resolvConf(): string {
  try {
    return readFileSync('/etc/resolv.conf', 'utf8');
  } catch {
    return '';
  }
}

/** From package.json, which lies beside this file, or above it where it was compiled into dist/. */
function version(): string {
  const here = import.meta.dirname;
  const path = [here, dirname(here)].map((folder) => join(folder, 'package.json')).find(existsSync);
  const manifest: unknown = path === undefined ? {} : JSON.parse(readFileSync(path, 'utf8'));
  return typeof manifest === 'object' && manifest !== null && 'version' in manifest
    ? String(manifest.version)
    : 'unknown';
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
    } else process.stdout.write(request.do === 'help' ? usage(available) : `cnmd ${version()}\n`);
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
