/** Where leases, records, Docker's list and interfaces disagree. Pure. */
import type { Ip } from '../address/ip.ts';
import { addressOf, contains, lengthOf, networkOf, overlaps, type Prefix } from '../address/prefix.ts';
import type { EngineNetwork } from '../cnm/cnm.ts';
import type { EndpointRecord, NetworkRecord } from '../cnm/model.ts';
import type { LeaseView, PoolView } from '../ipam/ipam.ts';
import { SPACE } from '../ipam/options.ts';
import { addressesListed } from '../ipam/reclaim.ts';
import type { RouteFact } from '../kernel/facts.ts';
import type { FindingView, LeakView } from './views.ts';

export interface AuditInput {
  readonly pools: readonly PoolView[];
  readonly networks: readonly NetworkRecord[];
  readonly endpoints: readonly EndpointRecord[];
  /** Absent = Docker did not answer: nothing of its networks can count as forgotten. */
  readonly listed?: readonly EngineNetwork[];
  /** By address, the namespaces that have an interface with it. */
  readonly live: ReadonlyMap<Ip, readonly string[]>;
  readonly routes: readonly RouteFact[];
  /** Leaks of standalone networks. */
  readonly leaks: readonly LeakView[];
  /** Leases that were given after this time may still be on their way to an endpoint. */
  readonly olderThan: number;
}

export function audit(input: AuditInput): readonly FindingView[] {
  return [
    ...standaloneLeaks(input),
    ...(input.listed === undefined ? [] : dockerLeaks(input, input.listed)),
    ...doubles(input),
    ...conflicts(input),
    ...orphans(input),
    ...routeOverlaps(input),
  ];
}

function standaloneLeaks({ leaks, pools, live }: AuditInput): readonly FindingView[] {
  return leaks.flatMap(({ poolId, address, name }) => {
    if (address !== undefined && live.has(address)) return [];
    const lease = pools.find((pool) => pool.poolId === poolId)?.leases.find((one) => one.address === address);
    if (lease !== undefined) return [leaseLeak(poolId, lease)];
    const what = `${address ?? 'the pool'} belongs to no standalone network`;
    return [{ kind: 'leak', poolId, ...(address && { address }), ...(name && { name }), what }];
  });
}

/** As ipam/reclaim.ts has it: released by itself when it stays so for a minute. */
function dockerLeaks(input: AuditInput, listed: readonly EngineNetwork[]): readonly FindingView[] {
  const { pools, networks, endpoints, live, olderThan } = input;
  if (listed.some(({ subnets }) => subnets === undefined)) return [];
  const alive = new Set<Prefix>([
    ...listed.flatMap(({ subnets = [] }) => subnets.map(({ pool }) => networkOf(pool))),
    ...networks.flatMap(({ ipv4, ipv6 }) => [...ipv4, ...ipv6].map(({ pool }) => networkOf(pool))),
  ]);
  const spokenFor = new Set<Ip>([...listed.flatMap(addressesListed), ...recorded(networks, endpoints)]);
  const mine = pools.filter(
    ({ owner, space, options }) =>
      owner === undefined && (space === 'cnm-local' || options[SPACE] !== undefined),
  );
  return mine.flatMap((pool): readonly FindingView[] => {
    const lost = pool.leases.filter(
      ({ address, since = 0 }) => !spokenFor.has(address) && !live.has(address) && since < olderThan,
    );
    if (alive.has(pool.pool))
      return lost
        .filter(({ purpose }) => purpose !== 'gateway')
        .map((lease) => leaseLeak(pool.poolId, lease));
    const what = `no network has the pool ${pool.pool}`;
    return lost.length === pool.leases.length ? [{ kind: 'leak', poolId: pool.poolId, what }] : [];
  });
}

function leaseLeak(poolId: string, { address, name, since }: LeaseView): FindingView {
  const whose = name === undefined ? '' : ` for ${name}`;
  return {
    kind: 'leak',
    poolId,
    address,
    ...(name !== undefined && { name }),
    ...(since !== undefined && { since: new Date(since).toISOString() }),
    what: `${address} is leased${whose}, but no network, endpoint or interface has it`,
  };
}

function doubles({ pools, endpoints, live }: AuditInput): readonly FindingView[] {
  const holders = new Map<string, string[]>();
  for (const { id, network, address, addressV6 } of endpoints) {
    for (const prefix of [address, addressV6]) {
      if (prefix === undefined) continue;
      const key = `${network} ${addressOf(prefix)}`;
      holders.set(key, [...(holders.get(key) ?? []), `endpoint ${id.slice(0, 12)}`]);
    }
  }
  const recordedTwice = [...holders].map(([key, who]) => [key.replace(/.* /, '') as Ip, who] as const);
  return [...recordedTwice, ...live].flatMap(([address, who]): readonly FindingView[] => {
    const [pool, ...others] = pools.filter((one) => contains(one.pool, address));
    // The same subnet may be in use once in each address space.
    const spaces = new Set([pool, ...others].map((one) => one?.space)).size;
    if (pool === undefined || who.length <= spaces) return [];
    const what = `${address} is borne by ${who.length}: ${who.join(', ')}`;
    return [{ kind: 'double', poolId: pool.poolId, address, what }];
  });
}

/** In use here, and another host's of the cluster: see ipam/README.md, "What it cannot know". */
function conflicts({ pools }: AuditInput): readonly FindingView[] {
  return pools.flatMap(({ poolId, shared, leases }) =>
    (shared?.conflicts ?? [])
      .filter((address) => leases.some((lease) => lease.address === address))
      .map((address): FindingView => {
        const what = `${address} is leased here, and held by ${shared?.holder(address) ?? 'another host'} of the cluster`;
        return { kind: 'double', poolId, address, what };
      }),
  );
}

/** What a record speaks for must be leased, or somebody else could be given it. */
function orphans({ pools, networks, endpoints }: AuditInput): readonly FindingView[] {
  return networks.flatMap((network) => {
    const own = endpoints.filter((endpoint) => endpoint.network === network.id);
    const bearers = recorded([network], own);
    return [...network.ipv4, ...network.ipv6].flatMap((subnet) => {
      const sharing = pools.filter(
        ({ pool, space }) => space === subnet.addressSpace && pool === networkOf(subnet.pool),
      );
      const [pool] = sharing;
      if (pool === undefined) return [];
      const leased = new Set(sharing.flatMap(({ leases }) => leases.map(({ address }) => address)));
      return [...new Set(bearers)]
        .filter((address) => contains(subnet.pool, address) && !leased.has(address))
        .map((address): FindingView => {
          const what = `${address} is in use on network ${network.id.slice(0, 12)}, but no lease holds it`;
          return { kind: 'orphan', poolId: pool.poolId, address, what };
        });
    });
  });
}

/** Shorter routes are default routes in disguise, as in daemon/host-prefixes.ts. */
const SHORTEST = 8;

function routeOverlaps({ pools, routes }: AuditInput): readonly FindingView[] {
  return pools.flatMap(({ poolId, pool }) =>
    routes
      // A network's own route is its pool; a host route inside of it is somebody's address there.
      .filter(({ to }) => lengthOf(to) >= SHORTEST && to !== pool && overlaps(to, pool) && !isHost(to))
      .map(({ to, link, via }): FindingView => {
        const where = [via && `via ${via}`, link && `dev ${link}`]
          .filter((one) => one !== undefined)
          .join(' ');
        const what = `the pool ${pool} overlaps the host's route ${to} ${where}`.trimEnd();
        return { kind: 'overlap', poolId, what };
      }),
  );
}

function isHost(to: Prefix): boolean {
  return lengthOf(to) === (to.includes(':') ? 128 : 32);
}

function recorded(networks: readonly NetworkRecord[], endpoints: readonly EndpointRecord[]): readonly Ip[] {
  const own = endpoints.flatMap(({ address, addressV6 }) => [address, addressV6]);
  const subnets = networks.flatMap(({ ipv4, ipv6 }) => [...ipv4, ...ipv6]);
  const theirs = subnets.flatMap(({ gateway, aux }) => [gateway, ...Object.values(aux)]);
  return [...own, ...theirs].filter((prefix) => prefix !== undefined).map(addressOf);
}
