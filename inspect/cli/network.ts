/** `cnm network …` */
import { type Command, InvalidArgumentError } from 'commander';
import { checkReport } from '../render/check.ts';
import { networkTable, planText } from '../render/list.ts';
import { networkDrawing } from '../render/object.ts';
import { publishedText } from '../render/published.ts';
import type { NetworkRequest, NetworkView, PublishedView } from '../views.ts';
import { client, collect, type Common, common, forEach, pairs, type Terminal } from './terminal.ts';

interface CreateOptions extends Common {
  readonly driver: string;
  readonly subnet: readonly string[];
  readonly gateway: readonly string[];
  readonly ipRange: readonly string[];
  readonly auxAddress: readonly string[];
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  readonly internal?: true;
  readonly opt: readonly string[];
  readonly ipamOpt: readonly string[];
  readonly dryRun?: true;
}

export function networkCommands(network: Command, own: Terminal): void {
  common(network.command('ls').description('list networks')).action(async (options: Common) => {
    const networks = await client(options).networks();
    if (options.json) own.json(networks);
    else own.print(networkTable(networks, own.paint));
  });
  common(network.command('inspect <network...>').description('draw the whole chain of a network')).action(
    (refs: readonly string[], options: Common) => inspect(refs, options, own),
  );
  createCommand(network, own);
  checkCommand(network, own);
  publishCommands(network, own);
  common(network.command('rm <network...>').description('remove standalone networks')).action(
    async (refs: readonly string[], options: Common) => {
      const removed: string[] = [];
      await forEach(refs, own, async (ref) => {
        await client(options).deleteNetwork(ref);
        removed.push(ref);
        if (!options.json) own.print(`${ref}\n`);
      });
      if (options.json) own.json({ removed });
    },
  );
}

async function inspect(refs: readonly string[], options: Common, own: Terminal): Promise<void> {
  const views: NetworkView[] = [];
  await forEach(refs, own, async (ref) => {
    views.push(await client(options).network(ref));
  });
  if (options.json) own.json(views);
  else own.print(views.map((view) => networkDrawing(view, own.paint)).join('\n'));
}

/** Exit status 3, as the doctor's, when something does not work. */
const FAILED = 3;

function checkCommand(network: Command, own: Terminal): void {
  const command = network
    .command('check <network>')
    .description('test the wire that a network is on, with frames')
    .option('--ask <ip>', 'an address of the LAN to ask for, too (repeatable)', collect, []);
  common(command).action(async (ref: string, options: Common & { readonly ask: readonly string[] }) => {
    const view = await client(options).checkNetwork(ref, options.ask);
    if (options.json) own.json(view);
    else own.print(checkReport(view, own.paint));
    own.status = view.findings.some(({ result }) => result === 'failed') ? FAILED : 0;
  });
}

/** Exit status 3 unless it is on every host, or on none any more. */
function publishCommands(network: Command, own: Terminal): void {
  const told = async (view: PublishedView, options: Common): Promise<void> => {
    if (options.json) own.json(view);
    else own.print(publishedText(view, own.paint));
    own.status = view.complete ? 0 : FAILED;
    return Promise.resolve();
  };
  const wait = ['--wait <seconds>', 'how long to wait for what the hosts say', seconds, 30] as const;
  const publish = network
    .command('publish <network>')
    .description('make a network on all hosts of the cluster, as it is here (exit status 3: not on all)')
    .option(...wait);
  common(publish).action(async (ref: string, options: Common & { readonly wait: number }) =>
    told(await client(options).publishNetwork(ref, options.wait), options),
  );
  const unpublish = network
    .command('unpublish <name>')
    .description(
      'remove it from the hosts that made it so, where nothing is on it (exit status 3: not from all)',
    )
    .option(...wait);
  common(unpublish).action(async (name: string, options: Common & { readonly wait: number }) =>
    told(await client(options).withdrawNetwork(name, options.wait), options),
  );
}

function seconds(text: string): number {
  if (/^\d{1,3}$/.test(text) && Number(text) <= 600) return Number(text);
  throw new InvalidArgumentError('It must be a whole number from 0 to 600.');
}

/** Flags and meaning as `docker network create` has them. */
function createCommand(network: Command, own: Terminal): void {
  const command = network
    .command('create <name>')
    .description('create a standalone network, with no Docker')
    .option('-d, --driver <driver>', 'driver of the network', 'cnm-bridge')
    .option('--subnet <cidr>', 'subnet in CIDR form (repeatable)', collect, [])
    .option('--gateway <ip>', 'gateway of the subnet that holds it (repeatable)', collect, [])
    .option('--ip-range <cidr>', 'part of a subnet that addresses are chosen from (repeatable)', collect, [])
    .option('--aux-address <key=ip>', 'address that must not be given out (repeatable)', collect, [])
    .option('--ipv4 [bool]', 'enable IPv4; --ipv4=false for none', bool, true)
    .option('--ipv6 [bool]', 'enable IPv6', bool, false)
    .option('--internal', 'no way out of the network')
    .option('-o, --opt <key=value>', 'option of the driver (repeatable)', collect, [])
    .option('--ipam-opt <key=value>', 'option of the subnets (repeatable)', collect, [])
    .option('--dry-run', 'print the plan and change nothing');
  common(command).action((name: string, options: CreateOptions) => create(name, options, own));
}

async function create(name: string, options: CreateOptions, own: Terminal): Promise<void> {
  const wanted: NetworkRequest = {
    name,
    driver: options.driver,
    subnets: options.subnet,
    gateways: options.gateway,
    ipRanges: options.ipRange,
    auxAddresses: pairs('--aux-address', options.auxAddress),
    ipv4: options.ipv4,
    ipv6: options.ipv6,
    internal: options.internal === true,
    options: pairs('-o', options.opt),
    ipamOptions: pairs('--ipam-opt', options.ipamOpt),
  };
  if (options.dryRun) {
    const plan = await client(options).planNetwork(wanted);
    if (options.json) own.json(plan);
    else own.print(planText(plan));
    return;
  }
  const { id } = await client(options).createNetwork(wanted);
  if (options.json) own.json({ id, name });
  else own.print(`${id}\n`);
}

/** What Go's strconv.ParseBool takes, in the spellings that people use. */
function bool(text: string): boolean {
  if (['true', '1', 't', 'T', 'TRUE', 'True'].includes(text)) return true;
  if (['false', '0', 'f', 'F', 'FALSE', 'False'].includes(text)) return false;
  throw new InvalidArgumentError('It must be true or false.');
}
