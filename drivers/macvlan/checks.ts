/** Everything that can be wrong with a macvlan network, found before anything is changed. Pure. */
import { isMulticast, lengthOf, overlaps } from '../../address/prefix.ts';
import { CnmError } from '../../cnm/errors.ts';
import type { NetworkRecord, NetworkSpec, Subnet } from '../../cnm/model.ts';
import { invalidValue } from '../../cnm/option-values.ts';
import type { Facts, LinkFact } from '../../kernel/facts.ts';
import type { MacvlanOptions } from './options.ts';
import type { Way } from './wire.ts';

/** Another macvlan network, and the wire that it is on. */
export interface Neighbour {
  readonly network: NetworkRecord;
  readonly wire: string;
  readonly options: MacvlanOptions;
}

const MTU = 'com.docker.network.driver.mtu';
/** RFC 8200 section 5 */
const IPV6_LEAST_MTU = 1280;

export function assertSubnets(spec: NetworkSpec): void {
  const subnets = subnetsOf(spec);
  if (subnets.length === 0) {
    throw new CnmError('address-invalid', 'cnm-macvlan needs IPv4 or IPv6: the network has neither');
  }
  for (const [index, subnet] of subnets.entries()) {
    assertSubnet(subnet);
    const other = subnets.slice(0, index).find(({ pool }) => overlaps(pool, subnet.pool));
    if (other !== undefined) {
      throw new CnmError(
        'address-invalid',
        `Subnets ${other.pool} and ${subnet.pool} of one network overlap`,
      );
    }
  }
}

/** Where the network has no IPv6 its containers' interfaces have none at all, as Docker makes them. */
export function assertSlaac({ ipv6 }: NetworkSpec, { slaac }: MacvlanOptions): void {
  if (!slaac || ipv6.length > 0) return;
  throw new CnmError('option-invalid', 'slaac needs a network with IPv6: add --ipv6 and a subnet');
}

/** `--ipam-driver null` sends 0.0.0.0/0 in the address space "null" (libnetwork.md §0.1). */
function assertSubnet({ pool }: Subnet): void {
  if (lengthOf(pool) === 0) {
    throw new CnmError(
      'address-invalid',
      `cnm-macvlan needs a subnet, not ${pool}: the null IPAM driver gives no addresses; use --ipam-driver default or cnm-ipam`,
    );
  }
  if (isMulticast(pool)) {
    throw new CnmError('address-invalid', `${pool} is a multicast range; a network needs unicast addresses`);
  }
}

/** What no macvlan link can be made on (drivers/net/macvlan.c, macvlan_common_newlink()). */
export function assertParent({ base, vlans }: Way, facts: Facts): void {
  if (base.mac === undefined || base.name === 'lo') {
    throw new CnmError(
      'option-invalid',
      `parent cannot be "${base.name}": it is no Ethernet interface (it is ${base.kind ?? 'a device of another kind'})`,
    );
  }
  // A VLAN takes its frames before the bridge or bond does.
  const master = vlans.length > 0 ? undefined : facts.host.links.get(base.master ?? '');
  if (!['bridge', 'bond', 'team'].includes(master?.kind ?? '')) return;
  throw new CnmError(
    'option-invalid',
    `parent cannot be "${base.name}": it is a port of ${master?.name ?? ''}, which takes all its frames; use parent=${master?.name ?? ''}`,
  );
}

/** A link on another is never larger than that one. */
export function assertMtu(spec: NetworkSpec, mtu: number | undefined, base: LinkFact | undefined): void {
  if (base !== undefined && mtu !== undefined && mtu > base.mtu)
    throw invalidValue(MTU, String(mtu), `at most ${base.mtu}, which its parent ${base.name} has`);
  const own = mtu ?? base?.mtu ?? IPV6_LEAST_MTU;
  if (spec.ipv6.length === 0 || own >= IPV6_LEAST_MTU) return;
  throw new CnmError(
    'option-invalid',
    `${MTU} (mtu) cannot be "${own}"${mtu === undefined ? `, as its parent ${base?.name ?? ''} has it,` : ''} on a network with IPv6: it must be at least ${IPV6_LEAST_MTU}`,
  );
}

/** passthru takes everything that comes in by its parent, and so has it alone. */
export function assertSharing(
  mode: MacvlanOptions['mode'],
  wire: string,
  onIt: readonly Neighbour[],
  facts: Facts,
): void {
  const other = onIt.find(({ options }) => mode === 'passthru' || options.mode === 'passthru');
  if (other !== undefined) {
    const [which, whose] = mode === 'passthru' ? ['this network', 'used by'] : ['it', 'passed through to'];
    throw new CnmError(
      'network-conflict',
      `Parent ${wire} is ${whose} network ${nameOf(other.network)} already, and with mode passthru ${which} must have it alone; choose another parent or VLAN, or another macvlan_mode`,
    );
  }
  const stranger = [...facts.host.links.values()].find(
    (link) =>
      link.parent === wire &&
      link.macvlanMode !== undefined &&
      link.mark === undefined &&
      (mode === 'passthru' || link.macvlanMode === 'passthru'),
  );
  if (stranger === undefined) return;
  throw new CnmError(
    'network-conflict',
    `Parent ${wire} carries the macvlan link ${stranger.name} (mode ${stranger.macvlanMode ?? ''}), which is not ours; passthru works only where there is one link on a parent`,
  );
}

/**
 * Subnets are judged on each wire: the same one on another parent or VLAN is another network. On one wire the same subnet of the same
 * address space is one whose addresses its IPAM keeps apart (--ip-range); any other overlap could give an address twice. Nor beside one
 * that the host itself has an address in: who asks the host for it would not know which of the two is meant.
 */
export function assertNoOverlap(
  spec: NetworkSpec,
  wire: string,
  onIt: readonly Neighbour[],
  others: readonly NetworkRecord[],
): void {
  const hosts = others.filter(({ plan }) =>
    plan.some((step) => step.do === 'addr.add' && step.netns === undefined),
  );
  for (const subnet of subnetsOf(spec)) {
    const there = onIt.find(({ network }) => subnetsOf(network).some((theirs) => clash(theirs, subnet)));
    const other =
      there?.network ?? hosts.find((host) => subnetsOf(host).some(({ pool }) => overlaps(pool, subnet.pool)));
    if (other === undefined) continue;
    const on = there === undefined ? '' : `, which is on ${wire} too`;
    throw new CnmError(
      'network-conflict',
      `Subnet ${subnet.pool} overlaps a subnet of network ${nameOf(other)}${on}: one address could be given twice; choose another with --subnet`,
    );
  }
}

function clash(a: Subnet, b: Subnet): boolean {
  if (a.pool === b.pool && a.addressSpace === b.addressSpace) return false;
  return overlaps(a.pool, b.pool);
}

function subnetsOf({ ipv4, ipv6 }: NetworkSpec): readonly Subnet[] {
  return [...ipv4, ...ipv6];
}

function nameOf(network: NetworkRecord): string {
  return network.name ?? network.id.slice(0, 12);
}
