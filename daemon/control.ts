/** The control plane as the daemon runs it. */
import { clusterPlane, type ClusterPlane } from '../cnm/cluster/index.ts';
import type { Cnm } from '../cnm/cnm.ts';
import type { Log } from '../cnm/log.ts';
import type { ClusterStore } from '../store/cluster.ts';

export interface ControlParts {
  readonly store: ClusterStore;
  readonly host: { readonly id: string; readonly name: string; readonly boot: string };
  readonly spaces: readonly string[];
  /** Made after this, and asked for its networks only then. */
  readonly cnm: () => Cnm;
  readonly log: Log;
}

export function openControl({ cnm, ...parts }: ControlParts): ClusterPlane {
  return clusterPlane({
    ...parts,
    own: () => {
      const { drivers, networks } = cnm();
      return networks().flatMap(({ agreement, ...network }) => {
        const terms = drivers.find(({ name }) => name === network.driver)?.sharing?.terms(network);
        return agreement === undefined || terms === undefined ? [] : [{ agreement, terms }];
      });
    },
  });
}
