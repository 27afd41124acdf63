/**
 * Follows the network below the overlays: when a link there takes another MTU, when the way to a host changes, and when another host comes or goes,
 * networks get links of the size that is right now. What cannot be followed is told once, in the log.
 */
import type { Ip } from '../address/ip.ts';
import type { Cnm } from '../cnm/cnm.ts';
import type { Log } from '../cnm/log.ts';
import type { NetworkRecord } from '../cnm/model.ts';
import type { Facts } from '../kernel/facts.ts';
import type { Kernel } from '../kernel/kernel.ts';
import { Chore } from './chore.ts';

export interface BelowParts {
  readonly cnm: Pick<Cnm, 'networks' | 'followHosts' | 'watch' | 'remote'>;
  readonly kernel: Pick<Kernel, 'facts' | 'watch'>;
  readonly log: Log;
  /** The driver's own part, which is pure: what is wrong with the way below a network that is here. */
  readonly wrong: (
    network: NetworkRecord,
    facts: Facts,
  ) => { readonly what: string; readonly todo: string } | undefined;
  /** Milliseconds after a change, of which many may follow each other. */
  readonly after?: number;
}

const AFTER_MS = 300;

/** To be called when the records are true; `stop` resolves when what is under way is over. */
export function followBelow({ cnm, kernel, log, wrong, after = AFTER_MS }: BelowParts): {
  readonly stop: () => Promise<void>;
} {
  const told = new Map<string, string>();
  const present = () =>
    cnm.networks().filter(({ presence, state }) => presence !== undefined && state === 'ready');
  const chore = new Chore('following the network below', log, async () => {
    if (present().length === 0) return;
    await cnm.followHosts();
    const facts = await kernel.facts({ firewall: false });
    for (const network of present()) {
      const { what = '', todo = '' } = wrong(network, facts) ?? {};
      if ((told.get(network.id) ?? '') === what) continue;
      told.set(network.id, what);
      if (what !== '') log.warn({ network: network.id.slice(0, 12), todo }, what);
    }
  });
  const hosts = new Map<string, Ip>();
  const stops = [
    kernel.watch(({ what }) => {
      if (what !== 'firewall') chore.within(after);
    }),
    cnm.watch((change) => {
      if (change.what !== 'remote') return;
      const remote = cnm.remote(change.network, change.id);
      const known = hosts.get(`${change.network} ${change.id}`);
      if (remote?.kind === 'host') hosts.set(`${change.network} ${change.id}`, remote.at);
      else hosts.delete(`${change.network} ${change.id}`);
      if (known !== (remote?.kind === 'host' ? remote.at : undefined)) chore.within(after);
    }),
  ];
  return {
    async stop() {
      for (const stop of stops) stop();
      await chore.stop();
    },
  };
}
