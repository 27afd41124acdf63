/**
 * Ports of the host, held by sockets of this process so that no other process takes them, and so that a conflict is found
 * before anything is changed. Nobody is answered: a filter drops what reaches the sockets, which is little, because
 * connections from elsewhere are translated before they come here (Docker does the same since Engine 28.2).
 *
 * Node raises the limit of open files to what the process may have (node::PlatformInit), which nothing here needs to repeat.
 */
import { closeSync, readFileSync } from 'node:fs';
import { familyOf } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import { socketAddress } from './bound-sockets.ts';
import { KernelError } from './kernel.ts';
import { portOwner } from './port-owner.ts';
import { portName, portNumbers, portsText } from './ports.ts';
import type { Ports } from './ports.ts';
import {
  AF_INET,
  AF_INET6,
  IPPROTO_IPV6,
  IPV6_V6ONLY,
  SO_REUSEADDR,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_STREAM,
  SOL_SOCKET,
} from './socket-numbers.ts';
import type { TransportProtocol } from './step.ts';
import type { Syscalls } from './syscall.ts';

const IPPROTO: Readonly<Record<TransportProtocol, number>> = { tcp: 6, udp: 17, sctp: 132 };

export class PortHolder {
  readonly #sys: Syscalls;
  /** Descriptors by port, as Facts names them; undefined for a protocol that this kernel does not have. */
  readonly #held = new Map<string, number | undefined>();

  constructor(sys: Syscalls) {
    this.#sys = sys;
  }

  /**
   * All of the ports or none; one that is held already is success. Returns those that were not held before.
   * @throws KernelError EADDRINUSE naming who has the port, EADDRNOTAVAIL naming the address, EMFILE.
   */
  hold(ports: Ports): readonly number[] {
    const wanted = portNumbers(ports).filter((port) => !this.#held.has(portName(ports, port)));
    const taken: number[] = [];
    const limit = openFilesLimit() - RESERVE;
    try {
      for (const port of wanted) {
        this.#held.set(portName(ports, port), this.#open(ports, port, limit));
        taken.push(port);
      }
    } catch (error) {
      this.release(ports, taken);
      throw error;
    }
    return taken;
  }

  /** Ports that are not held are none. */
  release(ports: Pick<Ports, 'proto' | 'address'>, numbers: readonly number[]): void {
    for (const port of numbers) {
      const name = portName(ports, port);
      const fd = this.#held.get(name);
      this.#held.delete(name);
      if (fd !== undefined) closeSync(fd);
    }
  }

  held(): ReadonlySet<string> {
    return new Set(this.#held.keys());
  }

  close(): void {
    for (const fd of this.#held.values()) if (fd !== undefined) closeSync(fd);
    this.#held.clear();
  }

  #open(ports: Ports, port: number, limit: number): number | undefined {
    const { proto, address } = ports;
    const fd = this.#socket(proto, familyOf(address));
    if (fd === undefined) return undefined;
    try {
      // The kernel gives the lowest number that is free, so that this one tells how many are taken.
      if (fd >= limit) throw limited();
      this.#bind(fd, proto, address, port);
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error instanceof KernelError ? explained(error, { proto, address, port }) : error;
    }
  }

  /** Undefined: this kernel has no such protocol (SCTP is a module that many do without), so that nobody can take its ports. */
  #socket(proto: TransportProtocol, family: 4 | 6): number | undefined {
    const type = (proto === 'udp' ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC;
    try {
      return this.#sys.socket(family === 6 ? AF_INET6 : AF_INET, type, IPPROTO[proto]);
    } catch (error) {
      if (error instanceof KernelError && NO_PROTOCOL.includes(error.errno)) return undefined;
      throw error instanceof KernelError && error.errno === 'EMFILE' ? limited() : error;
    }
  }

  #bind(fd: number, proto: TransportProtocol, address: Ip, port: number): void {
    const sys = this.#sys;
    // IPv6 alone: the port of IPv4 is another, and may be another's.
    if (familyOf(address) === 6) sys.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    // Connections of a former holder that linger in TIME_WAIT are no hindrance. For udp it would let others share the port.
    if (proto !== 'udp') sys.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    // Before anything can arrive.
    sys.dropAll(fd);
    sys.bind(fd, socketAddress(address, port));
    // Bound with SO_REUSEADDR and not listening, a port could still be taken by another that has the option too.
    if (proto !== 'udp') sys.listen(fd, 1);
  }
}

const NO_PROTOCOL = ['EPROTONOSUPPORT', 'ESOCKTNOSUPPORT'];

function explained({ errno, detail }: KernelError, ports: Ports): KernelError {
  return new KernelError(`hold ${portsText(ports)}`, errno, reason(errno, ports) ?? detail);
}

function reason(errno: string, ports: Ports): string | undefined {
  switch (errno) {
    case 'EADDRINUSE':
      return inUse(ports, portOwner(ports.proto, ports.address, ports.port));
    case 'EADDRNOTAVAIL':
      return `this host has no address ${ports.address}`;
    case 'EACCES':
      return 'ports below net.ipv4.ip_unprivileged_port_start (1024) need CAP_NET_BIND_SERVICE';
    default:
      return undefined;
  }
}

/** The words for a port that another has. */
export function inUse(ports: Ports, owner: string | undefined): string {
  return `${portsText(ports)} is held by ${owner ?? 'a process that cannot be seen from here'}`;
}

/** Descriptors that ports leave to the rest of the daemon: with none left it could answer nobody, not even to unpublish. */
const RESERVE = 64;

/** Asked for each time: prlimit(1) changes it while we run. proc_pid_limits(5). */
function openFilesLimit(): number {
  const [, soft = ''] = /^Max open files\s+(\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
  return soft === 'unlimited' ? Infinity : Number(soft);
}

function limited(): KernelError {
  return new KernelError(
    'hold a port',
    'EMFILE',
    'each published port takes one file descriptor; raise the limit (LimitNOFILE= of the service)',
  );
}
