/** `cnm endpoint …` */
import type { Command } from 'commander';
import { endpointTable } from '../render/list.ts';
import { endpointDrawing } from '../render/object.ts';
import { portLines } from '../render/ports.ts';
import type { EndpointView } from '../views.ts';
import { client, collect, type Common, common, forEach, type Terminal } from './terminal.ts';

export function endpointCommands(endpoint: Command, own: Terminal): void {
  common(endpoint.command('ls').description('list endpoints'))
    .option('--network <network>', 'only those of this network')
    .action(async (options: Common & { readonly network?: string }) => {
      const endpoints = await client(options).endpoints(options.network);
      if (options.json) own.json(endpoints);
      else own.print(endpointTable(endpoints, own.paint));
    });
  publishCommands(endpoint, own);
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

/** What `-p` takes, in the help of each command that has it. */
export const PUBLISH_FLAG = '-p, --publish <port>';
export const PUBLISH_HELP = `
A port is written as after docker run -p:
  [HOSTIP:][HOSTPORT[-END]:]PORT[-END][/tcp|udp|sctp]
  80                        port 80, at a free port of the host (see: cnm port)
  8080:80                   port 80, at port 8080 of every address of the host
  127.0.0.1:8080:80         for the host alone
  [2001:db8::1]:53:53/udp   an IPv6 address in brackets
  8000-8010:8000-8010       a range, one to one
  8000-8010:80              the first of these that is free`;

function publishCommands(endpoint: Command, own: Terminal): void {
  const publish = endpoint
    .command('publish <endpoint>')
    .description('publish ports of a sandbox on the host, in the place of all that it published before')
    .option(PUBLISH_FLAG, 'port to publish (repeatable)', collect, [])
    .addHelpText('after', PUBLISH_HELP);
  common(publish).action(async (ref: string, options: Common & { readonly publish: readonly string[] }) => {
    if (options.publish.length === 0)
      publish.error("error: required option '-p, --publish <port>' not specified");
    print(await client(options).publish(ref, options.publish), options, own);
  });
  common(endpoint.command('unpublish <endpoint>').description('publish none of its ports any more')).action(
    async (ref: string, options: Common) => {
      print(await client(options).unpublish(ref), options, own);
    },
  );
}

function print(endpoint: EndpointView, options: Common, own: Terminal): void {
  if (options.json) own.json(endpoint);
  else own.print(portLines(endpoint.ports));
}
