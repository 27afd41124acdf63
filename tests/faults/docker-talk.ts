/**
 * Docker's part of the conversation about one dual-stack network with one container, call by call, as Engine 20.10 holds
 * it with a network driver and an IPAM driver of ours; and what Docker does when a call fails.
 */
import { createServer, type Server } from 'node:http';
import type { CnmHost } from '../lab/docker-host.ts';
import type { Reply } from '../lab/unix-http.ts';

export const NETWORK = 'a1'.repeat(32);
export const ENDPOINT = 'e1'.repeat(32);
/** The container's network namespace; the test makes it. */
export const CONTAINER = 'c1';
const SANDBOX_KEY = `/run/docker/netns/${CONTAINER}`;
const POOLS = [
  { pool: '10.1.0.0/24', v6: false },
  { pool: 'fd00:1::/64', v6: true },
] as const;

/** `-p 8080:80`: on IPv4 and IPv6. A udp port is in crash-standalone.test.ts. */
const PORTS = [{ Proto: 6, IP: '', Port: 80, HostIP: '', HostPort: 8080, HostPortEnd: 8080 }] as const;

/** What Docker remembers of the answers, by the name of the operation that got them. */
export type Memory = Map<string, Record<string, unknown>>;

export interface Operation {
  readonly name: string;
  readonly socket: 'cnm-bridge' | 'cnm-ipam';
  readonly method: string;
  readonly body: (memory: Memory) => object;
  /** Names of the operations by which Docker cleans up when this one has failed; none: it ignores the failure and goes on. */
  readonly onFailure?: readonly string[];
}

function field(memory: Memory, name: string, key: string): string {
  const value = memory.get(name)?.[key];
  return typeof value === 'string' ? value : '';
}
const bare = (prefix: string): string => prefix.replace(/\/\d+$/, '');
const address = (memory: Memory, name: string): string => bare(field(memory, name, 'Address'));

const endpointKey = { NetworkID: NETWORK, EndpointID: ENDPOINT };
const undoPools = ['release gateway 4', 'release gateway 6', 'release pool 4', 'release pool 6'];
const undoAddresses = ['release address 4', 'release address 6'];

function requestPool(family: 4 | 6, onFailure: readonly string[]): Operation {
  const { pool, v6 } = POOLS[family === 4 ? 0 : 1];
  return {
    name: `request pool ${family}`,
    socket: 'cnm-ipam',
    method: 'IpamDriver.RequestPool',
    body: () => ({ AddressSpace: 'cnm-local', Pool: pool, SubPool: '', Options: {}, V6: v6 }),
    onFailure,
  };
}

function requestAddress(what: 'gateway' | 'address', family: 4 | 6, onFailure: readonly string[]): Operation {
  const options = what === 'gateway' ? { RequestAddressType: 'com.docker.network.gateway' } : null;
  return {
    name: `request ${what} ${family}`,
    socket: 'cnm-ipam',
    method: 'IpamDriver.RequestAddress',
    body: (memory) => ({
      PoolID: field(memory, `request pool ${family}`, 'PoolID'),
      Address: '',
      Options: options,
    }),
    onFailure,
  };
}

function release(what: 'gateway' | 'address', family: 4 | 6): Operation {
  return {
    name: `release ${what} ${family}`,
    socket: 'cnm-ipam',
    method: 'IpamDriver.ReleaseAddress',
    body: (memory) => ({
      PoolID: field(memory, `request pool ${family}`, 'PoolID'),
      Address: address(memory, `request ${what} ${family}`),
    }),
  };
}

function releasePool(family: 4 | 6): Operation {
  return {
    name: `release pool ${family}`,
    socket: 'cnm-ipam',
    method: 'IpamDriver.ReleasePool',
    body: (memory) => ({ PoolID: field(memory, `request pool ${family}`, 'PoolID') }),
  };
}

function network(method: string, more: Partial<Operation> = {}): Operation {
  return {
    name: method,
    socket: 'cnm-bridge',
    method: `NetworkDriver.${method}`,
    body: () => endpointKey,
    ...more,
  };
}

function ipamData(memory: Memory, family: 4 | 6): readonly object[] {
  const Pool = field(memory, `request pool ${family}`, 'Pool');
  return [
    { AddressSpace: 'cnm-local', Pool, Gateway: field(memory, `request gateway ${family}`, 'Address') },
  ];
}

/** From the first call to the last, which leaves nothing. */
export const TALK: readonly Operation[] = [
  requestPool(4, []),
  requestAddress('gateway', 4, ['release pool 4']),
  requestPool(6, ['release gateway 4', 'release pool 4']),
  requestAddress('gateway', 6, ['release pool 6', 'release gateway 4', 'release pool 4']),
  network('CreateNetwork', {
    body: (memory) => ({
      NetworkID: NETWORK,
      Options: { 'com.docker.network.enable_ipv6': true, 'com.docker.network.generic': {} },
      IPv4Data: ipamData(memory, 4),
      IPv6Data: ipamData(memory, 6),
    }),
    onFailure: undoPools,
  }),
  requestAddress('address', 4, []),
  requestAddress('address', 6, ['release address 4']),
  network('CreateEndpoint', {
    body: (memory) => ({
      ...endpointKey,
      Interface: {
        Address: field(memory, 'request address 4', 'Address'),
        AddressIPv6: field(memory, 'request address 6', 'Address'),
        MacAddress: '',
      },
      Options: { 'com.docker.network.endpoint.exposedports': [], 'com.docker.network.portmap': [] },
    }),
    onFailure: undoAddresses,
  }),
  network('Join', {
    body: () => ({ ...endpointKey, SandboxKey: SANDBOX_KEY, Options: {} }),
    onFailure: ['DeleteEndpoint', ...undoAddresses],
  }),
  network('ProgramExternalConnectivity', {
    body: () => ({ ...endpointKey, Options: { 'com.docker.network.portmap': PORTS } }),
    onFailure: ['Leave', 'DeleteEndpoint', ...undoAddresses],
  }),
  network('RevokeExternalConnectivity'),
  network('Leave'),
  network('DeleteEndpoint'),
  release('address', 4),
  release('address', 6),
  release('gateway', 4),
  release('gateway', 6),
  releasePool(4),
  releasePool(6),
  network('DeleteNetwork', { body: () => ({ NetworkID: NETWORK }) }),
];

export function operation(name: string): Operation {
  const found = TALK.find((one) => one.name === name);
  if (found === undefined) throw new Error(`Docker has no operation ${name}`);
  return found;
}

/** Docker, as far as one network and one container of it are concerned. */
export class DockerDouble {
  readonly #host: CnmHost;
  readonly memory: Memory = new Map();
  /** Whether its API answers; it then lists nothing, for it has forgotten all. Until then nobody can know what it forgot. */
  hasForgotten = false;

  constructor(host: CnmHost) {
    this.#host = host;
  }

  /** A whole operation. @throws when the connection breaks. */
  async perform(one: Operation): Promise<Reply> {
    await this.prepare(one);
    const reply = await this.send(one);
    await this.finish(one, reply);
    return reply;
  }

  /** What Docker does before the call. */
  async prepare(one: Operation): Promise<void> {
    if (one.name === 'Leave') await this.#takeBack();
  }

  async send(one: Operation): Promise<Reply> {
    const reply = await this.#host.plugin(one.socket, one.method, one.body(this.memory));
    if (reply.status === 200) this.memory.set(one.name, reply.body as Record<string, unknown>);
    return reply;
  }

  /** What Docker does after it. */
  async finish(one: Operation, reply: Reply): Promise<void> {
    if (one.name === 'Join' && reply.status === 200) await this.#moveIn();
  }

  /** What arrives a second after the connection broke: the buffer had been drained (libnetwork.md §0). */
  emptyRetry(one: Operation): Promise<Reply> {
    return this.#host.plugin(one.socket, one.method);
  }

  /** What Docker does about an operation whose retry was refused. True when it goes on with its next operation. */
  async giveUp(one: Operation): Promise<boolean> {
    for (const name of one.onFailure ?? []) await this.perform(operation(name));
    return one.onFailure === undefined;
  }

  async #moveIn(): Promise<void> {
    const link = this.#sourceName();
    await this.#host.sh(`
      ip link set ${link} netns ${CONTAINER} name eth0
      ip -n ${CONTAINER} address add ${field(this.memory, 'request address 4', 'Address')} dev eth0
      ip -n ${CONTAINER} link set eth0 up`);
  }

  /** dockerd brings the link back under its old name, if it is still there. */
  async #takeBack(): Promise<void> {
    await this.#host.trySh(`
      ip -n ${CONTAINER} link set eth0 down &&
      ip -n ${CONTAINER} link set eth0 name ${this.#sourceName()} &&
      ip -n ${CONTAINER} link set ${this.#sourceName()} netns 1`);
  }

  #sourceName(): string {
    const reply = this.memory.get('Join')?.['InterfaceName'] as { readonly SrcName?: string } | undefined;
    return reply?.SrcName ?? 'none';
  }
}

/** Docker's API socket on the host: what the daemon's reclaimers ask. */
export async function dockerApi(host: CnmHost, docker: DockerDouble): Promise<Server> {
  const server = createServer((request, response) => {
    const isVersion = request.url?.endsWith('/version') === true;
    const answer = JSON.stringify(isVersion ? { ApiVersion: '1.41' } : []);
    response.writeHead(docker.hasForgotten ? 200 : 503).end(answer);
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(host.outside('/run/docker.sock'), () => {
      resolve(server);
    });
  });
}
