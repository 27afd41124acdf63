/** What a tunnel needs of a fake host: its VNI, and its UDP port. */
import type { Ip } from '../address/ip.ts';
import type { VxlanFact } from './facts.ts';
import type { FakeLink } from './fake-host.ts';
import type { FakePorts } from './fake-ports.ts';
import { KernelError } from './kernel.ts';
import type { LinkAdd } from './step.ts';

type Tunnel = Extract<LinkAdd['link'], { kind: 'vxlan' }>;

export function tunnelOf({ vni, local, port, learning }: Tunnel): VxlanFact {
  return { vni, local, port, learning };
}

/**
 * vxlan_vni_in_use(): the same VNI and port once in the namespace whose addresses the tunnels use, which here is the host's for all.
 * @throws KernelError EEXIST
 */
export function checkVni(links: readonly FakeLink[], name: string, { vni, port }: Tunnel): void {
  if (links.some(({ vxlan }) => vxlan?.vni === vni && vxlan.port === port))
    throw new KernelError(
      `link add ${name}`,
      'EEXIST',
      'A VXLAN device with the specified VNI already exists',
    );
}

/** vxlan_open() binds a socket of the host's, which tunnels with the same port share. @throws KernelError EADDRINUSE */
export function checkPort(ports: FakePorts, { port, local }: Pick<VxlanFact, 'port' | 'local'>): void {
  const address = (local?.includes(':') === true ? '::' : '0.0.0.0') as Ip;
  const wanted = { proto: 'udp' as const, address, port };
  ports.release(wanted, ports.hold(wanted));
}
