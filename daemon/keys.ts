/** The keys of encrypted networks as the daemon has them: from a file, or else from the cluster. */
import type { Log } from '../cnm/log.ts';
import { hostId } from '../ipam/cluster/identity.ts';
import type { ClusterMembership } from '../ipam/index.ts';
import type { Store } from '../store/store.ts';
import { ClusterKeys } from './cluster-keys.ts';
import type { Configuration } from './configuration.ts';
import { type Keys, OverlayKeys } from './overlay-keys.ts';

export interface KeysParts {
  readonly store: Store;
  readonly membership: ClusterMembership | undefined;
  readonly log: Log;
}

/** Undefined: there are none, and no network can be encrypted. @throws ConfigurationError when the file cannot be used */
export async function openKeys(
  { overlayKeys: file, overlayRekey: period, drivers, clusterLease: ttl }: Configuration,
  { store, membership, log }: KeysParts,
): Promise<Keys | undefined> {
  if (!drivers.includes('overlay')) return undefined;
  if (file !== undefined) return new OverlayKeys({ file, period, log });
  if (membership === undefined) return undefined;
  const { store: cluster, name, boot } = membership;
  const host = { id: await hostId(store), name, boot };
  return new ClusterKeys({ cluster, store, period, log, host, pace: { ttl } });
}
