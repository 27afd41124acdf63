/** What the doctor found and did, for people: one line a finding, then the commands. Pure. */
import type { DifferenceView, DoctorView, FixView, LeakView, OrphanView } from '../views.ts';
import { called, type Paint, printable, short } from './text.ts';

export function doctorReport(view: DoctorView, paint: Paint): string {
  const remedy = 'Nothing was changed; repair with: cnm doctor --fix';
  return lines([...noticeLines(view.notices, paint), ...findingLines(view, remedy, paint)]);
}

function findingLines(view: DoctorView, remedy: string, paint: Paint): readonly string[] {
  const { differences, orphans, leaks, rulesetCurrent, healthy } = view;
  const findings = [
    ...(rulesetCurrent ? [] : [paint.red(RULESET), '    --fix: loads it']),
    ...differences.flatMap((one) => differenceLines(one, paint)),
    ...orphans.flatMap((one) => orphanLines(one, paint)),
    ...leaks.flatMap((one) => leakLines(one, paint)),
  ];
  const count = differences.length + orphans.length + leaks.length + (rulesetCurrent ? 0 : 1);
  if (healthy) return [paint.green('Store and kernel agree.')];
  return [...findings, '', `${count} ${count === 1 ? 'finding' : 'findings'}. ${remedy}`];
}

export function fixReport(fix: FixView, paint: Paint): string {
  const done = [
    ...(fix.rulesetLoaded ? ['loaded     the nftables table "inet cnm"'] : []),
    ...fix.undone.map((what) => `undone     ${printable(what)} (a crash had cut it off)`),
    ...fix.finished.map((what) => `finished   ${printable(what)} (a crash had cut it off)`),
    ...fix.repaired.flatMap((one) => [
      `repaired   ${objectName(one)}`,
      ...one.missing.map(({ command }) => `    ${command}`),
    ]),
    ...fix.removed.map((one) => `removed    ${printable(one.what)}`),
    ...fix.released.map((one) => `released   ${leakName(one)}`),
    ...fix.failed.map((what) => paint.red(`failed     ${printable(what)}`)),
  ];
  const nothing = done.length === 0 ? ['There was nothing to repair.'] : done;
  const remedy = 'This is left; the reasons are above and in the log of the daemon';
  return lines([...nothing, '', ...findingLines(fix.after, remedy, paint)]);
}

const RULESET = 'ruleset: the nftables table "inet cnm" is absent, or not the one that this version loads';

export function differenceLines(difference: DifferenceView, paint: Paint): readonly string[] {
  const { missing, repairable, awaits } = difference;
  const remedy = repairable ? '--fix: runs it' : `--fix: cannot; ${whyNot(awaits)}`;
  return [
    paint.red(`${objectName(difference)}: ${missing.length} missing`),
    ...missing.map(({ command }) => `    missing: ${printable(command)}`),
    `    ${missing.length > 1 && repairable ? '--fix: runs them in this order' : remedy}`,
  ];
}

function whyNot(awaits: string | undefined): string {
  if (awaits !== undefined)
    return `it waits for the interface ${printable(awaits)}, and is put back when that is there again`;
  return 'the link was in a container, which has to be started again';
}

function orphanLines({ what, command }: OrphanView, paint: Paint): readonly string[] {
  return [
    paint.yellow(`orphan: ${printable(what)} bears our mark and belongs to nothing`),
    `    --fix: ${printable(command)}`,
  ];
}

function leakLines(leak: LeakView, paint: Paint): readonly string[] {
  return [paint.yellow(`lease: ${leakName(leak)} belongs to nothing`), '    --fix: releases it'];
}

function noticeLines(notices: readonly string[], paint: Paint): readonly string[] {
  return notices.map((notice) => paint.yellow(`notice: ${printable(notice)}`));
}

function leakName({ address, pool, name }: LeakView): string {
  const whose = name === undefined ? '' : ` (for ${printable(name)})`;
  return address === undefined ? `pool ${pool}` : `address ${address} of pool ${pool}${whose}`;
}

/** For example: endpoint web on network demo (5f0c2a9b7d31). */
function objectName({ object, id, name, network }: DifferenceView): string {
  const on = network === undefined ? '' : ` on network ${printable(called(network))}`;
  return name === undefined
    ? `${object} ${short(id)}${on}`
    : `${object} ${printable(name)}${on} (${short(id)})`;
}

function lines(all: readonly string[]): string {
  return all.join('\n') + '\n';
}
