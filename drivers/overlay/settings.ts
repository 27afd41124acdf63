/** Settings of namespaces and links that the overlay driver makes; what is on before stays on. */
import type { NetnsPath, Step } from '../../kernel/step.ts';

export function setting(key: string, value: string, netns?: NetnsPath): Step {
  return { do: 'sysctl.set', ...(netns && { netns }), key, value, keep: true };
}

/** IPv6 on a link where nobody else can have its addresses, and no router is believed: see drivers/bridge/plan.ts. */
export function ownIpv6(link: string, netns?: NetnsPath): readonly Step[] {
  return ['disable_ipv6', 'accept_ra', 'accept_dad'].map((key) =>
    setting(`net.ipv6.conf.${link}.${key}`, '0', netns),
  );
}
