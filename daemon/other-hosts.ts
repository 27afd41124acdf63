/** What the other hosts have on networks that this one has too, as the resolver wants to be told of it. */
import { addressOf } from '../address/prefix.ts';
import type { Cnm } from '../cnm/cnm.ts';
import type { Remote } from '../cnm/control.ts';
import { containerPorts } from '../cnm/ports.ts';
import type { OtherHosts } from '../dns/elsewhere.ts';
import type { ZoneHost } from '../dns/record.ts';

export function otherHosts(cnm: Cnm): OtherHosts {
  return {
    follow(listener) {
      const all = cnm.networks().flatMap(({ id }) => cnm.remotes(id).flatMap((remote) => hostOf(id, remote)));
      listener({ what: 'all', hosts: all });
      return cnm.watch((change) => {
        if (change.what !== 'remote') return;
        const { network, id } = change;
        const [host] = hostOf(network, cnm.remote(network, id));
        listener(host === undefined ? { what: 'gone', network, id } : { what: 'host', host });
      });
    },
  };
}

/** None for what has no name yet. */
function hostOf(network: string, remote: Remote | undefined): readonly ZoneHost[] {
  if (remote?.kind !== 'endpoint' || remote.names.length === 0) return [];
  const { id, host, names, addresses, ports } = remote;
  return [
    {
      ...{ id, network, owner: `host ${host} ${id}`, names },
      addresses: addresses.map(addressOf),
      ports: containerPorts(ports),
    },
  ];
}
