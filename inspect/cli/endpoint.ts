/** `cnm endpoint …` */
import type { Command } from 'commander';
import { endpointTable } from '../render/list.ts';
import { endpointDrawing } from '../render/object.ts';
import type { EndpointView } from '../views.ts';
import { client, type Common, common, forEach, type Terminal } from './terminal.ts';

export function endpointCommands(endpoint: Command, own: Terminal): void {
  common(endpoint.command('ls').description('list endpoints'))
    .option('--network <network>', 'only those of this network')
    .action(async (options: Common & { readonly network?: string }) => {
      const endpoints = await client(options).endpoints(options.network);
      if (options.json) own.json(endpoints);
      else own.print(endpointTable(endpoints, own.paint));
    });
  common(endpoint.command('inspect <endpoint...>').description('draw the chain of an endpoint')).action(
    async (refs: readonly string[], options: Common) => {
      const views: EndpointView[] = [];
      await forEach(refs, own, async (ref) => {
        views.push(await client(options).endpoint(ref));
      });
      if (options.json) own.json(views);
      else own.print(views.map((view) => endpointDrawing(view, own.paint)).join('\n'));
    },
  );
}
