/** link.add. */
import { describe, markText } from '../describe.ts';
import type { LinkFact } from '../facts.ts';
import { KernelError } from '../kernel.ts';
import { checkName } from '../link-name.ts';
import { LINK_GROUP, mayBe, sameMark } from '../mark.ts';
import { createBridge, createIfb, createVeth, createVxlan } from '../rtnetlink.ts';
import type { NetlinkRequest } from '../netlink.ts';
import type { KernelLink } from '../decode.ts';
import type { LinkChange, NewLink } from '../rtnetlink.ts';
import { createMacvlan, createVlan } from '../sub-interface.ts';
import type { LinkAdd, LinkKind, NetnsPath } from '../step.ts';
import { netnsFacts } from './kind.ts';
import type { Kind, Operation, Place, View } from './kind.ts';
import { isVlan, parentOf, wasTaken, whyNot } from './sub-interface.ts';
import { isSameTunnel, whyNoTunnel } from './tunnel.ts';
import { change, linkOf } from './present-link.ts';

/** Where what one link.add makes is, and under which names. */
export function endsOf({ netns, name, link }: LinkAdd): readonly Place[] {
  const own = { netns, name };
  return link.kind === 'veth' ? [own, { netns: peerNetns(netns, link), name: link.peer.name }] : [own];
}

function peerNetns(
  netns: NetnsPath | undefined,
  { peer }: Extract<LinkKind, { kind: 'veth' }>,
): NetnsPath | undefined {
  return peer.home === true ? undefined : netns;
}

export const linkAdd: Kind<LinkAdd> = {
  looks: (step) => [
    ...endsOf(step).map((end) => ({ ...end, make: true as const })),
    ...parentOf(step).map((name) => ({ netns: step.netns, name })),
  ],

  apply(step, view) {
    for (const { name } of endsOf(step)) checkName(name);
    const present = view.link(step.netns, step.name);
    if (present !== undefined) return adjusted(step, present, view);
    if (step.link.kind === 'tun') return newTap(step, view);
    return step.link.kind === 'veth' ? newVeth(step, step.link, view) : newSingle(step, view);
  },

  /** Both names: one end may have gone into a sandbox, and takes the other with it when it is deleted. */
  inverse(step, view) {
    const [found] = endsOf(step).flatMap(({ netns, name }) => {
      const link = view.link(netns, name);
      return link !== undefined && mayBeMade(step, link) ? [{ netns, link }] : [];
    });
    if (found === undefined) return [];
    for (const { netns, name } of endsOf(step)) view.drop(netns, name);
    return [{ via: 'delete', ...found }];
  },

  satisfied(step, facts) {
    const ends = endsOf(step).map(({ netns, name }) => netnsFacts(facts, netns)?.links.get(name));
    if (ends.some((end) => isMade(step, end))) return !ends.some((end) => isOtherSize(step, end));
    return step.link.kind === 'macvlan' && wasTaken(step, facts);
  },
};

function isMade(step: LinkAdd, link: LinkFact | undefined): boolean {
  return (
    link !== undefined &&
    link.kind === step.link.kind &&
    sameMark(link.mark, step.mark) &&
    (step.mtu === undefined || step.mtu === link.mtu) &&
    (step.link.kind !== 'vlan' || (link.parent === step.link.parent && isVlan(step.link, link.vlan))) &&
    isSameTunnel(step.link, link)
  );
}

/** One that has gone into a container is not here. */
function isOtherSize({ mark, mtu }: LinkAdd, end: LinkFact | undefined): boolean {
  return end !== undefined && sameMark(end.mark, mark) && (mtu ?? end.mtu) !== end.mtu;
}

function newSingle(step: LinkAdd, view: View): readonly Operation[] {
  const link = {
    name: step.name,
    index: view.newIndex(step.netns),
    ...(step.mac !== undefined && { mac: step.mac }),
  };
  const made = put(view, step, link, step.netns);
  // The MTU by a change of its own: only br_change_mtu() makes the bridge keep it when ports come and go.
  const mtu = step.mtu === undefined ? {} : { mtu: step.mtu };
  return [
    {
      via: 'rtnetlink',
      // A tunnel keeps to the namespace in which it was asked for.
      netns: step.link.kind === 'vxlan' ? undefined : step.netns,
      request: createSingle(step, link, view),
      hint: (errno) => whyNot(step, errno) ?? whyNoTunnel(step.link, errno),
      undo: { via: 'delete', netns: step.netns, link: made },
      creates: true,
    },
    change(step.netns, made, { ...mtu, ...finish(step, view) }),
  ];
}

/** @throws KernelError ENODEV when the parent is not there. */
function createSingle(step: LinkAdd, link: NewLink, view: View): NetlinkRequest {
  const parent = (name: string): number => linkOf(view, step.netns, name, step).index;
  switch (step.link.kind) {
    case 'macvlan':
      return createMacvlan(link, parent(step.link.parent), step.link);
    case 'vlan':
      return createVlan(link, parent(step.link.parent), step.link);
    case 'vxlan':
      return createVxlan(link, step.link, step.netns === undefined ? undefined : view.handle(step.netns));
    case 'ifb':
      return createIfb(link);
    default:
      return createBridge(link);
  }
}

function newVeth(step: LinkAdd, kind: Extract<LinkKind, { kind: 'veth' }>, view: View): readonly Operation[] {
  const { name, mac } = kind.peer;
  const there = peerNetns(step.netns, kind);
  if (view.link(there, name) !== undefined || (there === step.netns && name === step.name)) {
    throw new KernelError(describe(step), 'EEXIST', `a link ${name} is there already`);
  }
  const mtu = step.mtu === undefined ? {} : { mtu: step.mtu };
  const link = {
    name: step.name,
    index: view.newIndex(step.netns),
    ...mtu,
    ...(step.mac !== undefined && { mac: step.mac }),
  };
  const peer = { name, index: view.newIndex(there), ...mtu, ...(mac !== undefined && { mac }) };
  const inner = put(view, step, peer, there);
  const outer = put(view, step, link, step.netns);
  return [
    {
      via: 'rtnetlink',
      netns: step.netns,
      request: createVeth(link, peer, there === step.netns ? undefined : view.handle(there)),
      undo: { via: 'delete', netns: step.netns, link: outer },
      creates: true,
    },
    // The peer first: an outer end that has its alias is then complete.
    change(there, inner, finish(step, view)),
    change(step.netns, outer, finish(step, view)),
  ];
}

/** include/uapi/linux/ipv6.h: IPV6_MIN_MTU. A link below it has no IPv6 at all (addrconf_notify(), RFC 8200 section 5). */
const IPV6_MIN_MTU = 1280;

function newTap(step: LinkAdd, view: View): readonly Operation[] {
  view.unknow(step.netns, step.name);
  const mtu = step.mtu === undefined ? {} : { mtu: step.mtu };
  const mac = step.mac === undefined ? {} : { mac: step.mac };
  const change = { group: LINK_GROUP, ...mtu, ...mac, ...finish(step, view) };
  return [{ via: 'tap', netns: step.netns, name: step.name, change }];
}

/** What no create message takes: IFLA_IFALIAS and IFLA_AF_SPEC are for existing links only. And flags, which a veth's peer would not get. */
function finish(step: LinkAdd, view: View): LinkChange {
  // For a link without IPv6 the kernel refuses the setting with EAFNOSUPPORT (inet6_set_link_af()).
  const hasIpv6 = view.ipv6 && (step.mtu === undefined || step.mtu >= IPV6_MIN_MTU);
  const noLinkLocal = step.linkLocal === false && hasIpv6;
  return {
    alias: markText(step.mark),
    ...(noLinkLocal && { noLinkLocal }),
    ...(step.arp === false && { noArp: true }),
  };
}

function put(
  view: View,
  step: LinkAdd,
  { name, index, mac, mtu }: NewLink,
  netns: NetnsPath | undefined,
): KernelLink {
  const link: KernelLink = {
    name,
    index,
    kind: step.link.kind,
    mtu: mtu ?? step.mtu ?? 1500,
    up: false,
    carrier: false,
    promisc: false,
    promiscuity: 0,
    master: 0,
    peerElsewhere: false,
    mark: step.mark,
    made: true,
    ...(mac !== undefined && { mac }),
    ...(step.link.kind === 'vxlan' && { vxlan: step.link }),
  };
  view.put(netns, link);
  return link;
}

/** A link of ours is there: after an earlier call, or after a crash in the middle of one. */
function adjusted(step: LinkAdd, present: KernelLink, view: View): readonly Operation[] {
  if (!mayBeMade(step, present) || !isOnParent(step, present, view) || !isSameTunnel(step.link, present)) {
    const whose = present.mark === undefined ? 'not one of ours' : `marked '${markText(present.mark)}'`;
    throw new KernelError(describe(step), 'EEXIST', `a link ${step.name} is there already, ${whose}`);
  }
  const unfinished = endsOf(step)
    .map(({ netns, name }) => ({ netns, end: view.link(netns, name) }))
    .filter(({ end }) => end?.kind === step.link.kind && end.mark?.network === '');
  const mtu = step.mtu !== undefined && step.mtu !== present.mtu ? { mtu: step.mtu } : {};
  const mac = step.mac !== undefined && step.mac !== present.mac ? { mac: step.mac } : {};
  const before = { mtu: present.mtu, ...(present.mac !== undefined && { mac: present.mac }) };
  const others = otherSize(step, view);
  view.put(step.netns, { ...present, ...mtu, ...mac, mark: step.mark });
  return [
    ...('mtu' in mtu || 'mac' in mac ? [change(step.netns, present, { ...mtu, ...mac }, before)] : []),
    ...others,
    // The peer first: an outer end that has its alias is then complete.
    ...unfinished
      .toReversed()
      .flatMap(({ netns, end }) => (end === undefined ? [] : [change(netns, end, finish(step, view))])),
  ];
}

/** What is sent to a veth end that takes less than its peer is lost there (is_skb_forwardable()). One that is in a sandbox is not looked for. */
function otherSize({ link, mtu, mark, ...step }: LinkAdd, view: View): readonly Operation[] {
  if (link.kind !== 'veth' || mtu === undefined) return [];
  const netns = peerNetns(step.netns, link);
  const end = view.link(netns, link.peer.name);
  if (end?.kind !== 'veth' || !sameMark(end.mark, mark) || end.mtu === mtu) return [];
  view.put(netns, { ...end, mtu });
  return [change(netns, end, { mtu }, { mtu: end.mtu })];
}

function mayBeMade({ link, mark }: LinkAdd, present: KernelLink): boolean {
  const isKind = present.kind === link.kind && (link.kind !== 'vlan' || isVlan(link, present.vlan));
  return isKind && mayBe(present.mark, mark);
}

function isOnParent(step: LinkAdd, present: KernelLink, view: View): boolean {
  if (step.link.kind !== 'vlan') return true;
  const parent = view.link(step.netns, step.link.parent);
  return parent?.index === present.peerIndex && !present.peerElsewhere;
}
