/** Which ports of the host a publication gets. Pure. */
import { familyOf, type Ip, isAny } from '../address/ip.ts';
import type { PortHold, TransportProtocol } from '../kernel/step.ts';
import type { PublishRequest } from './driver.ts';
import { CnmError } from './errors.ts';
import type { EndpointRecord, PublishedPort } from './model.ts';

export interface PortRange {
  readonly from: number;
  readonly to: number;
}

/** Where ephemeral ports come from. */
export interface Ephemeral extends PortRange {
  /** Ports inside of the range that the administrator keeps for others (net.ipv4.ip_local_reserved_ports). */
  readonly reserved: readonly PortRange[];
}

/** The kernel's way to write a list of ports: `8080,9148-9160` (Documentation/networking/ip-sysctl.rst). */
export function parsePortList(text: string): readonly PortRange[] {
  return text.split(',').flatMap((part) => {
    const [, from, to = from] = /^\s*(\d+)(?:-(\d+))?\s*$/.exec(part) ?? [];
    return from === undefined ? [] : [{ from: Number(from), to: Number(to) }];
  });
}

const PROTOCOL_NAMES: Readonly<Record<number, string>> = { 6: 'tcp', 17: 'udp', 132: 'sctp' };

export function protocolName(proto: number): string {
  return PROTOCOL_NAMES[proto] ?? `protocol ${proto}`;
}

export interface ContainerPort {
  readonly port: number;
  readonly proto: TransportProtocol;
}

const PORTS_MOST = 65_535;

/** Of texts as Docker writes them, `80/tcp`; what is none is left out. */
export function containerPorts(texts: readonly string[]): readonly ContainerPort[] {
  return texts.flatMap((text) => {
    const [, port, proto] = /^(\d{1,5})\/(tcp|udp|sctp)$/.exec(text) ?? [];
    const number = Number(port ?? 0);
    return number >= 1 && number <= PORTS_MOST ? [{ port: number, proto: proto as TransportProtocol }] : [];
  });
}

/** Who has a port: an endpoint of ours, or what `words` say. */
export interface Holder {
  readonly words: string;
  readonly endpoint?: EndpointRecord;
}

/** `port-taken`, with the holder as data: an endpoint can be looked at more closely. */
export class PortTaken extends CnmError {
  readonly #where: string;
  readonly holder: Holder | undefined;

  /** @param where `8080/tcp on 0.0.0.0`; no holder: every port to choose from is reserved. */
  constructor(where: string, holder: Holder | undefined) {
    const who = holder === undefined ? 'all are reserved' : `${holder.words} holds it`;
    super('port-taken', `Port ${where} is not free: ${who}`);
    this.#where = where;
    this.holder = holder;
  }

  /** The same in words that people know. */
  ofContainer(name: string): PortTaken {
    return new PortTaken(this.#where, { words: `container ${name} (${this.holder?.words ?? ''})` });
  }
}

/**
 * Ports that are taken, by protocol and number. An address takes itself; 0.0.0.0 and :: take their whole family.
 */
export class TakenPorts {
  readonly #holders = new Map<string, { readonly hostIp: Ip; readonly holder: Holder }[]>();

  add(proto: number, hostIp: Ip, port: number, holder: Holder): void {
    const key = `${proto} ${port}`;
    const there = this.#holders.get(key);
    if (there === undefined) this.#holders.set(key, [{ hostIp, holder }]);
    else there.push({ hostIp, holder });
  }

  /** Who holds it; undefined = free. */
  holder(proto: number, hostIp: Ip, port: number): Holder | undefined {
    return this.#holders.get(`${proto} ${port}`)?.find((taken) => collide(taken.hostIp, hostIp))?.holder;
  }
}

/** What all other endpoints have published. */
export function takenBy(endpoints: readonly EndpointRecord[]): TakenPorts {
  const taken = new TakenPorts();
  for (const endpoint of endpoints) {
    const holder = { words: `endpoint ${endpoint.name ?? endpoint.id.slice(0, 12)}`, endpoint };
    for (const { proto, hostIp, hostPort } of endpoint.external?.published ?? []) {
      if (hostIp !== undefined && hostPort !== undefined) taken.add(proto, hostIp, hostPort, holder);
    }
  }
  return taken;
}

const ITSELF: Holder = { words: 'another port of the same container' };

/**
 * Chooses a port for every request; what one request gets is taken for the next. Fixed ports first, so that an ephemeral one
 * never sits on a number that another binding of the same container insists on.
 * @param start where the search for an ephemeral port begins, so that a port that was just given up is not the next one given.
 * @throws PortTaken, naming address, port and holder.
 */
export function choosePorts(
  requests: readonly PublishRequest[],
  taken: TakenPorts,
  ephemeral: Ephemeral,
  start: number,
): readonly PublishedPort[] {
  const ordered = [...requests].sort((a, b) => freedom(a) - freedom(b));
  return ordered.flatMap((request) => {
    const { proto, port, targets } = request;
    const onHost = targets.flatMap(({ hostIp }) => (hostIp === undefined ? [] : [hostIp]));
    if (onHost.length === 0) return targets.map((target) => ({ proto, port, ...target }));
    const hostPort = firstFree(request, onHost, taken, ephemeral, start);
    for (const hostIp of onHost) taken.add(proto, hostIp, hostPort, ITSELF);
    return targets.map((target) => ({ proto, port, ...target, ...(target.hostIp && { hostPort }) }));
  });
}

/** A hold of several ports as holds of one each: it is one of them that somebody else has. */
export function singly(hold: PortHold): readonly PortHold[] {
  const { portEnd = hold.port, ...one } = hold;
  return Array.from({ length: portEnd - hold.port + 1 }, (_, n) => ({ ...one, port: hold.port + n }));
}

function firstFree(
  request: PublishRequest,
  onHost: readonly Ip[],
  taken: TakenPorts,
  ephemeral: Ephemeral,
  start: number,
): number {
  let holder: Holder | undefined;
  for (const candidate of candidates(request, ephemeral, start)) {
    const held = onHost
      .map((hostIp) => taken.holder(request.proto, hostIp, candidate))
      .find((one) => one !== undefined);
    if (held === undefined) return candidate;
    holder = held;
  }
  const { proto, from, to } = request;
  const numbers =
    from === 0 ? `${ephemeral.from}-${ephemeral.to}` : from === to ? String(from) : `${from}-${to}`;
  throw new PortTaken(`${numbers}/${protocolName(proto)} on ${onHost.join(' and ')}`, holder);
}

function* candidates({ from, to }: PublishRequest, ephemeral: Ephemeral, start: number): Generator<number> {
  const range = from === 0 ? ephemeral : { from, to };
  const size = range.to - range.from + 1;
  const first = from === 0 && start > range.from && start <= range.to ? start - range.from : 0;
  for (let n = 0; n < size; n += 1) {
    const candidate = range.from + ((first + n) % size);
    // Reserved is what nobody named: a port that the user asks for by number is the user's.
    if (from !== 0 || !ephemeral.reserved.some((kept) => isWithin(kept, candidate))) yield candidate;
  }
}

function isWithin({ from, to }: PortRange, port: number): boolean {
  return port >= from && port <= to;
}

/** How many numbers a request can choose from. */
function freedom({ from, to }: PublishRequest): number {
  return from === 0 ? Infinity : to - from + 1;
}

function collide(a: Ip, b: Ip): boolean {
  return a === b || (familyOf(a) === familyOf(b) && (isAny(a) || isAny(b)));
}
