/** Everything that can be wrong with a bridge network, found before anything is changed. Pure. */
import { isMulticast, lengthOf, overlaps } from '../../address/prefix.ts';
import { CnmError } from '../../cnm/errors.ts';
import type { NetworkRecord, NetworkSpec, Subnet } from '../../cnm/model.ts';
import type { Facts } from '../../kernel/facts.ts';

export function assertSubnets(spec: NetworkSpec): void {
  const { ipv4, ipv6 } = spec;
  if (ipv4.length === 0 && ipv6.length === 0) {
    throw new CnmError('address-invalid', 'cnm-bridge needs IPv4 or IPv6: the network has neither');
  }
  for (const [family, subnets] of [['IPv4', ipv4] as const, ['IPv6', ipv6] as const]) {
    if (subnets.length > 1) {
      const pools = subnets.map((subnet) => subnet.pool).join(', ');
      throw new CnmError(
        'address-invalid',
        `cnm-bridge takes one ${family} subnet, not ${subnets.length} (${pools}); create one network for each`,
      );
    }
    for (const subnet of subnets) assertSubnet(subnet);
  }
}

/** `--ipam-driver null` sends 0.0.0.0/0 in the address space "null" (libnetwork.md §0.1): a bridge cannot be addressed with it. */
function assertSubnet(subnet: Subnet): void {
  if (lengthOf(subnet.pool) === 0) {
    throw new CnmError(
      'address-invalid',
      `cnm-bridge needs a subnet, not ${subnet.pool}: the null IPAM driver gives no addresses; use --ipam-driver default or cnm-ipam`,
    );
  }
  if (isMulticast(subnet.pool)) {
    throw new CnmError(
      'address-invalid',
      `${subnet.pool} is a multicast range; a network needs unicast addresses`,
    );
  }
}

/** Below 1280 the kernel takes IPv6 off a link altogether (RFC 8200 section 5; net/ipv6/addrconf.c, addrconf_notify()). */
export function assertMtuCarriesIpv6(spec: NetworkSpec, mtu: number | undefined): void {
  if (spec.ipv6.length === 0 || mtu === undefined || mtu >= 1280) return;
  throw new CnmError(
    'option-invalid',
    `com.docker.network.driver.mtu (mtu) cannot be "${mtu}" on a network with IPv6: it must be at least 1280`,
  );
}

/** Two networks on one host with overlapping subnets would each make the other's containers unreachable. */
export function assertNoOverlap(spec: NetworkSpec, others: readonly NetworkRecord[]): void {
  for (const mine of [...spec.ipv4, ...spec.ipv6]) {
    for (const other of others) {
      const theirs = [...other.ipv4, ...other.ipv6].find((subnet) => overlaps(subnet.pool, mine.pool));
      if (theirs === undefined || other.id === spec.id) continue;
      throw new CnmError(
        'network-conflict',
        `Subnet ${mine.pool} overlaps ${theirs.pool} of network ${nameOf(other)}; choose another with --subnet`,
      );
    }
  }
}

export function assertBridgeUsable(
  spec: NetworkSpec,
  bridge: string,
  facts: Facts,
  others: readonly { readonly network: NetworkRecord; readonly bridge: string }[],
): void {
  const holder = others.find((other) => other.bridge === bridge && other.network.id !== spec.id);
  if (holder !== undefined) {
    throw new CnmError(
      'network-conflict',
      `Bridge ${bridge} belongs to network ${nameOf(holder.network)} already; a bridge carries one network`,
    );
  }
  const link = facts.host.links.get(bridge);
  if (link !== undefined && link.kind !== 'bridge') {
    throw new CnmError(
      'network-conflict',
      `Interface ${bridge} exists and is not a bridge (it is ${link.kind ?? 'a physical device'}); name another with com.docker.network.bridge.name`,
    );
  }
}

function nameOf(network: NetworkRecord): string {
  return network.name ?? network.id.slice(0, 12);
}
