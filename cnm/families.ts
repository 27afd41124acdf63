/** Which IP families a network has, and whether the host lets it. */
import type { Facts } from '../kernel/facts.ts';
import { CnmError } from './errors.ts';
import type { NetworkSpec } from './model.ts';

export function familiesOf({ ipv4, ipv6 }: NetworkSpec): readonly (4 | 6)[] {
  return [...(ipv4.length > 0 ? [4 as const] : []), ...(ipv6.length > 0 ? [6 as const] : [])];
}

/** The sysctl by which a host is without IPv6; `Driver.network` finds it in the facts. */
export const IPV6_DISABLED = 'net.ipv6.conf.all.disable_ipv6';

/** A switch of the administrator's, which a network of ours must not undo: each bridge would be an interface with IPv6 again. */
export function assertIpv6Enabled(spec: NetworkSpec, facts: Facts): void {
  if (spec.ipv6.length === 0 || facts.host.sysctls.get(IPV6_DISABLED) !== '1') return;
  throw new CnmError(
    'option-invalid',
    `IPv6 is switched off on this host (${IPV6_DISABLED} is 1): create the network without --ipv6, or switch it on`,
  );
}
