/** What a DHCP server has given an endpoint, for people. Pure. */
import type { Ip } from '../address/ip.ts';
import type { LeaseView } from '../ipam/dhcp/leases.ts';

export interface EndpointLease {
  /** Who gave it. */
  readonly server: Ip;
  /** What its client does: `bound`, `renewing`, … */
  readonly phase: LeaseView['phase'];
  /** When it is asked for again, and when it ends; absent: never. */
  readonly renews?: string;
  readonly expires?: string;
  /** Pairs of hex digits with colons between. */
  readonly clientId: string;
  readonly hostName?: string;
  readonly dns: readonly Ip[];
  readonly domain?: string;
}

/** The last moment that has a date (ECMA-262, 21.4.1.1). */
const LAST = 8.64e15;

export function endpointLease({ lease, identity, phase }: LeaseView): EndpointLease {
  const { hostName } = identity;
  const { server, renewAt, expiresAt, dns, domain } = lease;
  const date = (at: number) => new Date(at).toISOString();
  return {
    server,
    phase,
    ...(expiresAt <= LAST && { renews: date(renewAt), expires: date(expiresAt) }),
    clientId: identity.clientId.match(/../g)?.join(':') ?? '',
    ...(hostName !== undefined && { hostName }),
    dns,
    ...(domain !== undefined && { domain }),
  };
}

/** Names and values, as they stand below the endpoint's own. */
export function leaseFields(lease: EndpointLease): readonly (readonly [string, string])[] {
  const { server, phase, renews, expires, clientId, hostName, dns, domain } = lease;
  const until = expires === undefined ? 'for ever' : `until ${expires}, renewed from ${renews ?? ''}`;
  return [
    ['lease', `of ${server}, ${until} (${phase})`],
    ['client id', clientId],
    ...(hostName === undefined ? [] : [['host name', hostName] as const]),
    ...(dns.length === 0 ? [] : [['its dns', dns.join(', ')] as const]),
    ...(domain === undefined ? [] : [['its domain', domain] as const]),
  ];
}
