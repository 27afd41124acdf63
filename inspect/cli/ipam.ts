/** `cnm ipam …`. Exit status of `check`: 0 all agree, 3 something was found. */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { messageOf } from '../../cnm/errors.ts';
import { CommandError } from '../client.ts';
import { addressTable, addressText, auditText, hostTable, poolTable, releaseText } from '../render/ipam.ts';
import type { AuditView, FindingView, ReleaseView } from '../views.ts';
import { client, type Common, common, type Terminal } from './terminal.ts';

const FOUND = 3;

export function ipamCommands(ipam: Command, own: Terminal): void {
  common(
    ipam
      .command('ls [pool]')
      .description(
        'list pools with their use, or the addresses of one (its subnet or id) and who holds them',
      ),
  ).action((pool: string | undefined, options: Common) => list(pool, options, own));
  common(ipam.command('show <address>').description('say all that is known of an address')).action(
    async (address: string, options: Common) => {
      const views = await client(options).address(address);
      if (options.json) own.json(views);
      else own.print(addressText(views, own.paint));
    },
  );
  common(
    ipam
      .command('check')
      .description(
        'compare leases, records, Docker and interfaces; change nothing (exit status 3: something found)',
      ),
  ).action(async (options: Common) => {
    const report = await client(options).checkLeases();
    if (options.json) own.json(report);
    else own.print(auditText(report, own.paint));
    own.status = report.healthy ? 0 : FOUND;
  });
  common(
    ipam
      .command('hosts')
      .description('list the hosts of the cluster, and those that are away and hold addresses still'),
  ).action(async (options: Common) => {
    const cluster = await client(options).cluster();
    if (options.json) own.json(cluster);
    else own.print(hostTable(cluster, own.paint));
  });
  common(
    ipam
      .command('release')
      .description('release the leaks of a report, those that are still leaks; or what a lost host holds')
      .option('--from-report <file>', 'what cnm ipam check --json printed; - for standard input')
      .option('--host <id>', 'all that a host of the cluster holds, which is away and gone for good'),
  ).action(async (options: Release) => {
    await release(options, own);
  });
}

interface Release extends Common {
  readonly fromReport?: string;
  readonly host?: string;
}

async function release(options: Release, own: Terminal): Promise<void> {
  const { fromReport, host } = options;
  if ((fromReport === undefined) === (host === undefined))
    throw new CommandError('Say what to release: --from-report FILE, or --host ID');
  if (host !== undefined) {
    const cluster = await client(options).forgetHost(host);
    if (options.json) own.json(cluster);
    else own.print(`released  all that the host ${host} held\n`);
    return;
  }
  const answer = await releaseLeaks(readReport(fromReport ?? '').findings, options);
  if (options.json) own.json(answer);
  else own.print(releaseText(answer));
  own.status = answer.kept.length === 0 ? 0 : FOUND;
}

async function list(pool: string | undefined, options: Common, own: Terminal): Promise<void> {
  if (pool === undefined) {
    const pools = await client(options).pools();
    if (options.json) own.json(pools);
    else own.print(poolTable(pools, own.paint));
    return;
  }
  const addresses = await client(options).leases(pool);
  if (options.json) own.json(addresses);
  else own.print(addressTable(addresses, own.paint));
}

/** In portions that fit into a request. */
const PORTION = 500;

async function releaseLeaks(findings: readonly FindingView[], options: Common): Promise<ReleaseView> {
  const answers: ReleaseView[] = [];
  for (let from = 0; from < findings.length; from += PORTION)
    answers.push(await client(options).releaseLeases(findings.slice(from, from + PORTION)));
  return {
    released: answers.flatMap(({ released }) => released),
    kept: answers.flatMap(({ kept }) => kept),
  };
}

/** @throws CommandError for what is no report. What is in its findings the daemon looks at. */
function readReport(file: string): AuditView {
  const text = contents(file);
  try {
    const report = JSON.parse(text) as Partial<AuditView> | null;
    if (Array.isArray(report?.findings)) return report as AuditView;
  } catch {
    // Said below, with what would be right.
  }
  throw new CommandError(`${file} is not a report: make one with cnm ipam check --json > FILE`);
}

function contents(file: string): string {
  try {
    return readFileSync(file === '-' ? 0 : file, 'utf8');
  } catch (error) {
    throw new CommandError(`${file} cannot be read: ${messageOf(error)}`);
  }
}
