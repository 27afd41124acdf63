/** The daemon's standalone half on a kernel and a store in memory, its admin API on a real unix socket. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Cnm, EngineView } from '../cnm/cnm.ts';
import { createCnm } from '../cnm/index.ts';
import type { Log } from '../cnm/log.ts';
import { createDns, type Dns, type DnsParts } from '../dns/service.ts';
import { bridge } from '../drivers/bridge/index.ts';
import { adminApp } from '../inspect/admin-api.ts';
import { Client } from '../inspect/client.ts';
import { createIpam } from '../ipam/index.ts';
import type { Ipam } from '../ipam/ipam.ts';
import { type FakeKernel, fakeKernel } from '../kernel/fake.ts';
import { memoryStore } from '../store/memory.ts';
import type { Store } from '../store/store.ts';

export interface StandaloneDouble {
  readonly kernel: FakeKernel;
  readonly store: Store;
  readonly cnm: Cnm;
  readonly ipam: Ipam;
  readonly log: Log & { readonly lines: readonly string[] };
  readonly client: Client;
  readonly socket: string;
  /** Any bytes as a body, any path: what no client of ours would send. */
  readonly raw: (
    method: string,
    path: string,
    body?: string,
  ) => Promise<{ readonly status: number; readonly text: string }>;
  close(): Promise<void>;
}

export interface DoubleOptions {
  readonly kernel?: FakeKernel;
  readonly store?: Store;
  readonly engine?: EngineView;
  readonly notices?: readonly string[];
  /** In the place of the real one, made from it. */
  readonly ipam?: (real: Ipam) => Ipam;
  /** With a resolver, which no container asks: the kernel in memory has no sockets. There are no servers to forward to. */
  readonly resolver?: true;
}

export async function standaloneDouble(options: DoubleOptions = {}): Promise<StandaloneDouble> {
  const { kernel = fakeKernel(), store = memoryStore(), engine, notices } = options;
  const log = recordingLog();
  const runDir = '/run/cnm';
  const cnm = createCnm({ kernel, store, drivers: [bridge], log, runDir });
  const real = await createIpam({ store, log });
  const ipam = options.ipam?.(real) ?? real;
  const dir = mkdtempSync(join(tmpdir(), 'cnm-admin-'));
  const dns = options.resolver === true ? resolver({ cnm, ipam, log }, dir) : undefined;
  await dns?.start();
  const app = adminApp({
    cnm,
    ipam,
    kernel,
    log,
    version: '0.0.0-test',
    runDir,
    namespaces: () => cnm.sandboxes().map(({ path }) => path),
    ...(dns && { dns }),
    ...(engine && { engine }),
    ...(notices && { notices }),
  });
  const socket = join(dir, 'cnm.sock');
  const server = createServer(app);
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  return {
    kernel,
    store,
    cnm,
    ipam,
    log,
    socket,
    client: new Client(socket),
    raw: (method, path, body) => exchange(socket, method, path, body),
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await dns?.close();
      rmSync(dir, { recursive: true });
      await cnm.close();
    },
  };
}

function resolver(parts: Pick<DnsParts, 'cnm' | 'ipam' | 'log'>, dir: string): Dns {
  const engine = { follow: () => () => undefined };
  const resolvConf = join(dir, 'resolv.conf');
  const sockets = { bind: () => [], drain: () => undefined };
  return createDns({ ...parts, ...sockets, engine, resolvConf, stale: 0, runDir: dir, listen: [] });
}

function exchange(socketPath: string, method: string, path: string, body: string | undefined) {
  return new Promise<{ status: number; text: string }>((resolve, reject) => {
    // Node sends no length with a GET's or DELETE's body by itself; the bytes would be taken for the next request.
    const headers = body === undefined ? {} : { 'content-length': Buffer.byteLength(body) };
    // A connection of its own: one that is kept may be closed by the server, which has its limits, in the moment in which it is used again.
    const outgoing = request({ socketPath, method, path, headers, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (text += chunk));
      response.on('end', () => {
        resolve({ status: response.statusCode ?? 0, text });
      });
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

function recordingLog(): Log & { readonly lines: string[] } {
  const lines: string[] = [];
  const at = (level: string) => (fields: object, message: string) => {
    lines.push(`${level} ${message} ${JSON.stringify(fields)}`);
  };
  return { lines, debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}
