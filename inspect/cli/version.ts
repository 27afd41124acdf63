/** `cnm version` */
import type { Command } from 'commander';
import { fields } from '../render/table.ts';
import { ownVersion } from './own-version.ts';
import { client, type Common, common, type Terminal } from './terminal.ts';

export function versionCommand(version: Command, own: Terminal): void {
  common(version).action(async (options: Common) => {
    const command = ownVersion();
    const daemon = await client(options).version();
    if (options.json) {
      own.json({ command, daemon });
      return;
    }
    const lines = fields([
      ['command', command],
      ['daemon', `${daemon.version} (Node ${daemon.node})`],
      ['drivers', daemon.drivers.join(', ')],
      ['run dir', daemon.runDir],
    ]);
    own.print(lines.join('\n') + '\n');
  });
}
