/** What is known of NICs that drop what comes for or from a MAC that is not theirs. Pure. */
import type { LinkFact } from '../../kernel/facts.ts';

const HYPERVISORS: Readonly<Record<string, string>> = {
  vmxnet3:
    'VMware drops foreign MACs unless the port group accepts forged transmits and promiscuous mode (or MAC learning)',
  hv_netvsc:
    'Hyper-V drops foreign MACs unless MAC address spoofing is enabled for the adapter; Azure always does',
  mana: 'Azure drops frames from foreign MACs',
  ena: 'AWS drops frames from foreign MACs',
  gve: 'Google Cloud drops frames from foreign MACs',
  virtio_net: 'the hypervisor may drop foreign MACs: clouds do, libvirt with a no-mac-spoofing filter',
  vif: 'Xen drops foreign MACs unless the vif is promiscuous in its domain 0',
};

/** A sentence for what may keep a container's frames from the LAN; undefined: nothing that is known. */
export function warningOf({ name, nic }: LinkFact): string | undefined {
  if (nic === undefined) return undefined;
  if (nic.wireless)
    return `${name} is Wi-Fi: an access point drops frames of MACs that have not joined it, so containers reach nobody by it`;
  const words = HYPERVISORS[nic.driver ?? ''];
  return words === undefined ? undefined : `${name} (${nic.driver ?? ''}): ${words}`;
}
