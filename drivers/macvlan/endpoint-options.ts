/** The options of an endpoint; given to the network instead, those that begin with `cnm.` hold for each of its endpoints that does not say otherwise. */
import { familyOf } from '../../address/ip.ts';
import { addressOf, contains } from '../../address/prefix.ts';
import { CnmError } from '../../cnm/errors.ts';
import type { EndpointSpec, NetworkSpec, StaticRoute } from '../../cnm/model.ts';
import { interfaceNameValue, invalidValue, quote } from '../../cnm/option-values.ts';
import { networkRoutes, staticRoutes } from '../../cnm/static-routes.ts';

export interface EndpointOptions {
  readonly routes: readonly StaticRoute[];
  /** What the interface's name begins with, where the endpoint has a wish of its own. */
  readonly ifacePrefix: string | undefined;
}

const ROUTES = 'cnm.routes';
const IFNAME = 'com.docker.network.endpoint.ifname';
const HOST_NAME = 'dhcp.hostname';
const CLIENT_ID = 'dhcp.client_id';
const KNOWN = [ROUTES, IFNAME, HOST_NAME, CLIENT_ID];

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

/** What the DHCP server of a network with `dhcp=true` is told: option 12, and option 61 in hex. @throws CnmError `option-invalid` */
export function clientOptions({ options }: EndpointSpec): {
  readonly hostName: string | undefined;
  readonly clientId: string | undefined;
} {
  return { hostName: hostNameValue(options[HOST_NAME]), clientId: clientIdValue(options[CLIENT_ID]) };
}

/** By what a DHCP server knows an endpoint that comes again; undefined: by nothing that the user said. */
export function knownAs({ options }: EndpointSpec): string | undefined {
  return options[CLIENT_ID] ?? options[HOST_NAME];
}

function assertKnown(name: string): void {
  if (KNOWN.includes(name)) return;
  throw new CnmError(
    'option-invalid',
    `cnm-macvlan does not know the option ${quote(name)} of an endpoint; it knows ${KNOWN.join(', ')}`,
  );
}

/** RFC 1123 section 2.1. */
export function isHostName(text: string): boolean {
  const label = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/i;
  return text.length <= 253 && text.split('.').every((part) => label.test(part));
}

function hostNameValue(text: string | undefined): string | undefined {
  if (text === undefined || isHostName(text)) return text;
  throw invalidValue(
    HOST_NAME,
    text,
    'a host name: letters, digits and hyphens, with dots between its parts',
  );
}

/** RFC 2132 section 9.14: a type and an identifier; type 0 is for what is no hardware address. */
function clientIdValue(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  if (/^[0-9a-f]{2}(:[0-9a-f]{2}){1,254}$/i.test(text)) return text.replaceAll(':', '').toLowerCase();
  if (/^[\x20-\x7e]{1,254}$/.test(text)) return `00${Buffer.from(text).toString('hex')}`;
  throw invalidValue(
    CLIENT_ID,
    text,
    'bytes in hex with colons between, the first of them the type (01:02:42:0a:00:00:07), or a text of 1 to 254 letters',
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
