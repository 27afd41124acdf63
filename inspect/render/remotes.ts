/** What other hosts have of a network, under its drawing. Pure. */
import type { RemotesView } from '../views.ts';
import { fields } from './table.ts';
import { type Paint, printable, short } from './text.ts';

export function remotesDrawing(view: RemotesView | undefined, paint: Paint): readonly string[] {
  if (view === undefined) return [];
  const { hosts, endpoints } = view;
  const none = hosts.length === 0 ? ['  no other host has endpoints on it, or this one has none itself'] : [];
  const rows = hosts.flatMap(({ id, name, at, details }) => [
    [
      `  host ${printable(name)}`,
      [at, ...Object.entries(details).map((pair) => pair.join(' '))].join('  '),
    ] as const,
    ...endpoints
      .filter(({ host }) => host === id)
      .map(
        (one) =>
          [
            `    ${printable(one.names[0] ?? short(one.id))}`,
            [...one.addresses, `mac ${one.mac}`].join('  '),
          ] as const,
      ),
  ]);
  return ['', `  ${paint.bold('on other hosts')}`, ...none, ...fields(rows)];
}
