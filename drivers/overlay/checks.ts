/** What can be wrong between an overlay network and the host, or other networks, found before anything is changed. Pure. */
import { CnmError } from '../../cnm/errors.ts';
import type { NetworkRecord, NetworkSpec } from '../../cnm/model.ts';
import type { Facts } from '../../kernel/facts.ts';
import { givenOptions, type OverlayOptions, parseOptions } from './options.ts';

/** Two networks with one VNI would be one: the kernel takes it once for a port (vxlan_vni_in_use()). */
export function assertVnisFree(
  spec: NetworkSpec,
  { vnis, port }: OverlayOptions,
  others: readonly NetworkRecord[],
  facts: Facts,
): void {
  for (const vni of vnis) {
    const holder = others.find((other) => other.id !== spec.id && holds(other, spec.driver, vni, port));
    if (holder !== undefined)
      throw new CnmError(
        'network-conflict',
        `VNI ${vni} on UDP port ${port} belongs to network ${holder.name ?? holder.id.slice(0, 12)} already; give this one another`,
      );
    const stranger = [...facts.host.links.values()].find(
      ({ vxlan }) => vxlan?.vni === vni && vxlan.port === port,
    );
    if (stranger !== undefined)
      throw new CnmError(
        'network-conflict',
        `VNI ${vni} on UDP port ${port} is taken by the link ${stranger.name} of this host; choose another VNI or port`,
      );
  }
}

/** @throws CnmError `option-invalid` when an address of the network may be given on two hosts. */
export function assertSharedAddresses({ agreement, options, ipv4, ipv6 }: NetworkSpec): void {
  if (agreement === undefined || givenOptions(options).given.ranges !== undefined) return;
  const stray = [...ipv4, ...ipv6].find(({ pool }) => !agreement.shared.includes(pool));
  if (stray === undefined) return;
  throw new CnmError(
    'option-invalid',
    `The addresses of ${stray.pool} come from an IPAM that does not know the other hosts, and would be given twice: ` +
      `use --ipam-driver cnm-ipam --ipam-opt space=cnm-global; or say with -o ip-range, and --ip-range, which part of it is this host's`,
  );
}

function holds(other: NetworkRecord, driver: string, vni: number, port: number): boolean {
  if (other.driver !== driver) return false;
  const theirs = parseOptions(other);
  return theirs.port === port && theirs.vnis.includes(vni);
}
