/** The control plane as the daemon runs it. */
import { clusterPlane, type ClusterPlane, type Pace } from '../cnm/cluster/index.ts';
import type { Cnm } from '../cnm/cnm.ts';
import type { Log } from '../cnm/log.ts';
import type { Ipam } from '../ipam/ipam.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { ClusterStore } from '../store/cluster.ts';
import type { Store } from '../store/store.ts';
import { isThere } from './echo.ts';

export interface ControlParts {
  readonly store: ClusterStore;
  /** This host's own. */
  readonly records: Store;
  readonly host: { readonly id: string; readonly name: string; readonly boot: string };
  /** Both are made after this, and asked only then. */
  readonly cnm: () => Cnm;
  readonly ipam: () => Ipam;
  readonly kernel: Pick<Kernel, 'probeSocket'>;
  readonly pace: Pick<Pace, 'ttl'>;
  readonly log: Log;
}

export function openControl({ cnm, ipam, kernel, ...parts }: ControlParts): ClusterPlane {
  return clusterPlane({
    ...parts,
    isThere: (address) => isThere(kernel, address),
    shared: () => {
      const { globalSpace } = ipam();
      return ipam()
        .pools()
        .flatMap(({ space, pool }) => (space === globalSpace ? [pool] : []));
    },
    own: () => {
      const { drivers } = cnm();
      return cnm()
        .networks()
        .flatMap(({ agreement, ...network }) => {
          const terms = drivers.find(({ name }) => name === network.driver)?.sharing?.terms(network);
          return agreement === undefined || terms === undefined ? [] : [{ agreement, terms }];
        });
    },
  });
}
