/** What a macvlan network and its endpoints are made of in the kernel. Pure. */
import type { Ip } from '../../address/ip.ts';
import { macFromIpv4, macFromSeed, type Mac } from '../../address/mac.ts';
import { addressOf, contains } from '../../address/prefix.ts';
import { SHARED } from '../../cnm/driver.ts';
import { IPV6_DISABLED } from '../../cnm/families.ts';
import { CnmError } from '../../cnm/errors.ts';
import type {
  EndpointSpec,
  JoinInfo,
  NetworkRecord,
  NetworkSpec,
  PlannedNetwork,
  Subnet,
} from '../../cnm/model.ts';
import { shortOf } from '../../cnm/short-name.ts';
import type { Facts } from '../../kernel/facts.ts';
import type { Mark, Plan, Step } from '../../kernel/step.ts';
import { asLeased, mtuOf } from './dhcp.ts';
import { endpointOptions, knownAs } from './endpoint-options.ts';
import { routesFrom, routesTo, shimPlan } from './host-access.ts';
import { type MacvlanOptions, parseOptions } from './options.ts';
import { carrierNamesOf, type Vlan, type Way, wireOf } from './wire.ts';

/** Nothing but the VLANs that are missing on the way to the wire: an interface that was there is never changed. */
export function networkPlan(
  spec: NetworkSpec,
  options: MacvlanOptions,
  { base, vlans }: Way,
  facts: Facts,
  others: readonly NetworkRecord[],
): Plan {
  return [
    ...vlans.flatMap((vlan) => vlanSteps(vlan, hasIpv6(facts, base.mtu))),
    ...promiscuity(wireOf(spec.id, options), options, facts, others),
    ...access(spec, options, hasIpv6(facts, options.mtu ?? base.mtu)),
  ];
}

/** Who made it promiscuous before any of our networks did will want it so when they are gone. */
function promiscuity(
  wire: string,
  { promiscuous }: MacvlanOptions,
  { host }: Facts,
  others: readonly NetworkRecord[],
): Plan {
  if (!promiscuous) return [];
  const isOurs = others.some(({ plan }) =>
    plan.some((step) => step.do === 'link.promisc' && step.link === wire),
  );
  return host.links.get(wire)?.promisc === true && !isOurs ? [] : [{ do: 'link.promisc', link: wire }];
}

/** Below 1280 bytes a link has no IPv6 (addrconf_notify()), and none of its sysctls. */
function hasIpv6({ host }: Facts, mtu: number): boolean {
  return host.sysctls.has(IPV6_DISABLED) && mtu >= 1280;
}

function access(spec: NetworkSpec, options: MacvlanOptions, ipv6: boolean): Plan {
  return options.hostAccess ? shimPlan(spec, wireOf(spec.id, options), options.mtu, ipv6) : [];
}

/** In the same words for every network that is on it, or on a VLAN within it: see SHARED. */
function vlanSteps({ name, parent, id, protocol }: Vlan, ipv6: boolean): readonly Step[] {
  return [
    { do: 'link.add', name, mark: SHARED, link: { kind: 'vlan', parent, id, protocol } },
    ...(ipv6 ? [hostStaysOut(name)] : []),
    { do: 'link.up', link: name },
  ];
}

/** It is there for containers: a router that advertises itself on the VLAN must not give the host an address there, nor a way out. */
function hostStaysOut(name: string): Step {
  const key = `net.ipv6.conf.${name.replaceAll('.', '/')}.disable_ipv6`;
  return { do: 'sysctl.set', key, value: '1', keep: true };
}

/**
 * A network without a parent is on a veth pair that leads nowhere: it has a carrier, which a bridge without ports has not, and every
 * kernel with containers has it, which is not so of Docker's dummy.
 */
export function carrierPlan(spec: NetworkSpec, options: MacvlanOptions, facts: Facts): Plan {
  const { mtu } = options;
  const { carrier, end } = carrierNamesOf(spec.id);
  return [
    {
      do: 'link.add',
      name: carrier,
      mark: { network: spec.id },
      link: { kind: 'veth', peer: { name: end } },
      linkLocal: false,
      ...(mtu !== undefined && { mtu }),
    },
    { do: 'link.up', link: end },
    { do: 'link.up', link: carrier },
    ...access(spec, options, hasIpv6(facts, mtu ?? 1500)),
  ];
}

/** A macvlan link, which waits on the host for Docker, or for our own sandbox. It is not up there: nothing of the host's uses it. */
export function endpointPlan(planned: PlannedNetwork, endpoint: EndpointSpec & { readonly mac: Mac }): Plan {
  const network = asLeased(planned, endpoint);
  const options = parseOptions(network.options);
  endpointOptions(network, endpoint);
  if (!options.dhcp && knownAs(endpoint) !== undefined) {
    throw new CnmError(
      'option-invalid',
      'dhcp.hostname and dhcp.client_id are for the DHCP server of a network with dhcp=true, which this one is not',
    );
  }
  const mtu = mtuOf(network, options, endpoint);
  for (const address of [endpoint.address, endpoint.addressV6]) {
    if (address !== undefined) subnetOf(network, addressOf(address));
  }
  const mark: Mark = { network: network.id, endpoint: endpoint.id };
  return [
    ...probe(network, options, endpoint),
    {
      do: 'link.add',
      name: linkNameOf(endpoint.id),
      mark,
      link: {
        kind: 'macvlan',
        parent: wireOf(network.id, options),
        mode: options.mode,
        ...(!options.promisc && { promisc: false }),
      },
      // With passthru it has the parent's until its sandbox gives it its own, which the parent then takes over.
      ...(options.mode !== 'passthru' && { mac: endpoint.mac }),
      ...(mtu !== undefined && { mtu }),
    },
    ...(options.hostAccess ? routesTo(endpoint, network.id) : []),
    ...announcement(wireOf(network.id, options), endpoint),
  ];
}

/** Who on the LAN has the address's former owner in his cache would go on sending to him, and no Engine below 28 tells him. */
function probe(
  { id }: NetworkSpec,
  options: MacvlanOptions,
  endpoint: EndpointSpec & { readonly mac: Mac },
): readonly Step[] {
  const { probe: taken, parent } = options;
  const addresses = addressesOf(endpoint);
  if (taken === 'off' || parent === undefined || addresses.length === 0) return [];
  return [{ do: 'neigh.probe', link: wireOf(id, options), addresses, mac: endpoint.mac, taken }];
}

function addressesOf({ address, addressV6 }: EndpointSpec): readonly Ip[] {
  return [address, addressV6].flatMap((own) => (own === undefined ? [] : [addressOf(own)]));
}

function announcement(wire: string, endpoint: EndpointSpec & { readonly mac: Mac }): readonly Step[] {
  const addresses = addressesOf(endpoint);
  return addresses.length === 0 ? [] : [{ do: 'neigh.announce', link: wire, addresses, mac: endpoint.mac }];
}

/**
 * Its gateway is the router of the LAN, the one of the subnet that its address is in. docker_gwbridge is kept away always, as by Docker's
 * own driver: a container on the LAN is not to have a second way out.
 */
export function joinInfo(planned: PlannedNetwork, endpoint: EndpointSpec): JoinInfo {
  const network = asLeased(planned, endpoint);
  const options = parseOptions(network.options);
  const { routes, ifacePrefix } = endpointOptions(network, endpoint);
  const isInternal = network.internal || options.parent === undefined;
  const leasedRoutes = isInternal ? [] : (endpoint.leased?.routes ?? []);
  const gateway = isInternal ? undefined : gatewayOf(network, endpoint.address);
  const gatewayV6 = isInternal ? undefined : gatewayOf(network, endpoint.addressV6);
  return {
    srcName: linkNameOf(endpoint.id),
    dstPrefix: ifacePrefix ?? options.ifacePrefix,
    ...(gateway !== undefined && { gateway }),
    ...(gatewayV6 !== undefined && { gatewayV6 }),
    routes: [...(options.hostAccess ? routesFrom(network, endpoint) : []), ...leasedRoutes, ...routes],
    // An advertisement must not give a container a second address and another way out, unless the user wants it to.
    ...(network.ipv6.length > 0 && { routerAdvertisements: options.slaac }),
    disableGatewayService: true,
  };
}

function gatewayOf(network: NetworkSpec, own: EndpointSpec['address']): JoinInfo['gateway'] {
  if (own === undefined) return undefined;
  const { gateway } = subnetOf(network, addressOf(own));
  return gateway === undefined ? undefined : addressOf(gateway);
}

/** @throws CnmError `address-invalid` when no subnet of the network has the address. */
function subnetOf(network: NetworkSpec, address: ReturnType<typeof addressOf>): Subnet {
  const subnets = [...network.ipv4, ...network.ipv6];
  const subnet = subnets.find(({ pool }) => contains(pool, address));
  if (subnet !== undefined) return subnet;
  const pools = subnets.map(({ pool }) => pool).join(', ');
  throw new CnmError('address-invalid', `Address ${address} is in none of the network's subnets: ${pools}`);
}

/**
 * The same for the same container, where its name is known; otherwise the same for the same address: the caches of the LAN, which
 * keep an address for minutes or hours, stay right when a container is made anew.
 */
export function macOf(endpoint: EndpointSpec): Mac {
  const { id, network, address, addressV6 } = endpoint;
  const name = endpoint.name ?? knownAs(endpoint);
  if (name !== undefined) return macFromSeed(`${network} name ${name}`);
  if (address !== undefined) return macFromIpv4(addressOf(address));
  return macFromSeed(addressV6 === undefined ? id : `${network} ${addressOf(addressV6)}`);
}

function linkNameOf(endpointId: string): string {
  return `cnmm${shortOf(endpointId)}`;
}
