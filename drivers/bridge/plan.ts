/** What a bridge network and its endpoints are made of in the kernel. Pure. */
import { macFromIpv4, macFromSeed, type Mac } from '../../address/mac.ts';
import { addressOf, contains } from '../../address/prefix.ts';
import type { Prefix } from '../../address/prefix.ts';
import { CnmError } from '../../cnm/errors.ts';
import type { EndpointSpec, JoinInfo, NetworkSpec } from '../../cnm/model.ts';
import type { Facts } from '../../kernel/facts.ts';
import type { Mark, NftElement, Plan, Step } from '../../kernel/step.ts';
import { bridgeNameOf, vethNamesOf } from './names.ts';
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
    ...forwarding(spec),
    ...bridgeLink(spec, options, bridge, facts),
    ...gateways(spec, bridge, facts).map((prefix): Step => ({ do: 'addr.add', link: bridge, prefix })),
    { do: 'forward.accept', bridge, mark },
    { do: 'link.up', link: bridge },
  ];
}

/** A veth pair: one end is a port of the bridge, the other waits on the host for Docker, or for our own sandbox. */
export function endpointPlan(network: NetworkSpec, endpoint: EndpointSpec & { readonly mac: Mac }): Plan {
  const options = parseOptions(network.options);
  assertInside(network, endpoint);
  const { host, container } = vethNamesOf(endpoint.id);
  const bridge = bridgeOf(network, options);
  return [
    {
      do: 'link.add',
      name: host,
      mark: { network: network.id, endpoint: endpoint.id },
      link: { kind: 'veth', peer: { name: container, mac: endpoint.mac } },
      // A port of a bridge needs no address of its own, and each link-local address costs multicast reports.
      linkLocal: false,
      ...(options.mtu !== undefined && { mtu: options.mtu }),
    },
    { do: 'link.master', link: host, master: bridge },
    { do: 'link.up', link: host },
  ];
}

/**
 * An internal network returns no gateway, because Engine 20.10 installs one even there (acceptance.md §1.3), and keeps
 * docker_gwbridge away.
 */
export function joinInfo(network: NetworkSpec, endpoint: EndpointSpec): JoinInfo {
  const gateway = network.internal ? undefined : network.ipv4[0]?.gateway;
  const gatewayV6 =
    network.internal || endpoint.addressV6 === undefined ? undefined : network.ipv6[0]?.gateway;
  return {
    srcName: vethNamesOf(endpoint.id).container,
    dstPrefix: parseOptions(network.options).ifacePrefix,
    ...(gateway !== undefined && { gateway: addressOf(gateway) }),
    ...(gatewayV6 !== undefined && { gatewayV6: addressOf(gatewayV6) }),
    routes: [],
    disableGatewayService: network.internal,
  };
}

/** One MAC per IPv4 address, as Docker has it up to Engine 27: a neighbour's cache stays right when an address is reused. */
export function macOf(endpoint: EndpointSpec): Mac {
  return endpoint.address === undefined ? macFromSeed(endpoint.id) : macFromIpv4(addressOf(endpoint.address));
}

export function bridgeOf(spec: NetworkSpec, options: BridgeOptions): string {
  return options.bridgeName ?? bridgeNameOf(spec.id);
}

function firewall(spec: NetworkSpec, options: BridgeOptions, bridge: string): readonly NftElement[] {
  const sets: NftElement['set'][] = ['bridges'];
  if (spec.internal) sets.push('internal');
  if (!spec.internal && options.masquerade && spec.ipv4.length > 0) sets.push('masquerade4');
  if (!spec.internal && options.masquerade && spec.ipv6.length > 0) sets.push('masquerade6');
  return [
    ...sets.map((set): NftElement => ({ do: 'nft.element', set, key: [bridge] })),
    { do: 'nft.element', set: 'same_bridge', key: [bridge, bridge] },
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
  const add: Step = {
    do: 'link.add',
    name: bridge,
    mark: { network: spec.id },
    link: { kind: 'bridge' },
    // Given, so that the bridge does not take over the lowest MAC of its ports and change it with them (net/bridge/br_stp_if.c).
    mac: macFromSeed(spec.id),
    linkLocal: ipv6,
    ...(options.mtu !== undefined && { mtu: options.mtu }),
  };
  if (!ipv6) return [add];
  return [
    add,
    { do: 'sysctl.set', key: `net.ipv6.conf.${interfaceName}.disable_ipv6`, value: '0', keep: true },
    // A container must not make itself the host's router.
    { do: 'sysctl.set', key: `net.ipv6.conf.${interfaceName}.accept_ra`, value: '0', keep: true },
  ];
}

/** An address that the user's bridge has already is the user's: not in the plan, so it stays when the network goes. */
function gateways(spec: NetworkSpec, bridge: string, facts: Facts): readonly Prefix[] {
  const link = facts.host.links.get(bridge);
  const ours = link?.mark?.network === spec.id;
  const there = ours
    ? []
    : facts.host.addresses.filter((address) => address.link === bridge).map((address) => address.prefix);
  return [...spec.ipv4, ...spec.ipv6].flatMap(({ gateway }) =>
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
