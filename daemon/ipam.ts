/** The IPAM as the daemon runs it. */
import { readFileSync } from 'node:fs';
import type { Cnm, EngineNetwork } from '../cnm/cnm.ts';
import type { Log } from '../cnm/log.ts';
import { createIpam } from '../ipam/index.ts';
import type { ClusterMembership } from '../ipam/index.ts';
import type { Ipam } from '../ipam/ipam.ts';
import { createLeaseReclaimer } from '../ipam/reclaim.ts';
import { createStrangers } from '../ipam/strangers.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { Store } from '../store/store.ts';
import type { Configuration } from './configuration.ts';
import { hostPrefixes } from './host-prefixes.ts';
import { liveAddresses } from './live-addresses.ts';
import { namespacesOf } from './namespaces.ts';
import type { Pace, UpkeepParts } from './upkeep.ts';

export interface IpamParts {
  readonly store: Store;
  readonly kernel: Kernel;
  readonly cnm: Cnm;
  readonly log: Log;
  readonly pace: Partial<Pace>;
  /** The hosts that this one shares an address space with. */
  readonly membership: ClusterMembership | undefined;
}

/** With the comparison of what it has given with what Docker and the kernel say is there. */
export async function openIpam(
  configuration: Configuration,
  { store, kernel, cnm, log, pace, membership }: IpamParts,
): Promise<{ readonly ipam: Ipam; readonly leases: NonNullable<UpkeepParts['leases']> }> {
  const { defaultPools, addressRest, defaultSpace, resolvConf } = configuration;
  const strangers = createStrangers(() => ipam);
  const hostPools = async () => [
    ...hostPrefixes(await kernel.facts({ firewall: false }), contents(resolvConf)),
    ...strangers.prefixes(),
  ];
  const cluster = membership === undefined ? {} : { cluster: membership };
  const given = { store, log, hostPrefixes: hostPools, defaultPools, rest: addressRest, defaultSpace };
  const ipam = await createIpam({ ...given, ...cluster });
  const live = async () => {
    const netns = namespacesOf(configuration);
    return liveAddresses(await kernel.facts({ firewall: false, netns }));
  };
  const age = pace.leaseAge === undefined ? {} : { age: pace.leaseAge };
  const reclaimer = createLeaseReclaimer({ cnm, ipam, log, live, ...age });
  const look = (listed: readonly EngineNetwork[]) => {
    strangers.look(listed);
    return reclaimer.look(listed);
  };
  return { ipam, leases: { look } };
}

function contents(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
