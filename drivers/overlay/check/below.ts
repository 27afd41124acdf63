/** Whether the links of a network have the size that the network below gives them. They follow it (cnm/resize.ts), unless they cannot. Pure. */
import type { Ip } from '../../../address/ip.ts';
import type { HostSettings } from '../../../cnm/driver.ts';
import { CnmError } from '../../../cnm/errors.ts';
import type { NetworkRecord } from '../../../cnm/model.ts';
import type { Facts } from '../../../kernel/facts.ts';
import { parseOptions } from '../options.ts';
import { underlayOf } from '../underlay.ts';
import { changedBelow, type Finding } from './findings.ts';
import { tunnelsOf } from './tunnels.ts';

/** Nothing where it has none here. `others`: hosts that the control plane tells of. */
export function findingsBelow(
  network: NetworkRecord,
  host: HostSettings,
  facts: Facts,
  others: readonly Ip[],
): readonly Finding[] {
  const here = tunnelsOf(network).find((tunnel) => tunnel.here !== undefined)?.here;
  if (here === undefined) return [];
  try {
    const options = parseOptions(network);
    const { mtu } = underlayOf(options, facts.host, host, network.ipv6.length > 0 ? 6 : 4, others);
    return changedBelow(here.mtu, mtu);
  } catch (error) {
    if (!(error instanceof CnmError)) throw error;
    return [
      { code: 'unreachable', severity: 'error', what: error.message, todo: 'see ip route and ip address' },
    ];
  }
}
