/** The macvlan driver: containers with a MAC of their own on the wire of one of the host's interfaces. */
import { addressOf } from '../../address/prefix.ts';
import type { Appearance, Driver, PublishRequest } from '../../cnm/driver.ts';
import type { EndpointSpec, NetworkRecord, NetworkSpec, PortBinding } from '../../cnm/model.ts';
import type { Facts } from '../../kernel/facts.ts';
import type { Plan } from '../../kernel/step.ts';
import { check } from './check.ts';
import {
  assertMtu,
  assertNoOverlap,
  assertParent,
  assertSharing,
  assertSlaac,
  assertSubnets,
  type Neighbour,
} from './checks.ts';
import { assertLeasing, leaseRequest, parentMtu } from './dhcp.ts';
import { assertDefaults } from './endpoint-options.ts';
import { hostOnLan, shimAddresses, shimOf } from './host-access.ts';
import { type MacvlanOptions, parseOptions } from './options.ts';
import { warningOf } from './nics.ts';
import { carrierPlan, endpointPlan, joinInfo, macOf, networkPlan } from './plan.ts';
import { outageOf, wayTo, wireOf } from './wire.ts';

const NAME = 'cnm-macvlan';

export const macvlan: Driver = {
  name: NAME,
  scope: 'local',
  connectivityScope: 'global',
  network(spec, facts, others) {
    const options = parseOptions(spec.options);
    if (options.dhcp) assertLeasing(spec);
    else assertSubnets(spec);
    assertSlaac(spec, options);
    assertDefaults(spec);
    const wire = wireOf(spec.id, options);
    const onIt = neighbours(spec, others).filter((other) => other.wire === wire);
    assertSharing(options.mode, wire, onIt, facts);
    assertNoOverlap(spec, wire, onIt, others);
    return planOf(spec, options, facts, others);
  },
  found(spec, facts) {
    const options = parseOptions(spec.options);
    if (options.dhcp) return parentMtu(spec, options, facts);
    return options.hostAccess ? hostOnLan(spec, facts) : {};
  },
  leases: ({ options }) => parseOptions(options).dhcp,
  leaseRequest,
  // The router of the LAN is the user's: an address that nobody has must not become anybody's gateway.
  gatewaySkip: () => ({ 4: true, 6: true }),
  mac: (_network, endpoint) => macOf(endpoint),
  endpoint: endpointPlan,
  join: joinInfo,
  appearance,
  check,
  publishing: { requests: publishRequests, plan: () => [] },
};

function planOf(
  spec: NetworkSpec,
  options: MacvlanOptions,
  facts: Facts,
  others: readonly NetworkRecord[],
): Plan {
  const { parent, mtu } = options;
  if (parent === undefined) {
    assertMtu(spec, mtu, undefined);
    return carrierPlan(spec, options, facts);
  }
  const way = wayTo({ ...options, parent }, facts);
  assertParent(way, facts);
  assertMtu(spec, mtu, way.base);
  return networkPlan(spec, options, way, facts, others);
}

function neighbours(spec: NetworkSpec, others: readonly NetworkRecord[]): readonly Neighbour[] {
  return others
    .filter((network) => network.driver === NAME && network.id !== spec.id)
    .map((network) => {
      const options = parseOptions(network.options);
      return { network, options, wire: wireOf(network.id, options) };
    });
}

/** A container on the LAN is reached there, at its own address, and every port of it is: that is where it is published. */
function publishRequests(
  network: NetworkSpec,
  endpoint: EndpointSpec,
  ports: readonly PortBinding[],
): readonly PublishRequest[] {
  if (network.internal || parseOptions(network.options).parent === undefined) return [];
  const targets = [endpoint.address, endpoint.addressV6].flatMap((own) =>
    own === undefined ? [] : [{ ip: addressOf(own) }],
  );
  return ports.map(({ proto, port }) => ({ proto, port, targets, from: 0, to: 0 }));
}

function appearance(network: NetworkSpec, { host }: Facts): Appearance {
  const options = parseOptions(network.options);
  const device = wireOf(network.id, options);
  const fields: (readonly [string, string])[] = [
    ['parent', options.parent === undefined ? 'none: it leads nowhere' : device],
  ];
  let link = host.links.get(device);
  for (; link?.vlan !== undefined; link = host.links.get(link.parent ?? '')) {
    const { id, protocol } = link.vlan;
    fields.push(['vlan', `${id} (${protocol}) on ${link.parent ?? 'an interface elsewhere'}`]);
  }
  if (options.hostAccess)
    fields.push(['host', `${shimAddresses(network).join(', ')} by ${shimOf(network.id)}`]);
  fields.push(['mode', options.promisc ? options.mode : `${options.mode}, nopromisc`]);
  const promiscuity = host.links.get(device)?.promiscuity ?? 0;
  if (options.parent !== undefined) fields.push(['promiscuous', promiscuity > 0 ? 'yes' : 'no']);
  const warnings = [outageOf(device, options, host.links), link && warningOf(link)];
  return { device, fields, warnings: warnings.filter((warning) => warning !== undefined) };
}
