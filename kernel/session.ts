/** What one call of the kernel works with: sockets and descriptors of the namespaces it touches, and the links as it has looked them up. */
import { randomInt } from 'node:crypto';
import { closeSync, existsSync } from 'node:fs';
import { KernelError } from './kernel.ts';
import type { Place, View } from './kinds/kind.ts';
import { NETLINK_ROUTE, openNetlinkSocket } from './netlink.ts';
import type { NetlinkSocket } from './netlink.ts';
import { CURRENT_NETNS, holdsNetns, openNetns } from './netns.ts';
import { decodeLink } from './decode.ts';
import { getLink } from './rtnetlink.ts';
import type { KernelLink } from './decode.ts';
import type { NetnsPath } from './step.ts';
import type { Syscalls } from './syscall.ts';

/** What outlives a session. */
export interface Ground {
  readonly sys: Syscalls;
  /** The daemon's namespace. A socket elsewhere is not kept: it would keep a container's namespace alive. */
  readonly home: NetlinkSocket;
  readonly netnsDir: string;
  readonly ipv6: boolean;
  readonly indexes: Indexes;
}

/** Interface indexes for links of ours. The kernel counts its own from 1; these are far above. */
export class Indexes {
  #next = 0;
  constructor() {
    this.jump();
  }
  take(): number {
    this.#next += 1;
    return this.#next;
  }
  /** Somewhere else: two daemons in one namespace, or one after the other, must not count along the same row. */
  jump(): void {
    this.#next = randomInt(1_000_000, 1_000_000_000);
  }
}

export class Session implements View {
  readonly netnsDir: string;
  readonly ipv6: boolean;
  readonly #ground: Ground;
  readonly #sockets = new Map<NetnsPath, NetlinkSocket>();
  readonly #handles = new Map<NetnsPath | undefined, number>();
  /** By namespace and name; undefined: looked up, and not there. */
  readonly #links = new Map<NetnsPath | undefined, Map<string, KernelLink | undefined>>();

  constructor(ground: Ground) {
    this.#ground = ground;
    this.netnsDir = ground.netnsDir;
    this.ipv6 = ground.ipv6;
  }

  /** @throws KernelError ENOENT when there is no namespace at the path, or only a plain file. */
  socket(netns: NetnsPath | undefined): NetlinkSocket {
    if (netns === undefined) return this.#ground.home;
    let socket = this.#sockets.get(netns);
    if (socket === undefined) {
      if (!this.exists(netns)) throw new KernelError(`netns ${netns}`, 'ENOENT', 'there is no namespace');
      socket = openNetlinkSocket(this.#ground.sys, NETLINK_ROUTE, netns);
      this.#sockets.set(netns, socket);
    }
    return socket;
  }

  exists(netns: NetnsPath | undefined): boolean {
    return netns === undefined || holdsNetns(netns);
  }

  /** Look up the links that are not known yet, in one message batch per namespace. */
  look(places: readonly Place[]): void {
    const unknown = Map.groupBy(
      places.filter(({ netns, name }) => !this.#table(netns).has(name) && name !== ''),
      ({ netns }) => netns,
    );
    for (const [netns, asked] of unknown) {
      const names = [...new Set(asked.map(({ name }) => name))];
      const { replies } = this.socket(netns).transact(names.map(getLink));
      names.forEach((name, i) => {
        const reply = replies.get(i);
        this.#table(netns).set(name, reply && decodeLink(reply));
      });
    }
  }

  /** Forget what was looked up: others may have acted meanwhile. */
  forget(): void {
    this.#links.clear();
  }

  link(netns: NetnsPath | undefined, name: string): KernelLink | undefined {
    return this.#table(netns).get(name);
  }

  put(netns: NetnsPath | undefined, link: KernelLink): void {
    this.#table(netns).set(link.name, link);
  }

  drop(netns: NetnsPath | undefined, name: string): void {
    this.#table(netns).set(name, undefined);
  }

  unknow(netns: NetnsPath | undefined, name: string): void {
    this.#table(netns).delete(name);
  }

  newIndex(): number {
    return this.#ground.indexes.take();
  }

  handle(netns: NetnsPath | undefined): number {
    let fd = this.#handles.get(netns);
    if (fd === undefined) {
      fd = openNetns(netns ?? CURRENT_NETNS);
      this.#handles.set(netns, fd);
    }
    return fd;
  }

  #table(netns: NetnsPath | undefined): Map<string, KernelLink | undefined> {
    const table = this.#links.get(netns) ?? new Map<string, KernelLink | undefined>();
    this.#links.set(netns, table);
    return table;
  }

  close(): void {
    for (const socket of this.#sockets.values()) socket.close();
    for (const fd of this.#handles.values()) closeSync(fd);
    this.#sockets.clear();
    this.#handles.clear();
  }
}

/** Whether the kernel knows AF_INET6 (it does not with ipv6.disable=1). */
export function hasIpv6(): boolean {
  return existsSync('/proc/net/if_inet6');
}
