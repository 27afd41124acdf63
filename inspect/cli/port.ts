/** `cnm port`: what `docker port` shows, which cannot know the ports of a plugin's network. */
import type { Command } from 'commander';
import { CommandError } from '../client.ts';
import { hostLines, portLines, portTable } from '../render/ports.ts';
import type { PortView } from '../views.ts';
import { client, type Common, common, type Terminal } from './terminal.ts';

export function portCommand(port: Command, own: Terminal): void {
  port
    .argument('[of]', 'container, sandbox, endpoint or network (default: everything)')
    .argument('[port]', 'PORT or PORT/PROTOCOL of the container: print its host addresses alone');
  common(port).action(async (ref: string | undefined, one: string | undefined, options: Common) => {
    const all = await client(options).ports(ref);
    const ports = one === undefined ? all : picked(all, one, ref ?? '');
    if (options.json) own.json(ports);
    else if (one !== undefined) own.print(hostLines(ports));
    else own.print(isOne(ref, ports) ? portLines(ports) : portTable(ports, own.paint));
  });
}

/** As `docker port CONTAINER 80`: tcp unless said otherwise. @throws CommandError when it is not published. */
function picked(ports: readonly PortView[], one: string, ref: string): readonly PortView[] {
  const [port, proto = 'tcp'] = one.toLowerCase().split('/');
  const found = ports.filter((view) => String(view.port) === port && view.proto === proto);
  if (found.length === 0) throw new CommandError(`${ref} publishes no port ${String(port)}/${proto}`);
  return found;
}

/** A person who asked for one container knows whose the ports are. */
function isOne(ref: string | undefined, ports: readonly PortView[]): boolean {
  return ref !== undefined && new Set(ports.map(({ endpoint }) => endpoint.name ?? endpoint.id)).size <= 1;
}
