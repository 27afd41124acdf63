/** What link.add and link.up have to know of VXLAN links. */
import type { KernelLink } from '../decode.ts';
import type { LinkFact } from '../facts.ts';
import type { LinkKind } from '../step.ts';

export function isSameTunnel(wanted: LinkKind, { vxlan }: Pick<LinkFact, 'vxlan'>): boolean {
  if (wanted.kind !== 'vxlan') return true;
  const { vni, local, port, learning } = wanted;
  return vxlan?.vni === vni && vxlan.local === local && vxlan.port === port && vxlan.learning === learning;
}

/** What the kernel's bare number means here (rtnl_link_ops_get(), vxlan_config_validate()). */
export function whyNoTunnel(link: LinkKind, errno: string): string | undefined {
  if (link.kind !== 'vxlan') return undefined;
  if (errno === 'EOPNOTSUPP') return 'this kernel has no vxlan, or cannot load it: modprobe vxlan';
  if (errno === 'EEXIST')
    return `VNI ${link.vni} on UDP port ${link.port} is taken on this host: see ip -d link show type vxlan, in Docker's namespaces too`;
  return undefined;
}

export function portTaken({ vxlan }: KernelLink): string {
  const port = vxlan?.port ?? 0;
  return `UDP port ${port} is held by another program: see ss -ulnp sport = :${port}`;
}
