/** What link.add has to know of links on another link: macvlan and VLAN. */
import type { Facts, LinkFact } from '../facts.ts';
import { sameMark } from '../mark.ts';
import type { LinkAdd, LinkKind } from '../step.ts';

/** The link that it is made on, which is not its own; none for most kinds. */
export function parentOf({ link }: LinkAdd): readonly string[] {
  return link.kind === 'macvlan' || link.kind === 'vlan' ? [link.parent] : [];
}

export function isVlan(wanted: Extract<LinkKind, { kind: 'vlan' }>, is: LinkFact['vlan']): boolean {
  return is?.id === wanted.id && is.protocol === wanted.protocol;
}

/** No end of it stays behind when it goes into a sandbox: wherever it is, it is known by its endpoint's mark. */
export function wasTaken({ mark }: LinkAdd, facts: Facts): boolean {
  if (mark.endpoint === undefined) return false;
  return [...facts.netns.values()].some(({ links }) =>
    [...links.values()].some((link) => link.kind === 'macvlan' && sameMark(link.mark, mark)),
  );
}

/** What the kernel's bare number means here (macvlan_common_newlink(), vlan_check_real_dev(), rtnl_link_ops_get()). */
export function whyNot({ link }: LinkAdd, errno: string): string | undefined {
  if (link.kind !== 'macvlan' && link.kind !== 'vlan') return undefined;
  const module = link.kind === 'vlan' ? '8021q' : 'macvlan';
  if (errno === 'EOPNOTSUPP') return `this kernel has no ${module}, or cannot load it: modprobe ${module}`;
  if (errno === 'EEXIST' && link.kind === 'vlan')
    return `${link.parent} has a VLAN ${link.id} already, under another name`;
  if (link.kind !== 'macvlan') return undefined;
  if (errno === 'EBUSY') return `${link.parent} is a port of a bridge or bond, or has ipvlan links`;
  if (errno === 'EINVAL' && link.mode === 'passthru') return 'with passthru there is one link on a parent';
  if (errno === 'EINVAL')
    return `${link.parent} carries a passthru link, has a smaller MTU, or is no Ethernet`;
  return undefined;
}
