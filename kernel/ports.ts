/** Ports of the host as the steps name them, in words. Pure. */
import { familyOf } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import type { TransportProtocol } from './step.ts';

/** What a port.hold and a conntrack.forget have in common. `portEnd` absent: one port. */
export interface Ports {
  readonly proto: TransportProtocol;
  readonly address: Ip;
  readonly port: number;
  readonly portEnd?: number;
}

export function portNumbers({ port, portEnd = port }: Ports): readonly number[] {
  return Array.from({ length: portEnd - port + 1 }, (_, i) => port + i);
}

/** As Facts has them in `heldPorts`. */
export function portNames(ports: Ports): readonly string[] {
  return portNumbers(ports).map((port) => portName(ports, port));
}

export function portName({ proto, address }: Pick<Ports, 'proto' | 'address'>, port: number): string {
  return `${proto} ${address} ${port}`;
}

/** `tcp 192.0.2.1:8000-8010` or `udp [::]:53`. */
export function portsText({ proto, address, port, portEnd = port }: Ports): string {
  const host = familyOf(address) === 6 ? `[${address}]` : address;
  return `${proto} ${host}:${port}${portEnd === port ? '' : `-${portEnd}`}`;
}
