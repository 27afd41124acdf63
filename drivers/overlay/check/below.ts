/** Looks after the network below while tunnels stand: their links keep the MTU that they were made with, and somebody should know. */
import type { Cnm } from '../../../cnm/cnm.ts';
import type { HostSettings } from '../../../cnm/driver.ts';
import { CnmError } from '../../../cnm/errors.ts';
import type { Log } from '../../../cnm/log.ts';
import type { NetworkRecord } from '../../../cnm/model.ts';
import type { Facts } from '../../../kernel/facts.ts';
import type { Kernel } from '../../../kernel/kernel.ts';
import { parseOptions } from '../options.ts';
import { underlayOf } from '../underlay.ts';
import { changedBelow, type Finding } from './findings.ts';
import { tunnelsOf } from './tunnels.ts';

/** What is another now than when the network's links were made; nothing where it has none here. */
export function findingsBelow(network: NetworkRecord, host: HostSettings, facts: Facts): readonly Finding[] {
  const here = tunnelsOf(network).find((tunnel) => tunnel.here !== undefined)?.here;
  if (here === undefined) return [];
  try {
    const options = parseOptions(network);
    const { mtu } = underlayOf(options, facts.host, host, network.ipv6.length > 0 ? 6 : 4);
    return changedBelow(here.mtu, mtu);
  } catch (error) {
    if (!(error instanceof CnmError)) throw error;
    return [
      { code: 'unreachable', severity: 'error', what: error.message, todo: 'see ip route and ip address' },
    ];
  }
}

export interface WatchParts {
  readonly cnm: Pick<Cnm, 'networks'>;
  readonly kernel: Pick<Kernel, 'facts' | 'watch'>;
  readonly log: Log;
  readonly host: HostSettings;
  /** Milliseconds after a change of links, of which many may follow each other. */
  readonly after?: number;
}

const AFTER_MS = 3000;

/** Each change is told once, in the log. Returns the way to stop. */
export function watchBelow({ cnm, kernel, log, host, after = AFTER_MS }: WatchParts): () => void {
  const told = new Map<string, string>();
  let timer: NodeJS.Timeout | undefined;
  const look = async () => {
    const encapsulated = cnm
      .networks()
      .filter(({ driver, presence }) => driver === 'cnm-overlay' && presence);
    if (encapsulated.length === 0) return;
    const facts = await kernel.facts({ firewall: false });
    for (const network of encapsulated) {
      const [finding] = findingsBelow(network, host, facts);
      const what = finding?.what ?? '';
      if (told.get(network.id) === what) continue;
      told.set(network.id, what);
      if (finding !== undefined) log.warn({ network: network.id.slice(0, 12), todo: finding.todo }, what);
    }
  };
  const unwatch = kernel.watch(({ what }) => {
    if (what === 'firewall') return;
    timer ??= setTimeout(() => {
      timer = undefined;
      look().catch((error: unknown) => {
        log.debug({ error: String(error) }, 'the network below could not be looked at');
      });
    }, after);
    timer.unref();
  });
  return () => {
    unwatch();
    clearTimeout(timer);
  };
}
