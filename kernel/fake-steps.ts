/** What each kind of step does to a fake host, and what takes it back. The real ones stand in kinds/. */
import { isDeepStrictEqual } from 'node:util';
import { addressOf, familyOfPrefix } from '../address/prefix.ts';
import type { AcceptRule } from './facts.ts';
import { adjust, otherEnd } from './fake-adjust.ts';
import { forwardAccept, isAccept, shortId, translate } from './fake-accept.ts';
import {
  addLink,
  checkMac,
  checkMtu,
  emptyNetns,
  enslave,
  fakeNetns,
  leaveMaster,
  moveLink,
  removeLink,
  sysctlSlot,
} from './fake-host.ts';
import type { FakeLink, FakeNetns } from './fake-host.ts';
import type { FakePorts } from './fake-ports.ts';
import { routeAdd, undoRouteAdd } from './fake-routes.ts';
import { isVlanOf, linkPromisc, linkUp, parentFor, putOn, switchLink } from './fake-sub-interface.ts';
import {
  ingressRedirect,
  neighbourAnnounce,
  putEntry,
  qdiscSet,
  removeEntry,
  undoTraffic,
} from './fake-traffic.ts';
import { checkPort, checkVni, tunnelOf } from './fake-tunnels.ts';
import { KernelError } from './kernel.ts';
import { endsOf } from './kinds/link.ts';
import { checkName } from './link-name.ts';
import { sameMark } from './mark.ts';
import type {
  AddrAdd,
  LinkAdd,
  LinkMaster,
  LinkMove,
  LinkMtu,
  NetnsAdd,
  NetnsPath,
  NftElement,
  NftSetName,
  PortHold,
  Step,
  SysctlSet,
  VtepRun,
} from './step.ts';
import { formerVtep, vtepName } from './vtep-name.ts';
import { type FakeIpsec, ipsecStep, undoIpsecStep } from './fake-ipsec.ts';

/** The whole of a fake kernel's state. */
export interface FakeState {
  readonly host: FakeNetns;
  readonly netns: Map<NetnsPath, FakeNetns>;
  /** Undefined: our table is not loaded. */
  elements: Map<NftSetName, Map<string, string>> | undefined;
  accepts: AcceptRule[];
  readonly acceptChain: { v4: boolean; v6: boolean };
  readonly ports: FakePorts;
  readonly vteps: Set<string>;
  readonly ipsec: FakeIpsec;
  readonly readOnlySysctls: boolean;
}

/** How to take back what one step did; undefined when it found everything in place. */
export type Undo = (() => void) | undefined;

/** @throws KernelError as the kernel would; then nothing has changed. */
export function doStep(state: FakeState, step: Step): Undo {
  switch (step.do) {
    case 'link.add':
      return linkAdd(state, step);
    case 'link.master':
      return linkMaster(state, step);
    case 'link.mtu':
      return linkMtu(linkAt(state, step.netns, step.link), step);
    case 'link.up':
      return linkUp(linkAt(state, step.netns, step.link), state.ports);
    case 'link.promisc':
      return linkPromisc(linkAt(state, undefined, step.link));
    case 'link.move':
      return linkMove(state, step);
    case 'addr.add':
      return addrAdd(state, step);
    case 'route.add':
      return routeAdd(netnsAt(state, step.netns), step);
    case 'sysctl.set':
      return sysctlSet(state, step);
    case 'nft.element':
      return nftElement(state, step);
    case 'forward.accept':
      return forwardAccept(state, step);
    case 'port.hold':
      return portHold(state, step);
    case 'conntrack.forget':
      // There are no connections in memory.
      return undefined;
    case 'qdisc.set':
      return qdiscSet(state.host, step);
    case 'ingress.redirect':
      return ingressRedirect(state.host, step);
    case 'neigh.announce':
      return neighbourAnnounce(netnsAt(state, step.netns), step);
    case 'neigh.probe':
      return neighbourAnnounce(state.host, step);
    case 'fdb.add':
    case 'fdb.port':
    case 'neigh.add':
      return putEntry(netnsAt(state, step.netns), step);
    case 'vtep.run':
      return vtepRun(state, step);
    case 'xfrm.state.add':
    case 'xfrm.policy.add':
    case 'encrypted.guard':
      return ipsecStep(state.ipsec, step);
    case 'uplink.translate':
      return translate(netnsAt(state, step.netns), step);
    case 'netns.add':
      return netnsAdd(state, step);
  }
}

/** The inverse, from the step alone: what is gone or another's is left alone. */
export function undoStep(state: FakeState, step: Step): void {
  if ('netns' in step && !state.netns.has(step.netns)) return;
  switch (step.do) {
    case 'link.add':
      undoLinkAdd(state, step);
      return;
    case 'link.master': {
      const link = findLink(state, step.netns, step.link);
      if (link?.mark !== undefined && link.master?.name === step.master) leaveMaster(link);
      return;
    }
    case 'link.up': {
      const link = findLink(state, step.netns, step.link);
      if (link?.mark !== undefined) switchLink(link, false);
      return;
    }
    case 'link.promisc':
      delete findLink(state, undefined, step.link)?.promisc;
      return;
    case 'link.move':
      undoLinkMove(state, step);
      return;
    case 'addr.add': {
      const link = findLink(state, step.netns, step.link);
      if (link === undefined || (link.mark === undefined && !link.ownAddresses.has(step.prefix))) return;
      link.addresses.delete(step.prefix);
      link.ownAddresses.delete(step.prefix);
      return;
    }
    case 'route.add':
      undoRouteAdd(step.netns === undefined ? state.host : state.netns.get(step.netns), step);
      return;
    case 'port.hold':
      state.ports.release(step);
      return;
    case 'qdisc.set':
    case 'ingress.redirect':
      undoTraffic(state.host, step);
      return;
    case 'fdb.add':
    case 'fdb.port':
    case 'neigh.add':
      removeEntry(step.netns === undefined ? state.host : state.netns.get(step.netns), step);
      return;
    case 'vtep.run':
      state.vteps.delete(vtepName(step));
      return;
    case 'xfrm.state.add':
    case 'xfrm.policy.add':
    case 'encrypted.guard':
      undoIpsecStep(state.ipsec, step);
      return;
    case 'uplink.translate':
      delete state.netns.get(step.netns)?.translation;
      return;
    case 'conntrack.forget':
    case 'link.mtu':
    case 'neigh.announce':
    case 'neigh.probe':
      return;
    case 'sysctl.set':
      // A stored plan does not know the former value; a link's sysctls die with the link.
      return;
    case 'nft.element':
      state.elements?.get(step.set)?.delete(step.key.join(' . '));
      return;
    case 'forward.accept':
      state.accepts = state.accepts.filter((rule) => !isAccept(rule, step.bridge, shortId(step.mark)));
      return;
    case 'netns.add': {
      const netns = state.netns.get(step.path);
      if (netns?.ours === true) removeNetns(state, netns);
      return;
    }
  }
}

export function removeNetns(state: FakeState, netns: FakeNetns): void {
  if (netns.path !== undefined) state.netns.delete(netns.path);
  for (const name of state.vteps) if (name.startsWith(`${netns.path ?? ''} `)) state.vteps.delete(name);
  emptyNetns(netns, state.host);
}

export function findLink(state: FakeState, path: NetnsPath | undefined, name: string): FakeLink | undefined {
  return (path === undefined ? state.host : state.netns.get(path))?.links.get(name);
}

/** @throws KernelError ENOENT when the namespace file is not there. */
function netnsAt(state: FakeState, path: NetnsPath | undefined): FakeNetns {
  if (path === undefined) return state.host;
  const netns = state.netns.get(path);
  if (netns === undefined) throw new KernelError(`netns ${path}`, 'ENOENT');
  return netns;
}

/** @throws KernelError ENODEV when there is no such link. */
function linkAt(state: FakeState, path: NetnsPath | undefined, name: string): FakeLink {
  const link = netnsAt(state, path).links.get(name);
  if (link === undefined) throw new KernelError(`link ${name}`, 'ENODEV');
  return link;
}

function linkAdd(state: FakeState, step: LinkAdd): Undo {
  const netns = netnsAt(state, step.netns);
  const present = netns.links.get(step.name);
  if (present !== undefined) return adjust(present, step, otherEnd(state, step));
  const peer = step.link.kind === 'veth' ? step.link.peer : undefined;
  const there = peer?.home === true ? state.host : netns;
  const parent = parentFor(netns, step);
  // Checked before the first end is made, so that a failure leaves nothing: the kernel makes both or none.
  if (peer !== undefined) {
    checkName(peer.name);
    checkMac(peer.name, peer.mac);
    if (there.links.has(peer.name) || (there === netns && peer.name === step.name)) {
      throw new KernelError(`link add ${peer.name}`, 'EEXIST');
    }
  }
  if (step.link.kind === 'vxlan') checkVni(everyLink(state), step.name, step.link);
  const common = {
    kind: step.link.kind,
    mtu: step.mtu ?? parent?.mtu ?? 1500,
    up: false,
    mark: step.mark,
    linkLocal: step.linkLocal ?? true,
  };
  const link = addLink(netns, {
    ...common,
    name: step.name,
    ...(step.mac !== undefined && { mac: step.mac }),
    ...(step.link.kind === 'vxlan' && { vxlan: tunnelOf(step.link) }),
  });
  putOn(link, parent, step.link);
  if (peer !== undefined) {
    const { name, mac } = peer;
    link.peer = addLink(there, { ...common, name, ...(mac !== undefined && { mac }) });
    link.peer.peer = link;
  }
  return () => {
    undoLinkAdd(state, step);
  };
}

function everyLink({ host, netns }: FakeState): readonly FakeLink[] {
  return [host, ...netns.values()].flatMap(({ links }) => [...links.values()]);
}

function undoLinkAdd(state: FakeState, step: LinkAdd): void {
  for (const { netns, name } of endsOf(step)) {
    const link = findLink(state, netns, name);
    if (link !== undefined && sameMark(link.mark, step.mark) && isVlanOf(link, step.link)) removeLink(link);
  }
}

function linkMaster(state: FakeState, step: LinkMaster): Undo {
  const link = linkAt(state, step.netns, step.link);
  const master = linkAt(state, step.netns, step.master);
  const { master: before, port } = link;
  const { isolated = false, hairpin = false, suppress = false } = step;
  const flags = { isolated, hairpin, suppress };
  if (before === master && isDeepStrictEqual(port, flags)) return undefined;
  if (before !== master) enslave(link, master);
  link.port = flags;
  return () => {
    // A port that comes back to its former bridge is a new one there.
    if (before === master && port !== undefined) link.port = port;
    else delete link.port;
    if (before === undefined) delete link.master;
    else link.master = before;
  };
}

function linkMtu(link: FakeLink, step: LinkMtu): Undo {
  if (!sameMark(link.mark, step.mark)) throw new KernelError(`link set ${step.link}`, 'EPERM');
  checkMtu(step.link, step.mtu);
  const before = link.mtu;
  if (before === step.mtu) return undefined;
  link.mtu = step.mtu;
  return () => {
    link.mtu = before;
  };
}

function linkMove(state: FakeState, step: LinkMove): Undo {
  const to = netnsAt(state, step.to);
  const there = to.links.get(step.as);
  const link = state.host.links.get(step.link);
  // Moved already: it no longer has its old name here, and what has the new name there is ours.
  if (link === undefined && there?.mark !== undefined) return undefined;
  if (link === undefined) throw new KernelError(`link ${step.link}`, 'ENODEV');
  checkMac(step.link, step.mac);
  moveLink(link, to, step.as);
  if (step.mac !== undefined) link.mac = step.mac;
  return () => {
    undoLinkMove(state, step);
  };
}

function undoLinkMove(state: FakeState, step: LinkMove): void {
  const link = state.netns.get(step.to)?.links.get(step.as);
  if (link?.mark !== undefined) moveLink(link, state.host, step.link);
}

function addrAdd(state: FakeState, step: AddrAdd): Undo {
  const link = linkAt(state, step.netns, step.link);
  // On a link of ours the address is ours; on a stranger's only one that we added.
  const ours = link.mark !== undefined || link.ownAddresses.has(step.prefix);
  if (holdsAddress(link, step)) {
    if (ours) return undefined;
    throw new KernelError(`addr add ${step.prefix} dev ${step.link}`, 'EEXIST');
  }
  link.addresses.add(step.prefix);
  link.ownAddresses.add(step.prefix);
  return () => {
    link.addresses.delete(step.prefix);
    link.ownAddresses.delete(step.prefix);
  };
}

/** IPv4 tells addresses apart by prefix length too (__inet_insert_ifa), IPv6 does not (ipv6_add_addr_hash). */
function holdsAddress(link: FakeLink, { prefix }: AddrAdd): boolean {
  if (familyOfPrefix(prefix) === 4) return link.addresses.has(prefix);
  return [...link.addresses].some((held) => addressOf(held) === addressOf(prefix));
}

function sysctlSet(state: FakeState, step: SysctlSet): Undo {
  const slot = sysctlSlot(netnsAt(state, step.netns), step.key);
  if (slot === undefined) throw new KernelError(`sysctl ${step.key}`, 'ENOENT');
  const before = slot.values.get(slot.key);
  if ((before ?? slot.initial) === step.value) return undefined;
  if (state.readOnlySysctls) {
    throw new KernelError(
      `sysctl ${step.key}`,
      'EROFS',
      `it is ${before ?? slot.initial}, wanted ${step.value}`,
    );
  }
  slot.values.set(slot.key, step.value);
  if (step.keep === true) return undefined;
  return () => {
    if (before === undefined) slot.values.delete(slot.key);
    else slot.values.set(slot.key, before);
  };
}

function nftElement(state: FakeState, step: NftElement): Undo {
  const operation = `nft add element ${step.set}`;
  if (state.elements === undefined)
    throw new KernelError(operation, 'ENOENT', 'table inet cnm is not loaded');
  const set = state.elements.get(step.set) ?? new Map<string, string>();
  state.elements.set(step.set, set);
  const key = step.key.join(' . ');
  const data = step.data?.join(' . ') ?? '';
  const held = set.get(key);
  if (held === data) return undefined;
  // A map's element is not overwritten: nft_add_set_elem() answers EBUSY or EEXIST when the data differ.
  if (held !== undefined) throw new KernelError(`${operation} { ${key} }`, 'EEXIST');
  set.set(key, data);
  return () => {
    set.delete(key);
  };
}

function vtepRun(state: FakeState, step: VtepRun): Undo {
  const name = vtepName(step);
  if (state.vteps.has(name)) return undefined;
  const link = linkAt(state, step.netns, step.link);
  if (link.kind !== 'tun') throw new KernelError(`tap ${step.link}`, 'EINVAL');
  const former = formerVtep(state.vteps, step);
  if (former === undefined) checkPort(state.ports, step);
  else state.vteps.delete(former);
  state.vteps.add(name);
  return () => {
    state.vteps.delete(name);
    if (former !== undefined) state.vteps.add(former);
  };
}

function portHold({ ports }: FakeState, step: PortHold): Undo {
  const fresh = ports.hold(step);
  if (fresh.length === 0) return undefined;
  return () => {
    ports.release(step, fresh);
  };
}

function netnsAdd(state: FakeState, step: NetnsAdd): Undo {
  const present = state.netns.get(step.path);
  if (present?.ours === true) return undefined;
  if (present !== undefined) throw new KernelError(`netns add ${step.path}`, 'EEXIST');
  const netns = fakeNetns(step.path, true, state.host.nextIndex);
  state.netns.set(step.path, netns);
  return () => {
    removeNetns(state, netns);
  };
}
