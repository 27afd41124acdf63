/** rtnetlink requests for links on another link: macvlan and VLAN. Pure. */
import { uint32 } from './attribute.ts';
import {
  IFLA_MACVLAN_FLAGS,
  IFLA_MACVLAN_MODE,
  IFLA_VLAN_ID,
  IFLA_VLAN_PROTOCOL,
} from './link-attributes.ts';
import type { NetlinkRequest } from './netlink.ts';
import { linkInfo, newLink } from './rtnetlink.ts';
import type { NewLink } from './rtnetlink.ts';
import type { MacvlanMode, VlanProtocol } from './step.ts';

/** linux/if_link.h */
const MACVLAN_FLAG_NOPROMISC = 1;

export interface MacvlanSettings {
  readonly mode: MacvlanMode;
  readonly promisc?: boolean;
}

/** `parent`: an interface index, as for createVlan. */
export function createMacvlan(
  link: NewLink,
  parent: number,
  { mode, promisc = true }: MacvlanSettings,
): NetlinkRequest {
  const linkinfo = linkInfo('macvlan', (out) => {
    out.push(IFLA_MACVLAN_MODE, uint32(MACVLAN_MODES[mode]));
    if (!promisc) out.push(IFLA_MACVLAN_FLAGS, Buffer.of(MACVLAN_FLAG_NOPROMISC, 0));
  });
  return newLink(link, { link: uint32(parent), linkinfo });
}

/** linux/if_link.h, enum macvlan_mode */
export const MACVLAN_MODES: Readonly<Record<MacvlanMode, number>> = {
  private: 1,
  vepa: 2,
  bridge: 4,
  passthru: 8,
};

/** ETH_P_8021Q and ETH_P_8021AD, which IFLA_VLAN_PROTOCOL has in network byte order. */
export const VLAN_PROTOCOLS: Readonly<Record<VlanProtocol, number>> = {
  '802.1q': 0x8100,
  '802.1ad': 0x88a8,
};

export function createVlan(
  link: NewLink,
  parent: number,
  { id, protocol }: { readonly id: number; readonly protocol: VlanProtocol },
): NetlinkRequest {
  const ethertype = VLAN_PROTOCOLS[protocol];
  const linkinfo = linkInfo('vlan', (out) => {
    // As ip(8): 802.1Q is what the kernel takes it for by itself (vlan_newlink()).
    if (protocol !== '802.1q') out.push(IFLA_VLAN_PROTOCOL, Buffer.of(ethertype >> 8, ethertype & 0xff));
    out.push(IFLA_VLAN_ID, Buffer.of(id & 0xff, id >> 8));
  });
  return newLink(link, { link: uint32(parent), linkinfo });
}
