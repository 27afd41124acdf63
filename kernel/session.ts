/** What one call of the kernel works with: sockets and descriptors of the namespaces it touches, and the links as it has looked them up. */
import { randomInt } from 'node:crypto';
import { closeSync, existsSync } from 'node:fs';
import type { Prefix } from '../address/prefix.ts';
import { KernelError } from './kernel.ts';
import type { Place, View } from './kinds/kind.ts';
import { NETLINK_ROUTE, openNetlinkSocket } from './netlink.ts';
import type { NetlinkRequest, NetlinkSocket } from './netlink.ts';
import { CURRENT_NETNS, holdsNetns, openNetns } from './netns.ts';
import { decodeLink } from './decode.ts';
import { holdsOurAddress } from './dump.ts';
import { getLink, getLinkAt } from './rtnetlink.ts';
import type { KernelLink } from './decode.ts';
import type { NetnsPath } from './step.ts';
import type { Syscalls } from './syscall.ts';

/** A link's description takes up to 4 KiB of the receive buffer: this many fit the default of 208 KiB. */
const ASKED_AT_ONCE = 32;

/** What outlives a session. */
export interface Ground {
  readonly sys: Syscalls;
  /** The daemon's namespace. A socket elsewhere is not kept: it would keep a container's namespace alive. */
  readonly home: NetlinkSocket;
  readonly netnsDir: string;
  readonly ipv6: boolean;
  readonly indexes: Indexes;
}

/** Interface indexes to try for links of ours. The kernel counts its own from 1; these are far above. */
export class Indexes {
  /** Two daemons in one namespace, or one after the other, seldom count along the same row. */
  #next = randomInt(1_000_000, 1_000_000_000);

  take(): number {
    this.#next += 1;
    return this.#next;
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

  /** Indexes that were free when we looked. */
  readonly #free = new Map<NetnsPath | undefined, number[]>();

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

  /** Look up the links that are not known yet, and indexes for those to be made, in one message batch per namespace. */
  look(places: readonly Place[]): void {
    const unknown = Map.groupBy(
      places.filter(({ netns, name }) => !this.#table(netns).has(name) && name !== ''),
      ({ netns }) => netns,
    );
    for (const [netns, asked] of unknown) {
      const names = [...new Set(asked.map(({ name }) => name))];
      const indexes = asked.filter(({ make }) => make === true).map(() => this.#ground.indexes.take());
      const found = this.#ask(netns, [...names.map(getLink), ...indexes.map(getLinkAt)]);
      names.forEach((name, i) => {
        this.#table(netns).set(name, found[i]);
      });
      const free = indexes.filter((_, i) => found[names.length + i] === undefined);
      this.#free.set(netns, [...(this.#free.get(netns) ?? []), ...free]);
    }
  }

  /** A link for each request, or undefined. */
  #ask(netns: NetnsPath | undefined, requests: readonly NetlinkRequest[]): (KernelLink | undefined)[] {
    const found: (KernelLink | undefined)[] = [];
    for (let from = 0; from < requests.length; from += ASKED_AT_ONCE) {
      const part = requests.slice(from, from + ASKED_AT_ONCE);
      const { replies } = this.socket(netns).transact(part);
      for (const i of part.keys()) {
        const reply = replies.get(i);
        found.push(reply && decodeLink(reply));
      }
    }
    return found;
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

  ownsAddress(netns: NetnsPath | undefined, index: number, prefix: Prefix): boolean {
    return holdsOurAddress(this.socket(netns), index, prefix);
  }

  newIndex(netns: NetnsPath | undefined): number {
    const found = this.#free.get(netns)?.pop();
    if (found !== undefined) return found;
    for (;;) {
      const index = this.#ground.indexes.take();
      if (
        !this.socket(netns)
          .transact([getLinkAt(index)])
          .replies.has(0)
      )
        return index;
    }
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
