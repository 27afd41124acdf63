/**
 * The host's way to its own macvlan containers (`host_access=true`), which the kernel gives nobody: what the host sends out by the parent
 * goes to the wire, and the wire sends nothing back. A macvlan link of the host's own, the shim, is a neighbour of the containers.
 *
 * It takes no address of the LAN: it has link-local and private ones that only the host and its containers know, and answers for no
 * other (arp_ignore). The host has a route to each container by it. Each container has one to the shim, and by it to the addresses
 * that the host has on the LAN.
 */
import { createHash } from 'node:crypto';
import { familyOf, ip, type Ip } from '../../address/ip.ts';
import { macFromSeed } from '../../address/mac.ts';
import { addressOf, contains, type Prefix, prefixOf } from '../../address/prefix.ts';
import type { EndpointSpec, NetworkSpec, PlannedNetwork, StaticRoute } from '../../cnm/model.ts';
import { shortOf } from '../../cnm/short-name.ts';
import type { Facts } from '../../kernel/facts.ts';
import type { Plan, Step } from '../../kernel/step.ts';

export function shimOf(network: string): string {
  return `cnmh${shortOf(network)}`;
}

/** The shim's addresses, of the families that the network has; different for each network, because a container may be on several. */
export function shimAddresses({ id, ipv4, ipv6 }: NetworkSpec): readonly Ip[] {
  return [...(ipv4.length > 0 ? [address4(id)] : []), ...(ipv6.length > 0 ? [address6(id)] : [])];
}

/** Of RFC 3927's range without the networks that it reserves, that of the gates (address/gate.ts), and that of clouds' metadata servers. */
function address4(id: string): Ip {
  const [first = 0, last = 0] = hashOf(id);
  const third = 1 + (first % 254);
  return ip(`169.254.${third === 157 || third === 169 ? 1 : third}.${1 + (last % 254)}`);
}

/** Beside those of the gates, in the private prefix that is theirs. */
function address6(id: string): Ip {
  const groups = [2, 4, 6, 8].map((at) => hashOf(id).readUInt16BE(at).toString(16));
  return ip(`fd9d:7b6a:6d2f:1:${groups.join(':')}`);
}

function hashOf(id: string): Buffer {
  return createHash('sha256').update(`host ${id}`).digest();
}

export function shimPlan(spec: NetworkSpec, wire: string, mtu: number | undefined, hasIpv6: boolean): Plan {
  const shim = shimOf(spec.id);
  const own = (family: 'ipv4' | 'ipv6', key: string, value: string): Step => ({
    do: 'sysctl.set',
    key: `net.${family}.conf.${shim}.${key}`,
    value,
    keep: true,
  });
  // A router that advertises itself must not give the host an address by this way.
  const ipv6 = spec.ipv6.length > 0 ? [own('ipv6', 'accept_ra', '0')] : [own('ipv6', 'disable_ipv6', '1')];
  return [
    {
      do: 'link.add',
      name: shim,
      mark: { network: spec.id },
      link: { kind: 'macvlan', parent: wire, mode: 'bridge' },
      mac: macFromSeed(`host ${spec.id}`),
      ...(mtu !== undefined && { mtu }),
    },
    // Asked on the LAN for the host's addresses, only the parent answers; and it asks with its own.
    own('ipv4', 'arp_ignore', '1'),
    own('ipv4', 'arp_announce', '2'),
    ...(hasIpv6 ? ipv6 : []),
    ...shimAddresses(spec).map((address): Step => ({ do: 'addr.add', link: shim, prefix: whole(address) })),
    { do: 'link.up', link: shim },
  ];
}

/** The host's routes to a container. */
export function routesTo({ address, addressV6 }: EndpointSpec, network: string): readonly Step[] {
  return [address, addressV6].flatMap((own) =>
    own === undefined ? [] : [{ do: 'route.add', to: whole(addressOf(own)), link: shimOf(network) } as const],
  );
}

const FOUND = 'host';

/** The addresses by which the LAN knows the host: containers take the shim to them. */
export function hostOnLan(spec: NetworkSpec, { host }: Facts): Readonly<Record<string, string>> {
  const pools = [...spec.ipv4, ...spec.ipv6].map(({ pool }) => pool);
  const addresses = host.addresses
    .map(({ prefix }) => addressOf(prefix))
    .filter((address) => pools.some((pool) => contains(pool, address)));
  return { [FOUND]: [...new Set(addresses)].join(' ') };
}

/** A container's routes to the host. */
export function routesFrom(network: PlannedNetwork, endpoint: EndpointSpec): readonly StaticRoute[] {
  const known = (network.found?.[FOUND] ?? '').split(' ').filter(Boolean).map(ip);
  return shimAddresses(network).flatMap((shim) => {
    const family = familyOf(shim);
    if ((family === 4 ? endpoint.address : endpoint.addressV6) === undefined) return [];
    const onLan = known.filter((address) => familyOf(address) === family);
    return [
      { destination: whole(shim) },
      ...onLan.map((address) => ({ destination: whole(address), nextHop: shim })),
    ];
  });
}

function whole(address: Ip): Prefix {
  return prefixOf(address, familyOf(address) === 4 ? 32 : 128);
}
