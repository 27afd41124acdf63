/**
 * Changes of the firewall by others: a flushed ruleset, a restarted Docker, a user's rule that comes after ours.
 *
 * nf_tables (and iptables in its nft form) announces every transaction. As in monitor.ts a timer looks whether there is
 * an announcement, because libuv polls no netlink socket: a look that finds nothing costs 50 µs, the timer with it a
 * thousandth of a CPU, and no thread. Legacy iptables announces nothing: where its filter table exists, and only there, its
 * rules are listed every half minute and compared.
 */
import { hasLegacyFilter, listLegacy } from './accept.ts';
import { KernelError } from './kernel.ts';
import { NETLINK_NETFILTER, openNetlinkSocket } from './netlink.ts';
import type { NetlinkSocket } from './netlink.ts';
import { OwnPorts } from './own-ports.ts';
import type { Syscalls } from './syscall.ts';

/** linux/netfilter/nfnetlink.h: NFNLGRP_NFTABLES. */
const GROUP = 7;
/** (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWGEN: one per transaction, after what it did. */
const NEW_GENERATION = 0x0a0f;
const PERIOD_MS = 300;
/** A restart of Docker is hundreds of transactions: it is waited for, but not longer than this. */
const PATIENCE_MS = 600;
const LEGACY_PERIOD_MS = 30_000;

export type FirewallChange = 'firewall' | 'resync';

/**
 * Call `onChange` within a second after changes by others, once for a burst; 'resync' when announcements were lost. In
 * the network namespace of the process. `own` are the ports whose changes are not announced.
 * @returns The way to stop. The timers do not keep the process alive.
 */
export function watchFirewall(
  sys: Syscalls,
  onChange: (change: FirewallChange) => void,
  own: OwnPorts = new OwnPorts(),
): () => void {
  const socket = openNetlinkSocket(sys, NETLINK_NETFILTER);
  socket.join(GROUP);
  const stopNft = announceBursts(() => foreignChange(socket, own), onChange);
  const stopLegacy = pollLegacy(onChange);
  return () => {
    stopNft();
    stopLegacy();
    socket.close();
  };
}

/** Announce at the first look that finds nothing new after some that did, or when patience ends. */
function announceBursts(
  look: () => FirewallChange | undefined,
  announce: (change: FirewallChange) => void,
): () => void {
  let pending: FirewallChange | undefined;
  let since = 0;
  const timer = setInterval(() => {
    const seen = look();
    if (pending === undefined) since = performance.now();
    if (seen === 'resync' || pending === undefined) pending = seen ?? pending;
    if (pending === undefined || (seen !== undefined && performance.now() - since < PATIENCE_MS)) return;
    const change = pending;
    pending = undefined;
    announce(change);
  }, PERIOD_MS);
  timer.unref();
  return () => {
    clearInterval(timer);
  };
}

function foreignChange(socket: NetlinkSocket, own: OwnPorts): FirewallChange | undefined {
  const seen = { foreign: false, lost: false };
  for (;;) {
    try {
      socket.drain(({ type, port }) => {
        seen.foreign ||= type === NEW_GENERATION && !own.has(port);
      });
      return seen.lost ? 'resync' : seen.foreign ? 'firewall' : undefined;
    } catch (error) {
      if (!(error instanceof KernelError && error.errno === 'ENOBUFS')) throw error;
      // Reading the error has cleared it; what is still queued is older than the loss.
      seen.lost = true;
    }
  }
}

function pollLegacy(announce: (change: FirewallChange) => void): () => void {
  let before: string | undefined;
  let busy = false;
  const look = async (): Promise<void> => {
    const now = hasLegacyFilter(4) || hasLegacyFilter(6) ? await listLegacy() : '';
    if (before !== undefined && now !== before) announce('firewall');
    before = now;
  };
  const timer = setInterval(() => {
    if (busy) return;
    busy = true;
    void look().finally(() => {
      busy = false;
    });
  }, LEGACY_PERIOD_MS);
  timer.unref();
  return () => {
    clearInterval(timer);
  };
}
