/** What a swarm's manager chooses for all nodes: VNIs where the user gave none, and that the nodes are the hosts. Pure. */
import { createHash } from 'node:crypto';
import { CnmError } from '../../cnm/errors.ts';
import type { NetworkSpec } from '../../cnm/model.ts';
import { OPTION, parseOptions, SWARM } from './options.ts';
import { segmentsOf } from './segments.ts';
import { VNI_LIMIT } from './vxlan.ts';

type Taken = Pick<NetworkSpec, 'id' | 'name' | 'driver' | 'options'>;

/** Docker's own overlay counts up from 4096 and sends from the same UDP port: the upper half is clear of it. */
const FIRST = VNI_LIMIT / 2;

/** @throws CnmError as options and subnets are refused, and `network-conflict` for a VNI of another network. */
export function allocateOptions(
  network: NetworkSpec,
  taken: readonly Taken[],
): Readonly<Record<string, string>> {
  const { id, driver, options } = network;
  const others = taken.filter((other) => other.driver === driver && other.id !== id);
  const given = options[OPTION.vni] ?? options[OPTION.vniList];
  const wanted = {
    // The manager gives all addresses of the network, so none is given twice.
    [OPTION.ranges]: 'any',
    [OPTION.peers]: SWARM,
    ...options,
    ...(given === undefined && { [OPTION.vni]: freeVnis(network, others).join(',') }),
  };
  const parsed = parseOptions({ options: wanted });
  segmentsOf(network, parsed);
  for (const vni of parsed.vnis) {
    const holder = others.find((other) => vnisOf(other).includes(vni));
    if (holder !== undefined)
      throw new CnmError(
        'network-conflict',
        `VNI ${vni} belongs to network ${holder.name ?? holder.id.slice(0, 12)} already; give this one another, or none, and one is chosen`,
      );
  }
  return wanted;
}

/** From where the network's id points to, so that managers that know of different networks hardly ever choose the same. */
function freeVnis({ id, ipv4, ipv6 }: NetworkSpec, others: readonly Taken[]): readonly number[] {
  const held = new Set(others.flatMap(vnisOf));
  const found: number[] = [];
  const start = createHash('sha256').update(id).digest().readUInt32BE();
  for (let n = 0; found.length < Math.max(ipv4.length, ipv6.length); n += 1) {
    const vni = FIRST + ((start + n) % (VNI_LIMIT - FIRST));
    if (n >= VNI_LIMIT - FIRST) throw new CnmError('network-conflict', 'Every VNI is taken');
    if (!held.has(vni)) found.push(vni);
  }
  return found;
}

function vnisOf({ options }: Taken): readonly number[] {
  return (options[OPTION.vni] ?? options[OPTION.vniList])?.split(',').map(Number) ?? [];
}
