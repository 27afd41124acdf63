/** resolv.conf of each sandbox of ours, where `cnm sandbox exec` finds it. */
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SandboxRecord } from '../cnm/model.ts';
import { SANDBOX_ADDRESS } from './doors.ts';
import { type ResolvConf, resolvConfText } from './resolv-conf.ts';

const COMMENT = 'Made by cnmd for a sandbox; changed with: cnm sandbox create --dns-search, --dns-option';

export class SandboxFiles {
  readonly #folder: string;
  /** What each file says, by its name; undefined before the first look at the folder. */
  #written: ReadonlyMap<string, string> | undefined;

  /** The files are below the run directory, named as the namespaces are. */
  constructor(runDir: string) {
    this.#folder = join(runDir, 'resolv');
  }

  /** Makes what is missing or says something else, and removes what is too much. @throws what node:fs throws */
  sync(sandboxes: readonly SandboxRecord[], host: ResolvConf): void {
    const wanted = new Map(
      sandboxes.map((sandbox) => [`${sandbox.id.slice(0, 12)}.conf`, contents(sandbox, host)]),
    );
    if (this.#written === undefined) mkdirSync(this.#folder, { recursive: true, mode: 0o755 });
    for (const name of this.#written?.keys() ?? readdirSync(this.#folder))
      if (!wanted.has(name)) rmSync(join(this.#folder, name), { force: true });
    for (const [name, text] of wanted)
      if (this.#written?.get(name) !== text) replace(join(this.#folder, name), text);
    this.#written = wanted;
  }
}

/** Whole at any time: somebody may be reading it. */
function replace(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o644 });
  renameSync(`${path}.new`, path);
}

/**
 * Docker's way: what is not given is the host's; and names are asked for as they are before anything is appended to them, unless
 * somebody says otherwise.
 */
function contents({ dns }: SandboxRecord, host: ResolvConf): string {
  const given = dns?.options ?? [];
  const options = given.length > 0 ? given : host.options.filter((option) => !option.startsWith('ndots:'));
  const search = dns !== undefined && dns.search.length > 0 ? dns.search : host.search;
  const ndots = options.some((option) => option.startsWith('ndots:')) ? [] : ['ndots:0'];
  return resolvConfText(
    {
      servers: [SANDBOX_ADDRESS],
      search: search.filter((domain) => domain !== '.'),
      options: [...options, ...ndots],
    },
    COMMENT,
  );
}
