/** Published ports in the words of `docker port`. Pure. */
import type { Ip } from '../../address/ip.ts';
import type { PortView } from '../views.ts';
import { table } from './table.ts';
import { called, type Paint } from './text.ts';

/** `80/tcp -> 0.0.0.0:8080`, a line for each address of the host. */
export function portLines(ports: readonly PortView[]): string {
  return lines(ports.flatMap((port) => hostsOf(port).map((host) => `${nameOf(port)} -> ${host}`)));
}

/** `0.0.0.0:8080` alone, as `docker port CONTAINER PORT` has it. */
export function hostLines(ports: readonly PortView[]): string {
  return lines(ports.flatMap(hostsOf));
}

export function portTable(ports: readonly PortView[], paint: Paint): string {
  const rows = ports.map((port) => [
    called(port.endpoint),
    called(port.network),
    `${at(port.ip, port.port)}/${port.proto}`,
    port.hosts.map(({ ip, port: number }) => at(ip, number)).join(' ') || '(routed)',
  ]);
  return table(['ENDPOINT', 'NETWORK', 'CONTAINER PORT', 'HOST'], rows, paint);
}

/** For drawings: ports that follow each other, on both sides, in one line. */
export function publishedRuns(ports: readonly PortView[]): readonly string[] {
  const runs: { first: PortView; length: number }[] = [];
  for (const port of ports.toSorted(
    (a, b) => a.proto.localeCompare(b.proto) || a.ip.localeCompare(b.ip) || a.port - b.port,
  )) {
    const last = runs.at(-1);
    if (last !== undefined && follows(last.first, last.length, port)) last.length += 1;
    else runs.push({ first: port, length: 1 });
  }
  return runs.map(({ first, length }) => runText(first, length));
}

export function at(ip: Ip, port: number | string): string {
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}

function follows(first: PortView, length: number, port: PortView): boolean {
  return (
    port.proto === first.proto &&
    port.ip === first.ip &&
    port.port === first.port + length &&
    port.hosts.length === first.hosts.length &&
    port.hosts.every((host, index) => {
      const other = first.hosts[index];
      return host.ip === other?.ip && host.port === other.port + length;
    })
  );
}

function runText(port: PortView, length: number): string {
  const numbers = (from: number) => (length === 1 ? String(from) : `${from}-${from + length - 1}`);
  const hosts = port.hosts.map((host) => at(host.ip, numbers(host.port)));
  return `${numbers(port.port)}/${port.proto} -> ${hosts.join(' ') || routed(port, numbers(port.port))}`;
}

function nameOf({ port, proto }: PortView): string {
  return `${port}/${proto}`;
}

function hostsOf(port: PortView): readonly string[] {
  return port.hosts.length === 0
    ? [routed(port, port.port)]
    : port.hosts.map(({ ip, port: number }) => at(ip, number));
}

/** On a routed network the container's own address is the published one. */
function routed({ ip }: PortView, port: number | string): string {
  return `${at(ip, port)} (routed)`;
}

function lines(all: readonly string[]): string {
  return all.map((line) => `${line}\n`).join('');
}
