/** `cnm sandbox …` */
import type { Command } from 'commander';
import { sandboxTable } from '../render/list.ts';
import { sandboxDrawing } from '../render/object.ts';
import { portLines } from '../render/ports.ts';
import { linkLine } from '../render/text.ts';
import type { SandboxView } from '../views.ts';
import { PUBLISH_FLAG, PUBLISH_HELP } from './endpoint.ts';
import { client, collect, type Common, common, forEach, pairs, type Terminal } from './terminal.ts';

interface JoinOptions extends Common {
  readonly network: string;
  readonly ip?: string;
  readonly ip6?: string;
  readonly mac?: string;
  readonly driverOpt: readonly string[];
  readonly publish: readonly string[];
  readonly alias: readonly string[];
}

interface CreateOptions extends Common {
  readonly dnsSearch: readonly string[];
  readonly dnsOption: readonly string[];
}

export function sandboxCommands(sandbox: Command, own: Terminal): void {
  listCommands(sandbox, own);
  lifeCommands(sandbox, own);
  joinCommands(sandbox, own);
  common(sandbox.command('exec <sandbox> <command...>'))
    .description('run a command in the namespace of a sandbox; its exit status is passed on')
    .passThroughOptions()
    .action(async (ref: string, words: readonly string[], options: Common) => {
      const [{ path }, { runDir }] = await Promise.all([
        client(options).sandbox(ref),
        client(options).version(),
      ]);
      const { execIn, visiblePath } = await import('./exec.ts');
      // With options passed through, commander hands the `--` before the command on, too.
      const command = words[0] === '--' ? words.slice(1) : words;
      own.status = await execIn(visiblePath(path, runDir, options.socket), command);
    });
}

function listCommands(sandbox: Command, own: Terminal): void {
  common(sandbox.command('ls').description('list sandboxes')).action(async (options: Common) => {
    const sandboxes = await client(options).sandboxes();
    if (options.json) own.json(sandboxes);
    else own.print(sandboxTable(sandboxes, own.paint));
  });
  common(sandbox.command('inspect <sandbox...>').description('draw a sandbox with its endpoints')).action(
    async (refs: readonly string[], options: Common) => {
      const views: SandboxView[] = [];
      await forEach(refs, own, async (ref) => {
        views.push(await client(options).sandbox(ref));
      });
      if (options.json) own.json(views);
      else own.print(views.map((view) => sandboxDrawing(view, own.paint)).join('\n'));
    },
  );
}

function lifeCommands(sandbox: Command, own: Terminal): void {
  common(sandbox.command('create <name>').description('make a sandbox: a network namespace with a name'))
    .option('--dns-search <domain>', 'domain to search names in (repeatable)', collect, [])
    .option('--dns-option <option>', 'option of resolv.conf, such as ndots:1 (repeatable)', collect, [])
    .action(async (name: string, options: CreateOptions) => {
      const { dnsSearch, dnsOption: dnsOptions } = options;
      const made = await client(options).createSandbox(name, { dnsSearch, dnsOptions });
      if (options.json) own.json({ ...made, name });
      else own.print(`${made.id}\n`);
    });
  common(
    sandbox.command('rm <sandbox...>').description('take sandboxes off their networks and remove them'),
  ).action(async (refs: readonly string[], options: Common) => {
    const removed: string[] = [];
    await forEach(refs, own, async (ref) => {
      await client(options).deleteSandbox(ref);
      removed.push(ref);
      if (!options.json) own.print(`${ref}\n`);
    });
    if (options.json) own.json({ removed });
  });
}

function joinCommands(sandbox: Command, own: Terminal): void {
  common(sandbox.command('join <sandbox>').description('put a sandbox on a network'))
    .requiredOption('--network <network>', 'the network to join')
    .option('--ip <address>', 'IPv4 address (default: the next free one)')
    .option('--ip6 <address>', 'IPv6 address (default: the next free one)')
    .option('--mac <address>', 'MAC address (default: chosen by the driver)')
    .option('--driver-opt <key=value>', 'option of the endpoint (repeatable)', collect, [])
    .option('--alias <name>', 'further name on this network (repeatable)', collect, [])
    .option(PUBLISH_FLAG, 'port to publish on the host (repeatable)', collect, [])
    .addHelpText('after', PUBLISH_HELP)
    .action(async (ref: string, options: JoinOptions) => {
      const { network, ip, ip6, mac, alias: aliases } = options;
      const driverOptions = pairs('--driver-opt', options.driverOpt);
      const wanted = { network, ip, ip6, mac, options: driverOptions, ports: options.publish, aliases };
      const endpoint = await client(options).join(ref, wanted);
      if (options.json) own.json(endpoint);
      else {
        own.print(`${endpoint.inside ? linkLine(endpoint.inside) : endpoint.addresses.join('  ')}\n`);
        own.print(portLines(endpoint.ports));
      }
    });
  common(sandbox.command('leave <sandbox>').description('take a sandbox off a network'))
    .requiredOption('--network <network>', 'the network to leave')
    .action(async (ref: string, options: JoinOptions) => {
      await client(options).leave(ref, options.network);
      if (options.json) own.json({ sandbox: ref, left: options.network });
    });
}
