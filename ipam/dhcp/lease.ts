/** A lease: what a server's DHCPACK says, with the times at which it must be renewed. Pure. */
import type { Ip } from '../../address/ip.ts';
import type { Mac } from '../../address/mac.ts';
import {
  addressOf,
  contains,
  isMulticast,
  lengthOf,
  networkOf,
  prefix,
  prefixOf,
} from '../../address/prefix.ts';
import type { Leased } from '../../cnm/leases.ts';
import type { StaticRoute } from '../../cnm/model.ts';
import { BROADCAST, type DhcpMessage, OPTION, UNSPECIFIED } from './message.ts';
import { addressesOf, classlessRoutes, maskLength, numberOf, textOf } from './values.ts';

/** As it is stored. Times are milliseconds since 1970, because they must outlive the process. */
export interface Lease extends Leased {
  readonly server: Ip;
  /** Whose frame brought it: the server, or the router on the way to it. What goes to the server alone goes there. */
  readonly serverMac: Mac;
  /** T1, T2 and the end (RFC 2131 section 4.4.5). */
  readonly renewAt: number;
  readonly rebindAt: number;
  readonly expiresAt: number;
}

/** RFC 2131 section 3.3: all ones is for ever. JSON has no infinity. */
const FOREVER_SECONDS = 0xffffffff;
const FOREVER = Number.MAX_SAFE_INTEGER;
/** RFC 2132 section 5.1. */
const LEAST_MTU = 68;
const LOOPBACK = prefix('127.0.0.0/8');

/** Which server speaks: option 54, which every message of a server must have. */
export function serverOf(message: DhcpMessage): Ip | undefined {
  return addressesOf(message, OPTION.serverId)[0];
}

/** Whether a host may have it. */
export function isUsable(address: Ip): boolean {
  return (
    address !== UNSPECIFIED &&
    address !== BROADCAST &&
    !contains(LOOPBACK, address) &&
    !isMulticast(prefixOf(address, 32))
  );
}

/**
 * Undefined for one that leases nothing.
 * @param since when it was asked for: its time runs from there (RFC 2131 section 4.4.1).
 * @param spread 0 to 1: how much earlier than told it is renewed, so that hosts that start together do not stay together (section 4.4.5).
 */
export function leaseOf(ack: DhcpMessage, serverMac: Mac, since: number, spread: number): Lease | undefined {
  const server = serverOf(ack);
  const seconds = numberOf(ack, OPTION.leaseTime, 4) ?? 0;
  if (server === undefined || seconds === 0 || !isUsable(ack.yiaddr)) return undefined;
  const address = prefixOf(ack.yiaddr, maskLength(ack));
  const mtu = numberOf(ack, OPTION.mtu, 2) ?? 0;
  const domain = textOf(ack, OPTION.domainName);
  return {
    address,
    ...waysOut(ack),
    ...(mtu >= LEAST_MTU && { mtu }),
    dns: addressesOf(ack, OPTION.dnsServers),
    ...(domain !== undefined && { domain }),
    server,
    serverMac,
    ...timesOf(ack, seconds, since, spread),
  };
}

function timesOf(
  ack: DhcpMessage,
  seconds: number,
  since: number,
  spread: number,
): Pick<Lease, 'renewAt' | 'rebindAt' | 'expiresAt'> {
  if (seconds === FOREVER_SECONDS) return { renewAt: FOREVER, rebindAt: FOREVER, expiresAt: FOREVER };
  const given = (code: number, share: number, most: number): number => {
    const told = numberOf(ack, code, 4) ?? 0;
    return told > 0 && told <= most ? told : Math.min(seconds * share, most);
  };
  const rebind = given(OPTION.rebindingTime, 0.875, seconds);
  const renew = given(OPTION.renewalTime, 0.5, rebind);
  const early = (1 - 0.05 * spread) * 1000;
  return {
    renewAt: since + Math.floor(renew * early),
    rebindAt: since + Math.floor(rebind * 1000),
    expiresAt: since + seconds * 1000,
  };
}

/** RFC 3442: where there is option 121, option 3 is not looked at. */
function waysOut(ack: DhcpMessage): Pick<Lease, 'gateway' | 'routes'> {
  const classless = classlessRoutes(ack);
  if (classless === undefined) {
    const router = addressesOf(ack, OPTION.router).find(isUsable);
    return { ...(router !== undefined && { gateway: router }), routes: [] };
  }
  const gateway = classless.find(({ destination }) => lengthOf(destination) === 0)?.nextHop;
  const routes = classless.filter(({ destination }) => lengthOf(destination) > 0);
  return { ...(gateway !== undefined && { gateway }), routes };
}

/** With a route to a router that is not in the address's own subnet, and without one to that subnet. */
export function leasedOf({ address, gateway, routes, mtu, dns, domain }: Lease): Leased {
  const own = networkOf(address);
  const others = routes.filter(({ destination }) => destination !== own);
  const isOnLink = (to: Ip) =>
    contains(address, to) ||
    others.some((route) => route.nextHop === undefined && contains(route.destination, to));
  const away = gateway !== undefined && !isOnLink(gateway) ? [gateway] : [];
  const toRouter = away.map((router): StaticRoute => ({ destination: prefixOf(router, 32) }));
  return {
    address,
    ...(gateway !== undefined && gateway !== addressOf(address) && { gateway }),
    routes: [...toRouter, ...others],
    ...(mtu !== undefined && { mtu }),
    dns,
    ...(domain !== undefined && { domain }),
  };
}
