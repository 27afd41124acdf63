/** `cnm firewall …` */
import type { Command } from 'commander';
import { firewallText } from '../render/firewall.ts';
import { client, type Common, common, type Terminal } from './terminal.ts';

export function firewallCommands(firewall: Command, own: Terminal): void {
  const show = firewall
    .command('show [network]')
    .description('who may come in, by which way containers go out, and what published ports have let in')
    .option('--nft', 'print the table inet cnm in the words of nft, with the elements of the network alone');
  common(show).action(async (network: string | undefined, options: Common & { readonly nft?: true }) => {
    if (options.nft) await printRuleset(network, options, own);
    else {
      const view = await client(options).firewall(network);
      if (options.json) own.json(view);
      else own.print(firewallText(view, own.paint));
    }
  });
}

async function printRuleset(network: string | undefined, options: Common, own: Terminal): Promise<void> {
  const view = await client(options).ruleset(network);
  if (options.json) own.json(view);
  else own.print(view.ruleset);
}
