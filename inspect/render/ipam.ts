/** Pools, addresses and the audit of them, in words. Pure. */
import type { AddressView, AuditView, PoolSummary, ReleaseView } from '../views.ts';
import { table } from './table.ts';
import { called, type Paint, printable } from './text.ts';

export function poolTable(pools: readonly PoolSummary[], paint: Paint): string {
  const rows = pools.map(({ pool, range, space, network, used, free, resting, reserved }) => [
    pool,
    range ?? '',
    space,
    network === undefined ? '' : called(network),
    ...[used, free, resting, reserved].map(count),
  ]);
  return table(['POOL', 'RANGE', 'SPACE', 'NETWORK', 'USED', 'FREE', 'RESTING', 'RESERVED'], rows, paint);
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
  const { address, poolId, state, name, network, holder, since, seenIn = [] } = view;
  const free = ['free', 'resting', 'reserved', 'unusable'].includes(state);
  const lines: readonly (readonly [string, string | undefined])[] = [
    ['pool', poolId],
    ['state', state],
    ['network', network && called(network)],
    [free ? 'last name' : 'name', name],
    ['held by', holder && called(holder)],
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
