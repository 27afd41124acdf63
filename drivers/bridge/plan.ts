/** What a bridge network and its endpoints are made of in the kernel. Pure. */
import { macFromIpv4, macFromSeed, type Mac } from '../../address/mac.ts';
import { addressOf, contains } from '../../address/prefix.ts';
import type { Prefix } from '../../address/prefix.ts';
import { CnmError } from '../../cnm/errors.ts';
import { familiesOf } from '../../cnm/families.ts';
import type { EndpointSpec, JoinInfo, NetworkSpec, Subnet } from '../../cnm/model.ts';
import { vethNamesOf } from '../../cnm/short-name.ts';
import type { Facts } from '../../kernel/facts.ts';
import type { Mark, NftElement, Plan, Step } from '../../kernel/step.ts';
import { endpointOptions, type Limit } from './endpoint-options.ts';
import { gateElements, gateLinks } from './gate.ts';
import { bridgeNameOf, ifbNameOf } from './names.ts';
import { type BridgeOptions, parseOptions } from './options.ts';

/**
 * The firewall first, so that no packet ever crosses the bridge unfiltered; then the bridge, its addresses, what Docker's
 * own firewall needs, and at last up.
 */
export function networkPlan(spec: NetworkSpec, options: BridgeOptions, facts: Facts): Plan {
  const bridge = bridgeOf(spec, options);
  const mark: Mark = { network: spec.id };
  return [
    ...firewall(spec, options, bridge),
    ...resolverElements(spec, options, bridge),
    ...forwarding(spec),
    ...bridgeLink(spec, options, bridge, facts),
    ...gateways(spec, options, bridge, facts).map((prefix): Step => ({
      do: 'addr.add',
      link: bridge,
      prefix,
    })),
    { do: 'forward.accept', bridge, mark },
    ...gateLinks(spec, options),
    { do: 'link.up', link: bridge },
  ];
}

/**
 * A veth pair: one end is a port of the bridge, the other waits on the host for Docker, or for our own sandbox. Limits stand before it is
 * up. Neighbours hear of it already now: whoever has the address's former owner in his cache would go on sending to him, and
 * no Engine below 28 tells them.
 */
export function endpointPlan(network: NetworkSpec, endpoint: EndpointSpec & { readonly mac: Mac }): Plan {
  const options = parseOptions(network.options);
  assertInside(network, endpoint);
  const { host, container } = vethNamesOf(endpoint.id);
  const bridge = bridgeOf(network, options);
  const mark: Mark = { network: network.id, endpoint: endpoint.id };
  const { limitIn, limitOut } = endpointOptions(network, endpoint, options.mtu);
  const addresses = [endpoint.address, endpoint.addressV6].flatMap((own) =>
    own === undefined ? [] : [addressOf(own)],
  );
  return [
    ...(limitOut === undefined ? [] : limiter(ifbNameOf(endpoint.id), mark, limitOut)),
    {
      do: 'link.add',
      name: host,
      mark,
      link: { kind: 'veth', peer: { name: container, mac: endpoint.mac } },
      // A port of a bridge needs no address of its own, and each link-local address costs multicast reports.
      linkLocal: false,
      ...(options.mtu !== undefined && { mtu: options.mtu }),
    },
    {
      do: 'link.master',
      link: host,
      master: bridge,
      // A container that asks for its own published port gets its packet back by the port that it came in by.
      hairpin: !network.internal,
      isolated: !options.icc,
    },
    // What leaves the host's end goes to the container; what comes in there comes from it.
    ...(limitIn === undefined ? [] : [{ do: 'qdisc.set' as const, link: host, ...limitIn }]),
    ...(limitOut === undefined
      ? []
      : [{ do: 'ingress.redirect' as const, link: host, to: ifbNameOf(endpoint.id) }]),
    { do: 'link.up', link: host },
    ...(addresses.length === 0
      ? []
      : [{ do: 'neigh.announce' as const, link: bridge, addresses, mac: endpoint.mac }]),
  ];
}

/**
 * A qdisc holds back what leaves a link, and what comes from a container enters the host: so it is led through a device of its own
 * that it leaves. Made before the veth pair, and so removed after it: never is anything led to where there is nothing.
 */
function limiter(name: string, mark: Mark, limit: Limit): readonly Step[] {
  return [
    { do: 'link.add', name, mark, link: { kind: 'ifb' }, linkLocal: false },
    { do: 'qdisc.set', link: name, ...limit },
    { do: 'link.up', link: name },
  ];
}

/**
 * An internal network returns no gateway, because Engine 20.10 installs one even there (acceptance.md §1.3), and keeps
 * docker_gwbridge away.
 */
export function joinInfo(network: NetworkSpec, endpoint: EndpointSpec): JoinInfo {
  const options = parseOptions(network.options);
  const { routes, ifacePrefix } = endpointOptions(network, endpoint, options.mtu);
  const gateway = network.internal ? undefined : gatewayOf(network.ipv4[0], 'DefaultGatewayIPv4');
  const gatewayV6 =
    network.internal || endpoint.addressV6 === undefined
      ? undefined
      : gatewayOf(network.ipv6[0], 'DefaultGatewayIPv6');
  return {
    srcName: vethNamesOf(endpoint.id).container,
    dstPrefix: ifacePrefix ?? options.ifacePrefix,
    ...(gateway !== undefined && { gateway: addressOf(gateway) }),
    ...(gatewayV6 !== undefined && { gatewayV6: addressOf(gatewayV6) }),
    routes,
    disableGatewayService: network.internal,
  };
}

/** `--aux-address DefaultGatewayIPv4=…` names a router other than the bridge, as with Docker's driver. */
function gatewayOf(subnet: Subnet | undefined, auxiliary: string): Prefix | undefined {
  return subnet?.aux[auxiliary] ?? subnet?.gateway;
}

/**
 * One MAC per address, as Docker has it up to Engine 27: a neighbour's cache stays right when an address is reused, and a
 * container that gets its former address back has its former MAC.
 */
export function macOf({ id, network, address, addressV6 }: EndpointSpec): Mac {
  if (address !== undefined) return macFromIpv4(addressOf(address));
  return macFromSeed(addressV6 === undefined ? id : `${network} ${addressOf(addressV6)}`);
}

export function bridgeOf(spec: NetworkSpec, options: BridgeOptions): string {
  return options.bridgeName ?? bridgeNameOf(spec.id);
}

function firewall(spec: NetworkSpec, options: BridgeOptions, bridge: string): readonly NftElement[] {
  const element = (set: NftElement['set'], ...key: string[]): NftElement => ({ do: 'nft.element', set, key });
  const elements = [element('bridges', bridge)];
  if (options.icc) elements.push(element('same_bridge', bridge, bridge));
  if (spec.internal) return [...elements, element('internal', bridge)];
  elements.push(element('hairpin', bridge, bridge));
  for (const family of familiesOf(spec)) elements.push(...gatewayElements(options, bridge, family));
  return [
    ...elements,
    ...options.trustedInterfaces.map((name) => element('trusted', name, bridge)),
    ...gateElements(spec, options, bridge),
  ];
}

/** What the gateway mode of one family means; a routed network keeps its addresses. */
function gatewayElements(options: BridgeOptions, bridge: string, family: 4 | 6): readonly NftElement[] {
  const mode = options.gatewayMode[family];
  const hostAddress = options.hostAddress[family];
  if (mode === 'routed') return [{ do: 'nft.element', set: `routed${family}`, key: [bridge] }];
  const elements: NftElement[] = [];
  if (mode === 'nat-unprotected')
    elements.push({ do: 'nft.element', set: `unprotected${family}`, key: [bridge] });
  if (!options.masquerade) return elements;
  if (hostAddress === undefined)
    elements.push({ do: 'nft.element', set: `masquerade${family}`, key: [bridge] });
  else elements.push({ do: 'nft.element', set: `snat${family}`, key: [bridge], data: [hostAddress] });
  return elements;
}

/** Gateways at which containers find the resolver. Not link-local ones, which mean nothing without their interface. */
function resolverElements(spec: NetworkSpec, options: BridgeOptions, bridge: string): readonly NftElement[] {
  if (options.dns === 'off') return [];
  const addresses = subnetsWithGateway(spec, options).flatMap(({ gateway }) =>
    gateway === undefined ? [] : [addressOf(gateway)],
  );
  return addresses
    .filter((address) => !/^(?:fe[89ab]|169\.254\.)/.test(address))
    .map((address) => ({
      do: 'nft.element',
      set: `dns${address.includes(':') ? 6 : 4}`,
      key: [bridge, address],
    }));
}

/** Those whose gateway address stands on the bridge. */
function subnetsWithGateway(spec: NetworkSpec, options: BridgeOptions): readonly Subnet[] {
  return [
    ...(options.inhibitIpv4 || options.gatewayMode[4] === 'isolated' ? [] : spec.ipv4),
    ...(options.gatewayMode[6] === 'isolated' ? [] : spec.ipv6),
  ];
}

/** Switched on when a network first needs it, as Docker does, and left on: others may have come to depend on it. */
function forwarding(spec: NetworkSpec): readonly Step[] {
  if (spec.internal) return [];
  const steps: Step[] = [];
  if (spec.ipv4.length > 0)
    steps.push({ do: 'sysctl.set', key: 'net.ipv4.ip_forward', value: '1', keep: true });
  if (spec.ipv6.length > 0) {
    steps.push({ do: 'sysctl.set', key: 'net.ipv6.conf.default.forwarding', value: '1', keep: true });
    steps.push({ do: 'sysctl.set', key: 'net.ipv6.conf.all.forwarding', value: '1', keep: true });
  }
  return steps;
}

/** A bridge that the user made is used as it is: not in the plan, so never changed in its settings and never deleted. */
function bridgeLink(
  spec: NetworkSpec,
  options: BridgeOptions,
  bridge: string,
  facts: Facts,
): readonly Step[] {
  const existing = facts.host.links.get(bridge);
  if (existing !== undefined && existing.mark?.network !== spec.id) return [];
  const ipv6 = spec.ipv6.length > 0;
  const interfaceName = bridge.replaceAll('.', '/');
  const steps: Step[] = [];
  const add: Step = {
    do: 'link.add',
    name: bridge,
    mark: { network: spec.id },
    link: { kind: 'bridge' },
    // Given, so that the bridge does not take over the lowest MAC of its ports and change it with them (net/bridge/br_stp_if.c).
    mac: macFromSeed(spec.id),
    // An isolated bridge has no address at all: a link-local one would be the host's door to its containers.
    linkLocal: ipv6 && options.gatewayMode[6] !== 'isolated',
    ...(options.mtu !== undefined && { mtu: options.mtu }),
  };
  const own = (family: string, key: string, value: string): Step => ({
    do: 'sysctl.set',
    key: `net.${family}.conf.${interfaceName}.${key}`,
    value,
    keep: true,
  });
  // A container must not make itself the host's router. Nobody else can have the bridge's addresses: while the kernel still asks
  // around for its link-local one, a second and more, it looks for no neighbour on behalf of others (ndisc_send_ns()), so that
  // nothing would be forwarded to a first container.
  if (ipv6)
    steps.push(
      own('ipv6', 'disable_ipv6', '0'),
      own('ipv6', 'accept_ra', '0'),
      own('ipv6', 'accept_dad', '0'),
    );
  return [add, ...steps];
}

/**
 * None for a family whose mode is isolated, nor for IPv4 where it is inhibited. An address that the user's bridge has already is
 * the user's: not in the plan, so it stays when the network goes.
 */
function gateways(
  spec: NetworkSpec,
  options: BridgeOptions,
  bridge: string,
  facts: Facts,
): readonly Prefix[] {
  const link = facts.host.links.get(bridge);
  const ours = link?.mark?.network === spec.id;
  const there = ours
    ? []
    : facts.host.addresses.filter((address) => address.link === bridge).map((address) => address.prefix);
  return subnetsWithGateway(spec, options).flatMap(({ gateway }) =>
    gateway === undefined || there.includes(gateway) ? [] : [gateway],
  );
}

function assertInside(network: NetworkSpec, endpoint: EndpointSpec): void {
  const pairs = [
    [endpoint.address, network.ipv4[0]?.pool],
    [endpoint.addressV6, network.ipv6[0]?.pool],
  ] as const;
  for (const [address, pool] of pairs) {
    if (address === undefined || (pool !== undefined && contains(pool, addressOf(address)))) continue;
    throw new CnmError(
      'address-invalid',
      `Address ${address} is not inside the network's subnet ${pool ?? '(none of this family)'}`,
    );
  }
}
