/** What the hosts of a cluster say of a network that is, or was, on all of them. Pure. */
import type { HostOutcomeView, PublishedView } from '../views.ts';
import { fields } from './table.ts';
import { type Paint, printable } from './text.ts';

/** A line for each host. */
export function publishedText({ hosts }: PublishedView, paint: Paint): string {
  const width = Math.max(...hosts.map(({ host }) => printable(host).length));
  const lines = hosts.map((one) => {
    const word = words(one);
    return `${printable(one.host).padEnd(width)}   ${BAD.includes(one.outcome) ? paint.red(word) : word}\n`;
  });
  return lines.join('');
}

export function publishedDrawing(view: PublishedView | undefined, paint: Paint): readonly string[] {
  if (view === undefined) return [];
  const rows = view.hosts.map((one) => [`  ${printable(one.host)}`, words(one)] as const);
  return ['', `  ${paint.bold('published')} by ${printable(view.by)}`, ...fields(rows)];
}

const WORDS: Readonly<Record<HostOutcomeView['outcome'], string>> = {
  ok: 'ok',
  exists: 'exists',
  refused: 'refused',
  waiting: 'waiting',
  'no-docker': 'no Docker',
  removed: 'removed',
  own: 'exists',
  kept: 'exists',
  unheard: 'not heard of',
};
const BAD: readonly HostOutcomeView['outcome'][] = ['refused', 'waiting', 'kept', 'unheard'];

function words({ outcome, message }: HostOutcomeView): string {
  return message === undefined ? WORDS[outcome] : `${WORDS[outcome]}: ${printable(message)}`;
}
