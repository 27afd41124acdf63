/** What each kind of step does to a fake host, and what takes it back. The real ones stand in kinds/. */
import { addressOf, familyOfPrefix } from '../address/prefix.ts';
import { forwardAccept, isAccept, shortId, translate } from './fake-accept.ts';
import { fakeNetns, leaveMaster, sysctlSlot } from './fake-host.ts';
import type { FakeLink } from './fake-host.ts';
import { routeAdd, undoRouteAdd } from './fake-routes.ts';
import { linkPromisc, linkUp, switchLink } from './fake-sub-interface.ts';
import {
  ingressRedirect,
  neighbourAnnounce,
  putEntry,
  qdiscSet,
  removeEntry,
  undoTraffic,
} from './fake-traffic.ts';
import { checkPort } from './fake-tunnels.ts';
import { KernelError } from './kernel.ts';
import type { AddrAdd, NetnsAdd, NftElement, PortHold, Step, SysctlSet, VtepRun } from './step.ts';
import { formerVtep, vtepName } from './vtep-name.ts';
import { ipsecStep, undoIpsecStep } from './fake-ipsec.ts';
import { linkAdd, linkMaster, linkMove, linkMtu, undoLinkAdd, undoLinkMove } from './fake-links.ts';
import { findLink, type FakeState, linkAt, netnsAt, removeNetns, type Undo } from './fake-state.ts';

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
