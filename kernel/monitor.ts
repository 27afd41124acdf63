/**
 * Changes of links, their addresses and their qdiscs in the daemon's namespace, as the kernel announces them.
 *
 * Node can poll only descriptors that libuv knows how to read; a netlink socket is none of them, and a blocking read would
 * hold a thread of its pool. So a timer looks: one recv() that finds nothing costs under 2 µs, four times a second. The buffer holds
 * what comes between two looks; what does not fit is lost, the kernel says so (ENOBUFS), and that is reported as 'resync'.
 */
import { KernelError } from './kernel.ts';
import { NETLINK_ROUTE, openNetlinkSocket } from './netlink.ts';
import type { NetlinkSocket } from './netlink.ts';
import type { Syscalls } from './syscall.ts';

/** linux/rtnetlink.h: RTNLGRP_LINK, RTNLGRP_TC (qdiscs and filters), RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR. */
const GROUPS = [1, 4, 5, 9];
const PERIOD_MS = 250;
const OWED_MS = 5000;

export class Monitor {
  readonly #socket: NetlinkSocket;
  readonly #timer: NodeJS.Timeout;
  readonly #emit: (what: 'links' | 'resync') => void;
  #pending: 'links' | 'resync' | undefined;
  /** A change by another while we made ours looks like ours: time since which an announcement is owed. */
  #owedSince: number | undefined;

  constructor(sys: Syscalls, emit: (what: 'links' | 'resync') => void) {
    this.#emit = emit;
    this.#socket = openNetlinkSocket(sys, NETLINK_ROUTE);
    for (const group of GROUPS) this.#socket.join(group);
    this.#timer = setInterval(() => {
      this.#tick();
    }, PERIOD_MS);
    this.#timer.unref();
  }

  /**
   * Run what changes links in this process without announcing it at once: the kernel queues its notifications while it does
   * the work, so that those between the two looks are ours, or nearly all. What follows later (a carrier) is announced.
   */
  quietly<T>(act: () => T): T {
    this.#pending = this.#read() ?? this.#pending;
    try {
      return act();
    } finally {
      const read = this.#read();
      if (read === 'resync') this.#pending = read;
      if (read === 'links') this.#owedSince ??= performance.now();
    }
  }

  /** One announcement a period, however many changes there were. */
  #tick(): void {
    const read = this.#read();
    const due = this.#owedSince !== undefined && performance.now() - this.#owedSince >= OWED_MS;
    const what =
      this.#pending === 'resync' ? 'resync' : (read ?? this.#pending ?? (due ? 'links' : undefined));
    if (what === undefined) return;
    this.#pending = undefined;
    this.#owedSince = undefined;
    this.#emit(what);
  }

  #read(): 'links' | 'resync' | undefined {
    const seen = { links: false, lost: false };
    for (;;) {
      try {
        this.#socket.drain(() => {
          seen.links = true;
        });
        break;
      } catch (error) {
        if (!(error instanceof KernelError && error.errno === 'ENOBUFS')) throw error;
        // Reading it has cleared the error; what is still queued is older than the loss.
        seen.lost = true;
      }
    }
    return seen.lost ? 'resync' : seen.links ? 'links' : undefined;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#socket.close();
  }
}
