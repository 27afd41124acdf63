/** `cnm overlay …`. Exit status of `check`: 0 nothing is wrong, 3 something was found. */
import type { Command } from 'commander';
import { checkText, rotationText } from '../render/overlay.ts';
import { client, type Common, common, type Terminal } from './terminal.ts';

const FOUND = 3;

export function overlayCommands(overlay: Command, own: Terminal): void {
  const check = overlay
    .command('check <network>')
    .description(
      'test the way to each host of the network and back: reachability, packet sizes, checksums, settings; change nothing (exit status 3: something found)',
    );
  common(check).action(async (network: string, options: Common) => {
    const report = await client(options).checkOverlay(network);
    if (options.json) own.json(report);
    else own.print(checkText(report, own.paint));
    own.status = report.healthy ? 0 : FOUND;
  });
  const rotate = overlay
    .command('rotate')
    .description(
      "read this host's secrets again, and send with other keys on encrypted networks from now on",
    );
  common(rotate).action(async (options: Common) => {
    const rotation = await client(options).rotateKeys();
    if (options.json) own.json(rotation);
    else own.print(rotationText(rotation));
  });
}
