/** Pools, addresses and the audit of them, in words. Pure. */
import type { AddressView, AuditView, ClusterSummary, PoolSummary, ReleaseView } from '../views.ts';
import { table } from './table.ts';
import { called, type Paint, printable } from './text.ts';

/** In a cluster with two columns more: what the other hosts hold, and what none does. */
export function poolTable(pools: readonly PoolSummary[], paint: Paint): string {
  const shared = pools.some(({ cluster }) => cluster !== undefined);
  const rows = pools.map(({ pool, range, space, network, used, free, resting, reserved, cluster }) => [
    pool,
    range ?? '',
    space,
    network === undefined ? '' : called(network),
    ...[used, free, resting, reserved].map(count),
    ...(shared ? sharedColumns(cluster) : []),
  ]);
  const columns = ['POOL', 'RANGE', 'SPACE', 'NETWORK', 'USED', 'FREE', 'RESTING', 'RESERVED'];
  return table([...columns, ...(shared ? ['HOSTS HOLD', 'UNHELD'] : [])], rows, paint);
}

function sharedColumns(cluster: PoolSummary['cluster']): readonly string[] {
  if (cluster === undefined) return ['', ''];
  const held = Object.values(cluster.held).reduce((sum, one) => sum + one, 0);
  return [count(held), count(cluster.unheld)];
}

export function hostTable({ store, reachable, trouble, hosts }: ClusterSummary, paint: Paint): string {
  if (store === undefined) return 'This host is in no cluster: cnmd --cluster says which.\n';
  const rows = hosts.map(({ id, name, advertise, state, pools }) => [
    id,
    name ?? '',
    advertise ?? '',
    state === 'self' ? 'this host' : state,
    count(pools),
  ]);
  const state = reachable ? paint.green('answers') : paint.red('does not answer');
  const out = trouble === undefined ? [] : [paint.yellow(`This host is not in it: ${printable(trouble)}`)];
  return [`${store} ${state}`, ...out, table(['ID', 'NAME', 'ADDRESS', 'STATE', 'POOLS'], rows, paint)].join(
    '\n',
  );
}

export function addressTable(addresses: readonly AddressView[], paint: Paint): string {
  const rows = addresses.map(({ address, state, name, holder, since }) => [
    address,
    state,
    name ?? '',
    holder === undefined ? '' : called(holder),
    since ?? '',
  ]);
  return table(['ADDRESS', 'STATE', 'NAME', 'HOLDER', 'SINCE'], rows, paint);
}

export function addressText(views: readonly AddressView[], paint: Paint): string {
  return views.map((view) => one(view, paint)).join('\n');
}

function one(view: AddressView, paint: Paint): string {
  const { address, poolId, state, name, network, holder, heldBy, since, seenIn = [] } = view;
  const free = ['free', 'resting', 'reserved', 'unusable'].includes(state);
  const lines: readonly (readonly [string, string | undefined])[] = [
    ['pool', poolId],
    ['state', state],
    ['network', network && called(network)],
    [free ? 'last name' : 'name', name],
    ['held by', holder && called(holder)],
    ['cluster', heldBy],
    [free ? 'free since' : 'since', since],
    ['seen on', seenIn.join(', ') || 'no interface'],
  ];
  const shown = lines.flatMap(([key, value]) =>
    value === undefined ? [] : [`  ${key.padEnd(10)}  ${printable(value)}`],
  );
  return [paint.bold(address), ...shown, ''].join('\n');
}

export function auditText({ findings, notes }: AuditView, paint: Paint): string {
  const lines = findings.map(({ kind, poolId, what }) => `${paint.red(kind)}  ${poolId}: ${printable(what)}`);
  const told = notes.map((note) => paint.yellow(note));
  const nothing = findings.length === 0 ? [paint.green('Leases, records, Docker and interfaces agree.')] : [];
  const leaks = findings.some(({ kind }) => kind === 'leak');
  const advice = leaks
    ? ['Release the leaks: cnm ipam check --json > FILE, then cnm ipam release --from-report FILE']
    : [];
  return [...nothing, ...lines, ...told, ...advice, ''].join('\n');
}

export function releaseText({ released, kept }: ReleaseView): string {
  const lines = [
    ...released.map(({ poolId, address }) => `released  ${address ?? `the pool ${poolId}`}`),
    ...kept.map(({ finding: { poolId, address }, why }) => `kept      ${address ?? poolId}: ${why}`),
  ];
  return lines.length === 0 ? 'The report has no findings.\n' : `${lines.join('\n')}\n`;
}

/** A /64 has more than people read. */
function count(value: number): string {
  return value < 1e9 ? String(value) : value.toExponential(1).replace('e+', 'e');
}
