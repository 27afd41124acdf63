/**
 * Changes of links, their addresses, their qdiscs, and of routes in the daemon's namespace, as the kernel announces them.
 *
 * Node can poll only descriptors that libuv knows how to read; a netlink socket is none of them, and a blocking read would
 * hold a thread of its pool. So a timer looks: one recv() that finds nothing costs under 2 µs, four times a second. The buffer holds
 * what comes between two looks; what does not fit is lost, the kernel says so (ENOBUFS), and that is reported as 'resync'. Routes have a socket of their own, for there may be a
 * great many (a router's): of them it matters only that there was something.
 */
import { KernelError } from './kernel.ts';
import { NETLINK_ROUTE, openNetlinkSocket } from './netlink.ts';
import type { NetlinkSocket } from './netlink.ts';
import type { Syscalls } from './syscall.ts';

/** linux/rtnetlink.h: RTNLGRP_LINK, RTNLGRP_TC (qdiscs and filters), RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR. */
const GROUPS = [1, 4, 5, 9];
/** RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE. */
const ROUTE_GROUPS = [7, 11];
const PERIOD_MS = 250;
const OWED_MS = 5000;

type Change = 'links' | 'routes' | 'resync';

export class Monitor {
  readonly #socket: NetlinkSocket;
  readonly #routes: NetlinkSocket;
  readonly #timer: NodeJS.Timeout;
  readonly #emit: (what: Change) => void;
  #pending: 'links' | 'resync' | undefined;
  #routesPending = false;
  /** A change by another while we made ours looks like ours: time since which an announcement is owed. */
  #owedSince: number | undefined;

  constructor(sys: Syscalls, emit: (what: Change) => void) {
    this.#emit = emit;
    this.#socket = openNetlinkSocket(sys, NETLINK_ROUTE);
    this.#routes = openNetlinkSocket(sys, NETLINK_ROUTE);
    for (const group of GROUPS) this.#socket.join(group);
    for (const group of ROUTE_GROUPS) this.#routes.join(group);
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
    this.#pending = this.#look() ?? this.#pending;
    this.#lookAtRoutes();
    try {
      return act();
    } finally {
      const read = this.#look();
      if (read === 'resync') this.#pending = read;
      const routes = heard(this.#routes) !== undefined;
      if (read === 'links' || routes) this.#owedSince ??= performance.now();
    }
  }

  /** One announcement a period, however many changes there were. */
  #tick(): void {
    const read = this.#look();
    this.#lookAtRoutes();
    const routes = this.#routesPending;
    this.#routesPending = false;
    const due = this.#owedSince !== undefined && performance.now() - this.#owedSince >= OWED_MS;
    const what =
      this.#pending === 'resync' ? 'resync' : (read ?? this.#pending ?? (due ? 'links' : undefined));
    if (what === undefined) {
      if (routes) this.#emit('routes');
      return;
    }
    this.#pending = undefined;
    this.#owedSince = undefined;
    this.#emit(what);
  }

  #lookAtRoutes(): void {
    if (heard(this.#routes) !== undefined) this.#routesPending = true;
  }

  #look(): 'links' | 'resync' | undefined {
    const what = heard(this.#socket);
    return what === 'something' ? 'links' : what === 'lost' ? 'resync' : undefined;
  }

  close(): void {
    clearInterval(this.#timer);
    this.#socket.close();
    this.#routes.close();
  }
}

/** All that has come in. */
function heard(socket: NetlinkSocket): 'something' | 'lost' | undefined {
  const seen = { something: false, lost: false };
  for (;;) {
    try {
      socket.drain(() => {
        seen.something = true;
      });
      break;
    } catch (error) {
      if (!(error instanceof KernelError && error.errno === 'ENOBUFS')) throw error;
      // Reading it has cleared the error; what is still queued is older than the loss.
      seen.lost = true;
    }
  }
  return seen.lost ? 'lost' : seen.something ? 'something' : undefined;
}
