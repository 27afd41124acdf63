/** How ports are published: which addresses of the host a binding takes, and the steps that translate them. Of every driver that does. Pure. */
import { familyOf, ip, type Ip } from '../address/ip.ts';
import { addressOf } from '../address/prefix.ts';
import type { NftElement, Plan, Step, TransportProtocol } from '../kernel/step.ts';
import type { PublishRequest } from './driver.ts';
import { CnmError } from './errors.ts';
import type { EndpointSpec, PortBinding, PublishedPort } from './model.ts';

const PROTOCOLS: Readonly<Record<number, TransportProtocol>> = { 6: 'tcp', 17: 'udp', 132: 'sctp' };
const ANY = { 4: ip('0.0.0.0'), 6: ip('::') } as const;

export interface PublishTerms {
  /** Where `-p` without an address publishes; 0.0.0.0 = every address of the host, :: included for containers with IPv6. */
  readonly hostBinding?: Ip;
  /** Families in which a container's own port is what is published. */
  readonly routed?: readonly (4 | 6)[];
  /** By which address the host knows a container, where that is not the container's own. */
  readonly via?: (address: Ip) => Ip;
}

/** One binding; without a host address it takes IPv4 and, where the container has it, IPv6, on the same port. */
export function publishRequest(
  endpoint: EndpointSpec,
  binding: PortBinding,
  terms: PublishTerms,
): PublishRequest {
  const { proto, port, hostPort, hostPortEnd } = binding;
  protocolOf(proto);
  const hostIps = binding.hostIp === undefined ? defaultHosts(terms.hostBinding ?? ANY[4]) : [binding.hostIp];
  const explicit = binding.hostIp !== undefined && binding.hostIp !== ANY[6];
  const targets = hostIps.flatMap((hostIp) => target(terms, endpoint, hostIp, explicit));
  if (targets.length === 0) throw noAddress(port, hostIps[0] ?? ANY[4]);
  return { proto, port, targets, from: hostPort, to: Math.max(hostPort, hostPortEnd) };
}

function defaultHosts(hostBinding: Ip): readonly Ip[] {
  return hostBinding === ANY[4] ? [ANY[4], ANY[6]] : [hostBinding];
}

/**
 * A port of an IPv6 address of the host cannot lead to a container without IPv6: the kernel does not translate between the
 * families, and a proxy would hide the client's address. Asked for by name that is an error, by default it is left out.
 */
function target(
  { routed = [], via }: PublishTerms,
  endpoint: EndpointSpec,
  hostIp: Ip,
  explicit: boolean,
): PublishRequest['targets'] {
  const family = familyOf(hostIp);
  const address = family === 4 ? endpoint.address : endpoint.addressV6;
  if (explicit) assertReachable(hostIp, address !== undefined);
  if (address === undefined) return [];
  const own = addressOf(address);
  return [{ ip: own, ...(via && { via: via(own) }), ...(!routed.includes(family) && { hostIp }) }];
}

function assertReachable(hostIp: Ip, hasFamily: boolean): void {
  if (hostIp === '::1') {
    throw new CnmError(
      'option-invalid',
      'Ports cannot be published on ::1: the kernel does not route from it; use 127.0.0.1',
    );
  }
  if (hasFamily) return;
  const family = familyOf(hostIp);
  throw new CnmError(
    'option-invalid',
    `Ports cannot be published on ${hostIp}: the container has no IPv${family} address on this network; add --ip${family === 6 ? 'v6' : 'v4'} to the network or publish on another address`,
  );
}

function noAddress(port: number, hostIp: Ip): CnmError {
  return new CnmError(
    'option-invalid',
    `Port ${port} cannot be published on ${hostIp}: the container has no address of that family`,
  );
}

/**
 * Held first, so that a conflict is found before anything is translated; then what keeps out whom the host does not let in; then the translation; what conntrack remembers of a
 * former owner goes before and after, so that no packet in between renews it.
 * @param obeying The host's own input policy judges what comes in (`firewall=host`).
 */
export function publishSteps(published: readonly PublishedPort[], obeying: boolean): Plan {
  const onHost = runs(published);
  return [
    ...onHost.map(hold),
    ...onHost.flatMap(forget),
    ...(obeying ? onHost.map(guard) : []),
    ...onHost.flatMap(translation),
    ...opened(published),
    ...onHost.flatMap(forget),
  ];
}

/**
 * A port of 127.0.0.0/8 leads from a loopback address out of `link`, which route_localnet allows; our table keeps containers
 * from what else listens there. Only on a link of ours, with which the setting goes: on the user's it would outlast our table.
 * Not before a port needs it, so that a host with a read-only /proc/sys has networks all the same.
 */
export function loopbackSteps(link: string, published: readonly PublishedPort[]): readonly Step[] {
  const needed = published.some(({ hostIp }) => hostIp === ANY[4] || hostIp?.startsWith('127.') === true);
  if (!needed) return [];
  const key = `net.ipv4.conf.${link.replaceAll('.', '/')}.route_localnet`;
  return [{ do: 'sysctl.set', key, value: '1', keep: true }];
}

/** Consecutive ports of one host address that go to consecutive ports of one container. */
interface Run {
  readonly proto: number;
  /** By which the host knows the container. */
  readonly ip: Ip;
  readonly hostIp: Ip;
  readonly port: number;
  readonly hostPort: number;
  readonly length: number;
}

function runs(published: readonly PublishedPort[]): readonly Run[] {
  const onHost = published
    .flatMap(({ proto, ip, via, port, hostIp, hostPort }) =>
      hostIp === undefined || hostPort === undefined
        ? []
        : [{ proto, ip: via ?? ip, port, hostIp, hostPort, length: 1 }],
    )
    .sort((a, b) => a.proto - b.proto || byAddress(a.hostIp, b.hostIp) || a.hostPort - b.hostPort);
  const joined: Run[] = [];
  for (const next of onHost) {
    const last = joined.at(-1);
    if (last !== undefined && follows(last, next))
      joined[joined.length - 1] = { ...last, length: last.length + 1 };
    else joined.push(next);
  }
  return joined;
}

/** IPv4 first: of a port that is taken in both, it is what people look for. */
function byAddress(a: Ip, b: Ip): number {
  return familyOf(a) - familyOf(b) || (a === b ? 0 : a < b ? -1 : 1);
}

function follows(last: Run, next: Run): boolean {
  return (
    last.proto === next.proto &&
    last.ip === next.ip &&
    last.hostIp === next.hostIp &&
    last.hostPort + last.length === next.hostPort &&
    last.port + last.length === next.port
  );
}

function hold({ proto, hostIp, hostPort, length }: Run): Step {
  return {
    do: 'port.hold',
    proto: protocolOf(proto),
    address: hostIp,
    port: hostPort,
    ...endOf(hostPort, length),
  };
}

/**
 * Connections of tcp begin anew by themselves, from another port. A udp flow lives on in conntrack as long as its sender sends; and an
 * sctp client, whose port is mostly a fixed one, starts anew from the same (RFC 9260 §5.2), for which conntrack keeps what it had.
 */
function forget({ proto: number, hostIp, hostPort, length }: Run): readonly Step[] {
  const proto = protocolOf(number);
  if (proto === 'tcp') return [];
  return [{ do: 'conntrack.forget', proto, address: hostIp, port: hostPort, ...endOf(hostPort, length) }];
}

function endOf(port: number, length: number): { readonly portEnd?: number } {
  return length > 1 ? { portEnd: port + length - 1 } : {};
}

/** One interval however many ports, and whichever numbers they lead to. */
function guard({ proto, hostIp, hostPort, length }: Run): NftElement {
  const family = familyOf(hostIp);
  const hosts = hostIp === ANY[family] ? `${hostIp}/0` : hostIp;
  const ports = length > 1 ? `${hostPort}-${hostPort + length - 1}` : String(hostPort);
  return { do: 'nft.element', set: `guarded${family}`, key: [protocolOf(proto), hosts, ports] };
}

/** Ports that keep their number are one interval, however many they are; others are an element each. */
function translation({ proto, ip, hostIp, port, hostPort, length }: Run): readonly NftElement[] {
  const family = familyOf(hostIp);
  const any = hostIp === ANY[family];
  const key = (ports: string) => (any ? [protocolOf(proto), ports] : [protocolOf(proto), hostIp, ports]);
  if (length > 1 && port === hostPort) {
    const set: NftElement['set'] = any ? `publish${family}_any_range` : `publish${family}_range`;
    return [{ do: 'nft.element', set, key: key(`${hostPort}-${hostPort + length - 1}`), data: [ip] }];
  }
  const set: NftElement['set'] = any ? `publish${family}_any` : `publish${family}`;
  return Array.from({ length }, (_, n) => ({
    do: 'nft.element' as const,
    set,
    key: key(String(hostPort + n)),
    data: [ip, String(port + n)],
  }));
}

/** A container port that is published on several host addresses is opened once. */
function opened(published: readonly PublishedPort[]): readonly NftElement[] {
  const elements = published.map(open);
  return [...new Map(elements.map((element) => [element.key.join(' '), element])).values()];
}

/** On routed networks, and from trusted interfaces, the container's own port is what is published. */
function open({ proto, ip, via = ip, port }: PublishedPort): NftElement {
  return { do: 'nft.element', set: `open${familyOf(via)}`, key: [via, protocolOf(proto), String(port)] };
}

function protocolOf(proto: number): TransportProtocol {
  const name = PROTOCOLS[proto];
  if (name !== undefined) return name;
  throw new CnmError(
    'option-invalid',
    `Protocol ${proto} cannot be published: it must be 6 (tcp), 17 (udp) or 132 (sctp)`,
  );
}
