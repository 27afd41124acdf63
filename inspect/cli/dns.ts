/** `cnm dns …` */
import type { Command } from 'commander';
import type { QueryEvent } from '../../dns/query-log.ts';
import { askLines, dnsTables, logLine } from '../render/dns.ts';
import { client, type Common, common, type Terminal } from './terminal.ts';

interface QueryOptions extends Common {
  readonly from?: string;
  readonly type: string;
}

interface LogOptions extends Common {
  readonly follow?: true;
  readonly name?: string;
  readonly client?: string;
  readonly rcode?: string;
}

export function dnsCommands(dns: Command, own: Terminal): void {
  common(
    dns
      .command('ls [network]')
      .description('list names, where they can be asked for, and the servers that other names are asked of'),
  ).action(async (network: string | undefined, options: Common) => {
    const view = await client(options).dns(network);
    if (options.json) own.json(view);
    else own.print(dnsTables(view, own.paint));
  });
  common(
    dns.command('query <name>').description('ask, and say which rule answered, from which record, and who'),
  )
    .option('--from <sandbox>', 'ask as this sandbox or container would (default: as the host)')
    .option('--type <type>', 'type of the records', 'A')
    .action(async (name: string, options: QueryOptions) => {
      const answer = await client(options).dnsQuery({ name, type: options.type, from: options.from });
      if (options.json) own.json(answer);
      else own.print(askLines(answer));
      if (answer.rcode !== 'NOERROR') own.status = 1;
    });
  common(dns.command('log').description('show every query as it is answered, until Ctrl-C'))
    .option('--follow', 'go on until Ctrl-C; nothing is kept of what was before')
    .option('--name <text>', 'only names that contain this')
    .option('--client <text>', 'only from resolvers and clients that contain this')
    .option('--rcode <code>', 'only with this code, such as NXDOMAIN')
    .action(async (options: LogOptions) => {
      await client(options).dnsLog((event) => {
        if (fits(event, options)) own.print(options.json ? `${JSON.stringify(event)}\n` : logLine(event));
      });
    });
}

function fits(event: QueryEvent, { name = '', client = '', rcode }: LogOptions): boolean {
  return (
    event.name.includes(name.toLowerCase()) &&
    `${event.door} ${event.client}`.includes(client) &&
    (rcode === undefined || event.rcode === rcode.toUpperCase())
  );
}
