/** Static routes as text: `10.9.0.0/16 via 10.1.0.7, 192.168.5.0/24`, in the words of ip-route(8); without `via` on link. Pure. */
import { familyOf, parseIp } from '../address/ip.ts';
import {
  addressOf,
  contains,
  familyOfPrefix,
  hasHostBits,
  lengthOf,
  networkOf,
  parsePrefix,
  prefixOf,
  type Prefix,
} from '../address/prefix.ts';
import { CnmError } from './errors.ts';
import type { EndpointSpec, NetworkSpec, StaticRoute } from './model.ts';
import { invalidValue, quote } from './option-values.ts';

/**
 * Of one endpoint: each of a family that it has an address of, none through itself.
 * @throws CnmError `option-invalid`, naming option, value and what would be right.
 */
export function staticRoutes(
  name: string,
  text: string | undefined,
  network: NetworkSpec,
  endpoint: EndpointSpec,
): readonly StaticRoute[] {
  const routes = networkRoutes(name, text, network);
  const addresses = [endpoint.address, endpoint.addressV6].flatMap((own) =>
    own === undefined ? [] : [addressOf(own)],
  );
  for (const { destination, nextHop } of routes) {
    const family = familyOfPrefix(destination);
    if (!addresses.some((own) => familyOf(own) === family))
      throw refusal(name, destination, `the endpoint has no IPv${family} address`);
    if (nextHop !== undefined && addresses.includes(nextHop))
      throw refusal(name, destination, `the next hop ${nextHop} is the endpoint itself`);
  }
  return routes;
}

/** Of all endpoints of a network. Next hops must be in its subnets: a container reaches no other directly. */
export function networkRoutes(
  name: string,
  text: string | undefined,
  network: NetworkSpec,
): readonly StaticRoute[] {
  if (text === undefined || text.trim() === '') return [];
  const routes = text.split(/[,;]/).map((one) => routeValue(name, one.trim()));
  for (const [at, route] of routes.entries()) {
    assertFits(name, route, network);
    if (routes.findIndex(({ destination }) => destination === route.destination) !== at)
      throw refusal(name, route.destination, 'it is given twice');
  }
  return routes;
}

function routeValue(name: string, text: string): StaticRoute {
  const [, to = '', via] = /^(\S+)(?:\s+via\s+(\S+))?$/.exec(text) ?? [];
  const destination = destinationOf(to);
  const nextHop = via === undefined ? undefined : parseIp(via);
  if (destination === undefined || (via !== undefined && nextHop === undefined)) {
    throw invalidValue(
      name,
      text,
      'routes as 10.9.0.0/16 via 10.1.0.7 (through a next hop) or 192.168.5.0/24 (on link), separated by commas or semicolons',
    );
  }
  if (hasHostBits(destination))
    throw invalidValue(name, to, `a prefix without host bits, as ${networkOf(destination)}`);
  return { destination, ...(nextHop !== undefined && { nextHop }) };
}

/** A lone address is a route to that host, as for ip(8). */
function destinationOf(text: string): Prefix | undefined {
  const host = parseIp(text);
  return host === undefined ? parsePrefix(text) : prefixOf(host, familyOf(host) === 4 ? 32 : 128);
}

function assertFits(name: string, { destination, nextHop }: StaticRoute, network: NetworkSpec): void {
  const family = familyOfPrefix(destination);
  const pools = (family === 4 ? network.ipv4 : network.ipv6).map((subnet) => subnet.pool);
  if (lengthOf(destination) === 0) {
    throw refusal(
      name,
      destination,
      `the default route leads to the network's gateway; --aux-address DefaultGatewayIPv${family}=ADDRESS names another`,
    );
  }
  if (pools.length === 0) throw refusal(name, destination, `the network has no IPv${family} subnet`);
  if (pools.includes(destination)) throw refusal(name, destination, "it is the network's own subnet");
  if (nextHop === undefined || pools.some((pool) => contains(pool, nextHop))) return;
  const where = pools.join(' or ');
  throw refusal(name, destination, `the next hop ${nextHop} is not in the network's subnet ${where}`);
}

function refusal(name: string, destination: Prefix, why: string): CnmError {
  return new CnmError('option-invalid', `${name} cannot have the route to ${quote(destination)}: ${why}`);
}
