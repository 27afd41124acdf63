/** The options of an endpoint; given to the network instead, those that begin with `cnm.` hold for each of its endpoints that does not say otherwise. */
import { familyOf } from '../../address/ip.ts';
import { addressOf, contains } from '../../address/prefix.ts';
import { CnmError } from '../../cnm/errors.ts';
import type { EndpointSpec, NetworkSpec, StaticRoute } from '../../cnm/model.ts';
import { interfaceNameValue, quote } from '../../cnm/option-values.ts';
import { networkRoutes, staticRoutes } from '../../cnm/static-routes.ts';

export interface EndpointOptions {
  readonly routes: readonly StaticRoute[];
  /** What the interface's name begins with, where the endpoint has a wish of its own. */
  readonly ifacePrefix: string | undefined;
}

const ROUTES = 'cnm.routes';
const IFNAME = 'com.docker.network.endpoint.ifname';

/** Those that a network may have, too, as defaults. */
export const ENDPOINT_DEFAULTS: readonly string[] = [ROUTES];

/** @throws CnmError `option-invalid`. */
export function assertDefaults(network: NetworkSpec): void {
  networkRoutes(ROUTES, network.options[ROUTES], network);
}

/** @throws CnmError `option-invalid`, naming option, value and what would be right. */
export function endpointOptions(network: NetworkSpec, endpoint: EndpointSpec): EndpointOptions {
  const own = endpoint.options;
  for (const name of Object.keys(own)) assertKnown(name);
  return {
    routes: Object.hasOwn(own, ROUTES)
      ? staticRoutes(ROUTES, own[ROUTES], network, endpoint)
      : networkRoutes(ROUTES, network.options[ROUTES], network).filter((route) =>
          leads(route, network, endpoint),
        ),
    ifacePrefix: own[IFNAME] === undefined ? undefined : interfaceNameValue(IFNAME, own[IFNAME]),
  };
}

function assertKnown(name: string): void {
  if (name === IFNAME || ENDPOINT_DEFAULTS.includes(name)) return;
  throw new CnmError(
    'option-invalid',
    `cnm-macvlan does not know the option ${quote(name)} of an endpoint; it knows ${[...ENDPOINT_DEFAULTS, IFNAME].join(', ')}`,
  );
}

/** A network's route leads an endpoint somewhere when it has an address of that family, from which the next hop is on link. */
function leads({ destination, nextHop }: StaticRoute, network: NetworkSpec, endpoint: EndpointSpec): boolean {
  const family = destination.includes(':') ? 6 : 4;
  const own = family === 6 ? endpoint.addressV6 : endpoint.address;
  if (own === undefined || nextHop === undefined) return own !== undefined;
  if (familyOf(nextHop) !== family) return false;
  const subnets = family === 6 ? network.ipv6 : network.ipv4;
  return subnets.some(({ pool }) => contains(pool, addressOf(own)) && contains(pool, nextHop));
}
