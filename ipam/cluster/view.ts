/** The cluster as tools see it. */
import { ipValue } from '../../address/ip.ts';
import { firstOf } from '../../address/prefix.ts';
import { CnmError } from '../../cnm/errors.ts';
import type { ClusterHost, ClusterView, SharedPoolView } from '../ipam.ts';
import type { Range } from '../pool.ts';
import type { Holder } from './pool-state.ts';
import { hostText } from './refusals.ts';
import type { ClusterSpace } from './space.ts';

export function clusterView(space: ClusterSpace): ClusterView {
  return {
    name: space.name,
    get reachable() {
      return space.mirror.current;
    },
    get trouble() {
      return space.trouble;
    },
    get hosts() {
      return hostsOf(space);
    },
    async forget(host) {
      if (!hostsOf(space).some(({ id }) => id === host))
        throw new CnmError(
          'request-invalid',
          `No host ${JSON.stringify(host)} has anything in the cluster: cnm ipam ls lists them`,
        );
      await space.forget(host);
    },
  };
}

/** This one first; those that are there by name, and those that are away and hold something still. */
function hostsOf({ mirror, me }: ClusterSpace): readonly ClusterHost[] {
  const pools = new Map<string, number>([...mirror.hosts.keys(), me].map((id) => [id, 0]));
  for (const { record } of mirror.pools)
    for (const host of record?.hosts ?? []) pools.set(host, (pools.get(host) ?? 0) + 1);
  const found = [...pools].map(([id, count]): ClusterHost => {
    const record = mirror.hosts.get(id);
    const there = record === undefined ? 'away' : 'there';
    return {
      id,
      ...(record !== undefined && { name: record.name }),
      ...(record?.advertise !== undefined && { advertise: record.advertise }),
      state: id === me ? 'self' : there,
      pools: count,
    };
  });
  const order = ({ id, name = '~' }: ClusterHost) => `${id === me ? 0 : 1} ${name} ${id}`;
  return found.sort((a, b) => (order(a) < order(b) ? -1 : 1));
}

export function sharedView(space: ClusterSpace, { pool, bounds }: Range): SharedPoolView {
  const base = ipValue(firstOf(pool));
  const spans = bounds.map(({ first, last }) => ({ first: base + first, last: base + last }));
  const state = space.mirror.pool(pool);
  return {
    unheld: state.unheld(spans),
    held: state.held(spans),
    conflicts: space.conflicts(pool),
    holder: (address) => holderText(space, state.holder(ipValue(address))),
  };
}

function holderText({ mirror, me }: ClusterSpace, holder: Holder): string | undefined {
  const name = (host: string) => (host === me ? 'this host' : hostText(host, mirror.hosts));
  if (holder === 'nobody') return undefined;
  if (holder === 'unreadable') return 'a record that cannot be read';
  return 'host' in holder ? name(holder.host) : holder.shared.hosts.map(name).join(', ');
}
