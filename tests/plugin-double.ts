/**
 * For the tests of plugin-api/: a plugin on a real unix socket, over the real Cnm on the fake kernel and an IPAM in memory,
 * and dockerd's part of the conversation.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Ip } from '../address/ip.ts';
import { ipFromValue, ipValue } from '../address/ip.ts';
import type { Prefix } from '../address/prefix.ts';
import { familyOfPrefix, firstOf, lengthOf, prefix, prefixOf } from '../address/prefix.ts';
import type { Cnm } from '../cnm/cnm.ts';
import type { Driver } from '../cnm/driver.ts';
import { CnmError } from '../cnm/errors.ts';
import { createCnm } from '../cnm/index.ts';
import type { Log } from '../cnm/log.ts';
import { bridge } from '../drivers/bridge/index.ts';
import type { Ipam, PoolRequest } from '../ipam/ipam.ts';
import { fakeKernel } from '../kernel/fake.ts';
import type { FakeKernel } from '../kernel/fake.ts';
import { memoryStore } from '../store/memory.ts';
import { pluginApp } from '../plugin-api/app.ts';
import { listenUnix } from '../plugin-api/listen.ts';

export const NETWORK = 'a1'.repeat(32);
export const ENDPOINT = 'e1'.repeat(32);

/** What `docker network create -d cnm-bridge --subnet 10.1.0.0/24 net` sends. */
export function createNetworkRequest(): object {
  return {
    NetworkID: NETWORK,
    Options: { 'com.docker.network.enable_ipv6': false, 'com.docker.network.generic': {} },
    IPv4Data: [{ AddressSpace: 'LocalDefault', Pool: '10.1.0.0/24', Gateway: '10.1.0.1/24' }],
    IPv6Data: [],
  };
}

/** What `docker run --network net` sends, with nothing published. */
export function createEndpointRequest(): object {
  return {
    NetworkID: NETWORK,
    EndpointID: ENDPOINT,
    Interface: { Address: '10.1.0.2/24', AddressIPv6: '', MacAddress: '' },
    Options: { 'com.docker.network.endpoint.exposedports': [], 'com.docker.network.portmap': [] },
  };
}

export interface Reply {
  readonly status: number;
  readonly text: string;
  /** The parsed body; undefined when it is not JSON. */
  readonly body: unknown;
}

export interface Line {
  readonly level: 'debug' | 'info' | 'warn' | 'error';
  readonly fields: object;
  readonly message: string;
}

export interface TestPlugin {
  readonly socket: string;
  readonly cnm: Cnm;
  readonly kernel: FakeKernel;
  readonly ipam: Ipam;
  readonly lines: Line[];
  readonly lost: string[];
  readonly greetings: () => number;
  /** POST as dockerd does it. A string is sent as it is; undefined sends no body. */
  readonly post: (method: string, body?: unknown, verb?: string) => Promise<Reply>;
  close(): Promise<void>;
}

export interface TestPluginOptions {
  readonly cnm?: Partial<Cnm>;
  readonly driver?: Driver;
  readonly ipam?: Partial<Ipam>;
}

export async function testPlugin(options: TestPluginOptions = {}): Promise<TestPlugin> {
  const folder = await mkdtemp(join(tmpdir(), 'cnm-plugin-'));
  const socket = join(folder, 'cnm-bridge.sock');
  const { log, lines } = recordingLog();
  const kernel = fakeKernel();
  const driver = options.driver ?? bridge;
  const cnm: Cnm = {
    ...createCnm({ kernel, store: memoryStore(), drivers: [driver], log, runDir: folder }),
    ...options.cnm,
  };
  const ipam: Ipam = { ...memoryIpam(), ...options.ipam };
  const lost: string[] = [];
  let greetings = 0;
  const app = pluginApp({
    cnm,
    driver,
    ipam,
    log,
    onLostRequest: (method) => lost.push(method),
    onEngineStart: () => {
      greetings += 1;
    },
  });
  const listening = await listenUnix(app, socket, { mode: 0o600 });
  const agent = new Agent({ keepAlive: true });
  return {
    socket,
    cnm,
    kernel,
    ipam,
    lines,
    lost,
    greetings: () => greetings,
    post: (method, body, verb) => post({ socket, agent }, method, body, verb),
    async close() {
      agent.destroy();
      await listening.close();
      await rm(folder, { recursive: true });
    },
  };
}

function recordingLog(): { log: Log; lines: Line[] } {
  const lines: Line[] = [];
  const at = (level: Line['level']) => (fields: object, message: string) => {
    lines.push({ level, fields, message });
  };
  return { log: { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }, lines };
}

interface Via {
  readonly socket: string;
  readonly agent: Agent;
}

/** The headers are the ones that Go's client and pkg/plugins send; there is no Content-Type among them. */
function post(via: Via, method: string, body?: unknown, verb = 'POST'): Promise<Reply> {
  const text = body === undefined ? '' : typeof body === 'string' ? body : `${JSON.stringify(body)}\n`;
  return new Promise((resolve, reject) => {
    const headers = {
      Host: 'plugin.moby.localhost',
      'User-Agent': 'Go-http-client/1.1',
      Accept: 'application/vnd.docker.plugins.v1.2+json',
      'Content-Length': Buffer.byteLength(text),
    };
    const sent = request(
      { socketPath: via.socket, agent: via.agent, method: verb, path: `/${method}`, headers },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          const answer = Buffer.concat(chunks).toString('utf8');
          resolve({ status: response.statusCode ?? 0, text: answer, body: parsed(answer) });
        });
      },
    );
    sent.on('error', reject);
    sent.end(text);
  });
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** Just enough policy for the protocol: the lowest free address, one pool per prefix, nothing durable. */
export function memoryIpam(): Ipam {
  const pools = new Map<string, { pool: Prefix; taken: Set<Ip> }>();
  const find = (poolId: string): { pool: Prefix; taken: Set<Ip> } => {
    const found = pools.get(poolId);
    if (found === undefined)
      throw new CnmError('pool-unknown', `No pool has the id ${JSON.stringify(poolId)}`);
    return found;
  };
  return {
    localSpace: 'cnm-local',
    globalSpace: 'cnm-global',
    defaultSpace: 'cnm-local',
    requestPool(request: PoolRequest) {
      const pool = request.pool ?? prefix(request.v6 ? 'fd00:1::/64' : '10.200.0.0/24');
      const poolId = `${request.space}/${pool}`;
      if (!pools.has(poolId)) pools.set(poolId, { pool, taken: new Set([firstOf(pool)]) });
      return Promise.resolve({ poolId, pool });
    },
    releasePool(poolId) {
      pools.delete(poolId);
      return Promise.resolve();
    },
    requestAddress(poolId, request) {
      return Promise.resolve().then(() => {
        const { pool, taken } = find(poolId);
        let address = request.address ?? firstOf(pool);
        while (request.address === undefined && taken.has(address)) {
          address = ipFromValue(familyOfPrefix(pool), ipValue(address) + 1n);
        }
        if (taken.has(address)) throw new CnmError('address-taken', `${address} is in use already`);
        taken.add(address);
        return prefixOf(address, lengthOf(pool));
      });
    },
    releaseAddress(poolId, address) {
      pools.get(poolId)?.taken.delete(address);
      return Promise.resolve();
    },
    pools: () => [],
    close: () => Promise.resolve(),
  };
}
