import { readFileSync } from 'node:fs';

/** Of the package that this command is of; one folder higher when built: dist/inspect/cli instead of inspect/cli. */
export function ownVersion(): string {
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
