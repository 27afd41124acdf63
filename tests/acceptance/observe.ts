/** What the acceptance tests look at from outside: Docker's answers, and packets where they arrive. */
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Running } from '../lab/command.ts';
import { PATIENCE, until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { type Host, NODE, REPOSITORY } from '../lab/host.ts';

export interface Attached {
  readonly v4: string;
  readonly v6: string;
  readonly mac: string;
}

/** A container's addresses on a network, without prefix lengths, as `docker inspect` has them. Empty = none. */
export async function attached(h: DockerHost, container: string, network: string): Promise<Attached> {
  const { Networks } = await h.settingsOf(container);
  const { IPAddress = '', GlobalIPv6Address = '', MacAddress = '' } = Networks?.[network] ?? {};
  return { v4: IPAddress, v6: GlobalIPv6Address, mac: MacAddress };
}

/** The name that drivers/bridge/README.md says the network's bridge has. */
export async function bridgeOf(h: DockerHost, network: string): Promise<string> {
  const id = await h.docker('network', 'inspect', '--format', '{{.Id}}', network);
  return `cnm${id.slice(0, 12)}`;
}

/** A field of a link as `ip -j` has it. */
export async function linkField(h: DockerHost, link: string, field: string): Promise<unknown> {
  const [found] = JSON.parse(await h.net('ip', '-j', 'link', 'show', 'dev', link)) as Record<
    string,
    unknown
  >[];
  return found?.[field];
}

/** The ports of a bridge, by name. */
export async function portsOf(h: DockerHost, bridge: string): Promise<readonly string[]> {
  const json = await h.net('ip', '-j', 'link', 'show', 'master', bridge);
  const ports = json.trim() === '' ? [] : (JSON.parse(json) as { ifname?: string }[]);
  return ports.flatMap(({ ifname }) => (ifname === undefined ? [] : [ifname])).sort();
}

/**
 * What tcpdump sees of `filter` while `act` runs and for a moment after, one line a packet. For what nobody answers, and so may come later than
 * `act` ends, `act` waits: `shows` resolves when it is there, or fails to come.
 */
export async function capture(
  tcpdump: Tcpdump,
  filter: string,
  act: (shows: (what: RegExp) => Promise<void>) => Promise<unknown>,
): Promise<string> {
  const running = tcpdump(['tcpdump', '-lnn', '--immediate-mode', ...filter.split(' ')]);
  await until('tcpdump to listen', 10_000, () => running.stderr.includes('listening on') || undefined);
  await act((what) =>
    until(String(what), 30_000, () => what.test(running.stdout) || undefined).then(
      () => undefined,
      () => undefined,
    ),
  );
  // What was sent last has arrived: the ways here are microseconds long.
  await sleep(100 * PATIENCE);
  await stopCapture(running);
  return running.stdout;
}

/**
 * Ends a tcpdump in immediate mode when it has read all that came by. At a signal it leaves unread what is in its ring, and on a loaded machine it
 * may not have had its turn for long; a packet that arrives wakes it in the same moment, so that who sleeps has none.
 */
export async function stopCapture(tcpdump: Running): Promise<void> {
  const pid = await tcpdump.pid();
  let printed = -1;
  await until('tcpdump to have read all', 30_000, async () => {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
    const state = stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3);
    // It sleeps as well while we do not read what it prints.
    const isQuiet = state === 'S' && printed === tcpdump.stdout.length;
    printed = tcpdump.stdout.length;
    return isQuiet || undefined;
  });
  await tcpdump.kill('SIGINT');
}

/** Starts it where it shall listen: `(argv) => h.spawnNet(argv)`. */
export type Tcpdump = (argv: readonly string[]) => Running;

/** Puts `cnm` into the host's path, as the package would. */
export async function installCommand(h: Host): Promise<void> {
  const script = `#!/bin/sh\nexec ${NODE} ${REPOSITORY}/inspect/cnm.ts "$@"\n`;
  await h.sh('cat > /usr/bin/cnm && chmod +x /usr/bin/cnm', { input: script });
}
