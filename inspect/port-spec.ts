/**
 * What stands after `-p`, as `docker run` reads it (go-connections, nat.ParsePortSpec): [HOSTIP:][HOSTPORT[-END]:]PORT[-END][/PROTOCOL],
 * an IPv6 address in brackets, nothing for a port of the kernel's choice. Pure.
 */
import { familyOf, type Ip, parseIp } from '../address/ip.ts';
import { CnmError } from '../cnm/errors.ts';
import type { PortBinding } from '../cnm/model.ts';
import { protocolName } from '../cnm/ports.ts';
import { quote } from './refs.ts';

const PROTOCOLS: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132 };
const RIGHT = '[HOSTIP:][HOSTPORT[-END]:]PORT[-END][/tcp|udp|sctp], for example 8080:80/tcp';
const LAST_PORT = 65535;

export interface PortRange {
  readonly from: number;
  readonly to: number;
}

/** One `-p`. `host` absent: ports of the kernel's choice. As many host ports as container ports, or several for one to choose from. */
export interface PortSpec {
  readonly proto: number;
  readonly container: PortRange;
  readonly hostIp?: Ip;
  readonly host?: PortRange;
}

/** @throws CnmError `request-invalid`, naming the value and what would be right. */
export function parsePortSpec(text: string): PortSpec {
  const { address, hostPorts, rest } = split(text);
  const [ports = '', protocol = '', ...more] = rest.split('/');
  if (more.length > 0) throw wrong(text, 'it has more than one "/"');
  const container = range(text, ports, 'container port', 1);
  const host = hostRange(text, hostPorts, container);
  return {
    proto: protocolOf(text, protocol),
    container,
    ...(address !== '' && { hostIp: hostIp(text, address) }),
    ...(host && { host }),
  };
}

export function formatPortSpec({ proto, container, hostIp, host }: PortSpec): string {
  const address = hostIp === undefined ? '' : `${hostText(hostIp)}:`;
  const ports = host === undefined ? '' : rangeText(host);
  const before = address === '' && ports === '' ? '' : `${address}${ports}:`;
  return `${before}${rangeText(container)}/${protocolName(proto)}`;
}

/** A range of container ports is as many bindings; with a range of host ports beside it, one to one. */
export function bindingsOf({ proto, container, hostIp, host }: PortSpec): readonly PortBinding[] {
  const { from, to } = container;
  const single = from === to;
  return Array.from({ length: to - from + 1 }, (_, n) => ({
    proto,
    port: from + n,
    ...(hostIp && { hostIp }),
    hostPort: host === undefined ? 0 : host.from + n,
    hostPortEnd: host === undefined ? 0 : single ? host.to : host.from + n,
  }));
}

/** An address before a colon. */
export function hostText(address: Ip): string {
  return familyOf(address) === 6 ? `[${address}]` : address;
}

function split(text: string): {
  readonly address: string;
  readonly hostPorts: string;
  readonly rest: string;
} {
  const bracketed = /^\[([^\]]*)\]:(.*)$/s.exec(text);
  const parts = (bracketed?.[2] ?? text).split(':');
  if (bracketed !== null) {
    const [hostPorts = '', rest] = parts;
    if (rest === undefined || parts.length > 2)
      throw wrong(text, 'after the address come HOSTPORT:PORT or :PORT');
    return { address: bracketed[1] === '' ? '[]' : (bracketed[1] ?? ''), hostPorts, rest };
  }
  if (parts.length > 3) throw wrong(text, 'an IPv6 address must be in brackets, as in [2001:db8::1]:8080:80');
  const rest = parts.at(-1) ?? '';
  return { address: parts.length === 3 ? (parts[0] ?? '') : '', hostPorts: parts.at(-2) ?? '', rest };
}

function protocolOf(text: string, name: string): number {
  const proto = name === '' ? 6 : PROTOCOLS[name.toLowerCase()];
  if (proto !== undefined) return proto;
  throw wrong(text, `the protocol ${quote(name)} must be tcp, udp or sctp`);
}

function hostIp(text: string, address: string): Ip {
  const parsed = parseIp(address);
  if (parsed !== undefined) return parsed;
  throw wrong(
    text,
    `${quote(address)} is not an address of the host, for example 192.0.2.1 or [2001:db8::1]`,
  );
}

/** `0` alone is Docker's other word for a port of the kernel's choice. */
function hostRange(text: string, ports: string, container: PortRange): PortRange | undefined {
  if (ports === '') return undefined;
  const host = range(text, ports, 'host port', 0);
  if (host.from === 0) {
    if (host.to === 0) return undefined;
    throw wrong(text, `the host ports ${ports} must be from 1 to ${LAST_PORT}`);
  }
  const [several, wanted] = [host.to - host.from + 1, container.to - container.from + 1];
  if (wanted > 1 && several !== wanted) {
    throw wrong(
      text,
      `${several} host ports do not go with ${wanted} container ports: there must be as many`,
    );
  }
  return host;
}

function range(text: string, ports: string, what: string, least: number): PortRange {
  if (ports === '') throw wrong(text, `the ${what} is missing`);
  const [, first = '', last = first] = /^(\d{1,5})(?:-(\d{1,5}))?$/.exec(ports) ?? [];
  const [from, to] = [Number(first), Number(last)];
  if (first === '' || from < least || to > LAST_PORT || from > LAST_PORT) {
    throw wrong(
      text,
      `the ${what} ${quote(ports)} must be a number from 1 to ${LAST_PORT}, or two as in 8000-8010`,
    );
  }
  if (to < from) throw wrong(text, `the ${what}s ${ports} end before they begin`);
  return { from, to };
}

function rangeText({ from, to }: PortRange): string {
  return from === to ? String(from) : `${from}-${to}`;
}

function wrong(text: string, why: string): CnmError {
  return new CnmError(
    'request-invalid',
    `-p ${quote(text)} is not a port to publish: ${why}; write ${RIGHT}`,
  );
}
