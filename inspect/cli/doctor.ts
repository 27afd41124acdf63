/** `cnm doctor`. Exit status: 0 nothing differs, or all is repaired; 3 something differs (still). */
import type { Command } from 'commander';
import { doctorReport, fixReport } from '../render/doctor.ts';
import { client, type Common, common, type Terminal } from './terminal.ts';

const DIFFERS = 3;

export function doctorCommand(doctor: Command, own: Terminal): void {
  common(doctor)
    .option('--fix', 'repair what is ours and remove orphans that bear our mark')
    .action(async (options: Common & { readonly fix?: true }) => {
      if (options.fix) await fix(options, own);
      else await look(options, own);
    });
}

async function look(options: Common, own: Terminal): Promise<void> {
  const view = await client(options).doctor();
  if (options.json) own.json(view);
  else own.print(doctorReport(view, own.paint));
  own.status = view.healthy ? 0 : DIFFERS;
}

async function fix(options: Common, own: Terminal): Promise<void> {
  const report = await client(options).fix();
  if (options.json) own.json(report);
  else own.print(fixReport(report, own.paint));
  own.status = report.after.healthy && report.failed.length === 0 ? 0 : DIFFERS;
}
