/** Links on another link in a fake host: macvlan and VLAN. Every errno was seen from Linux 6.18 (macvlan) or is cited (VLAN). */
import type { FakeLink, FakeNetns } from './fake-host.ts';
import type { FakePorts } from './fake-ports.ts';
import { checkPort } from './fake-tunnels.ts';
import { KernelError } from './kernel.ts';
import type { LinkAdd, LinkKind } from './step.ts';

type Vlan = Extract<LinkKind, { kind: 'vlan' }>;
type OnParent = Extract<LinkKind, { kind: 'macvlan' | 'vlan' }>;

/**
 * The link that `step` asks for as the parent; undefined for other kinds.
 * @throws KernelError as the kernel would for a parent that is not there, or does not take such a link.
 */
export function parentFor(netns: FakeNetns, step: LinkAdd): FakeLink | undefined {
  const wanted = onParent(step.link);
  if (wanted === undefined) return undefined;
  const parent = netns.links.get(wanted.parent);
  if (parent === undefined) throw new KernelError(`link ${wanted.parent}`, 'ENODEV');
  const refusal = wanted.kind === 'vlan' ? refusesVlan(parent, wanted) : refusesMacvlan(parent, wanted.mode);
  if (refusal !== undefined) throw new KernelError(`link add ${step.name}`, refusal);
  if ((step.mtu ?? 0) > parent.mtu) throw new KernelError(`link add ${step.name}`, 'EINVAL');
  return parent;
}

/** NETIF_F_VLAN_CHALLENGED on `lo`; vlan_check_real_dev(): one VLAN of a number and protocol, whatever its name. */
function refusesVlan(parent: FakeLink, { id, protocol }: Omit<Vlan, 'kind'>): string | undefined {
  if (parent.name === 'lo') return 'EOPNOTSUPP';
  const isThere = [...parent.children].some(({ vlan }) => vlan?.id === id && vlan.protocol === protocol);
  return isThere ? 'EEXIST' : undefined;
}

/** macvlan_common_newlink(): one receive handler a link; with passthru one link on a parent. */
function refusesMacvlan(parent: FakeLink, mode: string): string | undefined {
  if (parent.name === 'lo') return 'EINVAL';
  if (parent.master !== undefined) return 'EBUSY';
  const modes = [...parent.children].flatMap(({ macvlanMode }) => macvlanMode ?? []);
  return modes.includes('passthru') || (mode === 'passthru' && modes.length > 0) ? 'EINVAL' : undefined;
}

/** Puts a new link on its parent. */
export function putOn(link: FakeLink, parent: FakeLink | undefined, kind: LinkKind): void {
  const wanted = onParent(kind);
  if (wanted === undefined || parent === undefined) return;
  link.parent = parent;
  parent.children.add(link);
  if (wanted.kind === 'vlan') link.vlan = { id: wanted.id, protocol: wanted.protocol };
  else link.macvlanMode = wanted.mode;
  if (wanted.kind === 'macvlan' && wanted.mode === 'passthru' && parent.mac !== undefined)
    link.mac = parent.mac;
}

/** A VLAN is not up without its parent, and goes up and down with it (vlan_dev_open(), vlan_device_event()). */
export function switchLink(link: FakeLink, up: boolean): void {
  link.up = up && (link.vlan === undefined || link.parent?.up === true);
  for (const child of link.children) if (child.vlan !== undefined) switchLink(child, link.up);
}

/** @throws KernelError EADDRINUSE when a tunnel's port is another's. */
export function linkUp(link: FakeLink, ports: FakePorts): (() => void) | undefined {
  if (link.up) return undefined;
  if (link.vxlan !== undefined) checkPort(ports, link.vxlan);
  switchLink(link, true);
  return () => {
    switchLink(link, false);
  };
}

export function linkPromisc(link: FakeLink): (() => void) | undefined {
  if (link.promisc === true) return undefined;
  link.promisc = true;
  return () => {
    delete link.promisc;
  };
}

/** Whether a link of ours that is there is the VLAN that the step asks for. */
export function isVlanOf(link: FakeLink, kind: LinkKind): boolean {
  if (kind.kind !== 'vlan') return true;
  return (
    link.parent?.name === kind.parent && link.vlan?.id === kind.id && link.vlan.protocol === kind.protocol
  );
}

function onParent(kind: LinkKind): OnParent | undefined {
  return kind.kind === 'macvlan' || kind.kind === 'vlan' ? kind : undefined;
}
