/** What a network's self-test found, for people: a line a finding. Pure. */
import type { CheckView, FindingOfCheck } from '../views.ts';
import { called, type Paint, printable } from './text.ts';

export function checkReport({ network, findings }: CheckView, paint: Paint): string {
  const nothing = `Network ${printable(called(network))} has no test of its own: see cnm doctor`;
  const lines = findings.length === 0 ? [nothing] : findings.map((finding) => line(finding, paint));
  return `${lines.join('\n')}\n`;
}

function line({ what, result, detail }: FindingOfCheck, paint: Paint): string {
  return `${coloured(result, paint)} ${printable(what).padEnd(12)} ${printable(detail)}`;
}

function coloured(result: FindingOfCheck['result'], paint: Paint): string {
  const word = result.padEnd(8);
  if (result === 'ok') return paint.green(word);
  return result === 'failed' ? paint.red(word) : paint.yellow(word);
}
