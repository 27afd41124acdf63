/** `cnm version` */
import { readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { fields } from '../render/table.ts';
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

/** One folder higher when built: dist/inspect/cli instead of inspect/cli. */
function ownVersion(): string {
  for (const up of ['../../package.json', '../../../package.json']) {
    try {
      const text = readFileSync(new URL(up, import.meta.url), 'utf8');
      return (JSON.parse(text) as { readonly version: string }).version;
    } catch {
      // Not here.
    }
  }
  return 'unknown';
}
