/** Addresses from the DHCP server of the LAN (`dhcp=true`): what a network may be then, and as whom its endpoints ask. Pure. */
import { type Mac, macFromSeed } from '../../address/mac.ts';
import { lengthOf, networkOf, prefixOf } from '../../address/prefix.ts';
import { CnmError } from '../../cnm/errors.ts';
import type { LeaseRequest } from '../../cnm/leases.ts';
import type { EndpointSpec, NetworkSpec, PlannedNetwork } from '../../cnm/model.ts';
import type { Facts } from '../../kernel/facts.ts';
import { clientOptions, isHostName } from './endpoint-options.ts';
import { type MacvlanOptions, parseOptions } from './options.ts';
import { wayTo, wireOf } from './wire.ts';

/** @throws CnmError `option-invalid` */
export function assertLeasing(spec: NetworkSpec): void {
  const [subnet] = spec.ipv4;
  if (subnet !== undefined) {
    throw new CnmError(
      'option-invalid',
      `dhcp=true takes addresses from the DHCP server of the LAN, and the network has subnet ${subnet.pool} of an IPAM: create it with --ipam-driver null and no --subnet`,
    );
  }
  if (spec.ipv6.length > 0 || spec.enableIpv6) {
    throw new CnmError(
      'option-invalid',
      'dhcp=true is for IPv4 alone: there is no DHCPv6 here; create the network without --ipv6',
    );
  }
  if (!spec.enableIpv4)
    throw new CnmError('option-invalid', 'dhcp=true is for IPv4, which the network has not');
}

const FOUND_MTU = 'mtu';

/** A link on another is never larger than that one, whatever the server says. */
export function parentMtu(
  spec: NetworkSpec,
  options: MacvlanOptions,
  facts: Facts,
): Readonly<Record<string, string>> {
  const { parent } = options;
  const mtu = parent === undefined ? undefined : wayTo({ ...options, parent }, facts).base.mtu;
  return mtu === undefined ? {} : { [FOUND_MTU]: String(mtu) };
}

/** The MTU of an endpoint's link; undefined = its parent's. */
export function mtuOf(
  { found }: PlannedNetwork,
  { mtu }: MacvlanOptions,
  { leased }: EndpointSpec,
): number | undefined {
  if (leased?.mtu === undefined) return mtu;
  return Math.min(leased.mtu, mtu ?? Infinity, Number(found?.[FOUND_MTU] ?? Infinity));
}

/** The network as an endpoint sees it: with the subnet that its lease says. */
export function asLeased<T extends NetworkSpec>(network: T, { leased }: EndpointSpec): T {
  if (leased === undefined) return network;
  const { address, gateway } = leased;
  const subnet = {
    addressSpace: 'dhcp',
    pool: networkOf(address),
    ...(gateway !== undefined && { gateway: prefixOf(gateway, lengthOf(address)) }),
    aux: {},
  };
  return { ...network, ipv4: [subnet] };
}

/** @throws CnmError `option-invalid` */
export function leaseRequest(
  network: NetworkSpec,
  endpoint: EndpointSpec & { readonly mac: Mac },
): LeaseRequest {
  const { hostName, clientId } = clientOptions(endpoint);
  // A sandbox's name, where the DNS can have it.
  const { name } = endpoint;
  const called = hostName ?? (name !== undefined && isHostName(name) ? name : undefined);
  return {
    wire: wireOf(network.id, parseOptions(network.options)),
    ...(called !== undefined && { hostName: called }),
    ...(clientId !== undefined && { clientId }),
    returns: clientId !== undefined || endpoint.mac !== macFromSeed(endpoint.id),
  };
}
