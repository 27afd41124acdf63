/** The places where the resolver is to be asked, opened and closed as sandboxes and networks come and go. */
import { statSync } from 'node:fs';
import { GATEWAY_DNS_PORT } from '../address/dns-port.ts';
import { type Ip, familyOf, ip, parseIp } from '../address/ip.ts';
import { addressOf } from '../address/prefix.ts';
import type { Cnm } from '../cnm/cnm.ts';
import { DNS_OPTION, dnsPlace } from '../cnm/dns-options.ts';
import { messageOf } from '../cnm/errors.ts';
import type { Log } from '../cnm/log.ts';
import type { NetworkRecord } from '../cnm/model.ts';
import type { Door, Resolver } from './resolver.ts';
import { type Drain, serveTcp, serveUdp, type Serving } from './server.ts';
import type { Zone } from './zone.ts';

/** As Kernel.bindSockets: sockets of another namespace, as descriptors. */
export type Bind = (
  sockets: readonly { readonly proto: 'tcp' | 'udp'; readonly address: Ip; readonly port: number }[],
  netns?: string,
) => readonly number[];

/** Where a sandbox of ours finds its resolver: the address that Docker's has, which containers' images may know. */
export const SANDBOX_ADDRESS = ip('127.0.0.11');
/** In Docker's sandboxes, where Docker's own has that one. */
export const DOCKER_ADDRESS = ip('127.0.0.12');
export const PORT = 53;

interface DoorSpec {
  readonly key: string;
  readonly address: Ip;
  readonly port: number;
  readonly netns?: string;
  readonly door: Door;
}

export interface DoorView {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  /** Why it is not open. */
  readonly error?: string;
}

interface Held {
  readonly spec: DoorSpec;
  readonly serving: readonly Serving[];
  readonly error?: string;
}

export interface DoorsParts {
  readonly cnm: Cnm;
  readonly zone: Zone;
  readonly resolver: Resolver;
  readonly bind: Bind;
  readonly drain: Drain;
  readonly log: Log;
  /** What `--dns-listen` asks for. */
  readonly listen: readonly { readonly address: Ip; readonly port: number }[];
}

/**
 * Milliseconds until a door that could not be opened is tried again, at first and at last. Docker tells of a container's sandbox a moment before
 * it is there.
 */
const AGAIN_FIRST = 50;
const AGAIN_LAST = 5_000;

export class Doors {
  readonly #parts: DoorsParts;
  readonly #held = new Map<string, Held>();
  #working: Promise<void> = Promise.resolve();
  #due = false;
  #again: NodeJS.Timeout | undefined;
  #patience = AGAIN_FIRST;
  #closed = false;

  constructor(parts: DoorsParts) {
    this.#parts = parts;
  }

  /** Soon, and once for many calls; resolves when all doors are as they should be, or cannot be. */
  sync(): Promise<void> {
    if (!this.#due) {
      this.#due = true;
      this.#working = this.#working.then(() => this.#sync());
    }
    return this.#working;
  }

  views(): readonly DoorView[] {
    return [...this.#held.values()].map(({ spec, error }) => ({
      name: spec.door.name,
      address: spec.address,
      port: spec.port === GATEWAY_DNS_PORT ? PORT : spec.port,
      ...(error !== undefined && { error }),
    }));
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#again);
    await this.#working;
    await Promise.all([...this.#held.keys()].map((key) => this.#shut(key)));
  }

  async #sync(): Promise<void> {
    this.#due = false;
    if (this.#closed) return;
    const wanted = new Map(this.#wanted().map((spec) => [spec.key, spec]));
    for (const key of [...this.#held.keys()]) if (!wanted.has(key)) await this.#shut(key);
    for (const spec of wanted.values()) {
      const held = this.#held.get(spec.key);
      if (held === undefined) this.#patience = AGAIN_FIRST;
      if (held === undefined || held.error !== undefined) await this.#open(spec, held?.error);
    }
    clearTimeout(this.#again);
    if (![...this.#held.values()].some(({ error }) => error !== undefined)) return;
    this.#again = setTimeout(() => void this.sync(), this.#patience);
    this.#patience = Math.min(AGAIN_LAST, this.#patience * 2);
  }

  async #shut(key: string): Promise<void> {
    const held = this.#held.get(key);
    this.#held.delete(key);
    await Promise.all((held?.serving ?? []).map((one) => one.close()));
  }

  async #open(spec: DoorSpec, former: string | undefined): Promise<void> {
    const { address, port, netns, door } = spec;
    const serving: Serving[] = [];
    try {
      const sockets = (['udp', 'tcp'] as const).map((proto) => ({ proto, address, port }));
      const [udp, tcp] = this.#parts.bind(sockets, netns);
      // A kernel of tests, which has no sockets.
      if (udp === undefined || tcp === undefined) return;
      const { resolver, drain } = this.#parts;
      serving.push(await serveUdp({ fd: udp }, familyOf(address), door, resolver, drain));
      serving.push(await serveTcp({ fd: tcp }, door, resolver));
      this.#held.set(spec.key, { spec, serving });
      if (former !== undefined) this.#parts.log.info({ dns: door.name }, 'the resolver is there now');
    } catch (error) {
      await Promise.all(serving.map((one) => one.close()));
      const message = messageOf(error);
      this.#held.set(spec.key, { spec, serving: [], error: message });
      if (message === former) return;
      const fields = { dns: door.name, error: message };
      // A sandbox that has gone, and whose record is about to go.
      if (error instanceof Error && 'errno' in error && error.errno === 'ENOENT')
        this.#parts.log.debug(fields, 'the sandbox of a resolver is gone');
      else this.#parts.log.warn(fields, 'the resolver cannot be asked there; tried again');
    }
  }

  #wanted(): readonly DoorSpec[] {
    const { cnm } = this.#parts;
    const networks = cnm.networks().filter(({ state }) => state === 'ready');
    return [
      ...cnm
        .sandboxes()
        .filter(({ state }) => state === 'ready')
        .map(({ id, name, path }) => this.#inSandbox(`sandbox ${name}`, id, path, SANDBOX_ADDRESS)),
      ...networks.flatMap((network) => this.#atGateway(network)),
      ...this.#inContainers(networks),
      ...this.#onHost(),
    ];
  }

  #inSandbox(name: string, owner: string, netns: string, address: Ip): DoorSpec {
    const { zone } = this.#parts;
    const door = { name, view: () => zone.viewOf(owner), owner: () => owner };
    return { key: `${netns} ${address}`, address, port: PORT, netns, door };
  }

  #atGateway(network: NetworkRecord): readonly DoorSpec[] {
    const { zone } = this.#parts;
    const title = () => zone.network(network.id)?.network.name ?? network.id.slice(0, 12);
    const door: Door = {
      get name() {
        return `gateway of ${title()}`;
      },
      view: (client) =>
        zone.viewFrom(network.id, parseIp(client.includes('%') ? client.replace(/%.*$/, '') : client)),
      owner: (client) => client,
    };
    return gatewaysOf(network).map((gateway) => ({
      key: `${network.id} ${gateway.address} ${identityOf(gateway.netns)}`,
      ...gateway,
      door,
    }));
  }

  #inContainers(networks: readonly NetworkRecord[]): readonly DoorSpec[] {
    const { cnm } = this.#parts;
    const asked = networks.filter(({ options }) => options[DNS_OPTION] === 'on');
    const keys = asked.flatMap(({ id }) =>
      cnm
        .endpoints(id)
        .flatMap(({ attachment }) =>
          attachment?.kind === 'docker' && attachment.state === 'ready' ? [attachment.key] : [],
        ),
    );
    return [...new Set(keys)].map((key) =>
      this.#inSandbox(`container ${key.split('/').at(-1) ?? key}`, key, key, DOCKER_ADDRESS),
    );
  }

  #onHost(): readonly DoorSpec[] {
    const { zone, listen } = this.#parts;
    const door = { name: 'host', view: () => zone.hostView(), owner: (client: string) => client };
    return listen.map(({ address, port }) => ({ key: `host ${address}#${port}`, address, port, door }));
  }
}

export interface GatewayDoor {
  readonly address: Ip;
  readonly port: number;
  /** Absent: the host's. */
  readonly netns?: string;
}

/**
 * Where a network's own resolver listens: on the host, at those gateways that the plan leads there (an inhibited or isolated one is not on
 * the bridge); or at the gateways in the network's own namespace, where port 53 is nobody else's.
 */
export function gatewaysOf({ plan, presence, options, ipv4, ipv6 }: NetworkRecord): readonly GatewayDoor[] {
  const led = new Set(
    plan.flatMap((step) => (step.do === 'nft.element' && /^dns[46]$/.test(step.set) ? [step.key[1]] : [])),
  );
  const onHost = [...ipv4, ...ipv6].flatMap(({ gateway }) => {
    const address = gateway === undefined ? undefined : addressOf(gateway);
    return address !== undefined && led.has(address) ? [{ address, port: GATEWAY_DNS_PORT }] : [];
  });
  if (dnsPlace(options) === 'off') return onHost;
  const inside = (presence ?? []).flatMap((step) =>
    step.do === 'addr.add' && step.netns !== undefined && !step.prefix.startsWith('fe80:')
      ? [{ address: addressOf(step.prefix), port: PORT, netns: step.netns }]
      : [],
  );
  return [...onHost, ...inside];
}

/** A namespace that is made anew has the path of the former one. Whoever holds a socket in that keeps its number from being given again. */
function identityOf(netns: string | undefined): string {
  return netns === undefined ? '' : `${netns} ${statSync(netns, { throwIfNoEntry: false })?.ino ?? 0}`;
}
