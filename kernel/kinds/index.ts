/** Every kind of step, by its name. A step kind without an entry here does not compile. */
import type { Facts } from '../facts.ts';
import type { Step, StepKind, StepOf } from '../step.ts';
import { addrAdd, routeAdd } from './address.ts';
import { fdbAdd, fdbPort, neighbourAdd } from './entry.ts';
import { forwardAccept, nftElement, uplinkTranslate } from './firewall.ts';
import type { Kind, Operation, Place, View } from './kind.ts';
import { linkMaster } from './bridge-port.ts';
import { linkAdd } from './link.ts';
import { linkMove } from './link-move.ts';
import { linkPromisc, linkUp } from './link-switch.ts';
import { linkMtu } from './mtu.ts';
import { netnsAdd, sysctlSet } from './netns.ts';
import { neighbourAnnounce } from './neighbour.ts';
import { neighbourProbe } from './probe.ts';
import { conntrackForget, portHold } from './port.ts';
import { ingressRedirect, qdiscSet } from './qdisc.ts';
import { vtepRun } from './vtep.ts';
import { encryptedGuard, xfrmPolicyAdd, xfrmStateAdd } from './xfrm.ts';

const KINDS = {
  'link.add': linkAdd,
  'link.master': linkMaster,
  'link.mtu': linkMtu,
  'link.up': linkUp,
  'link.promisc': linkPromisc,
  'link.move': linkMove,
  'addr.add': addrAdd,
  'route.add': routeAdd,
  'sysctl.set': sysctlSet,
  'nft.element': nftElement,
  'forward.accept': forwardAccept,
  'port.hold': portHold,
  'conntrack.forget': conntrackForget,
  'qdisc.set': qdiscSet,
  'ingress.redirect': ingressRedirect,
  'neigh.announce': neighbourAnnounce,
  'neigh.probe': neighbourProbe,
  'fdb.add': fdbAdd,
  'fdb.port': fdbPort,
  'neigh.add': neighbourAdd,
  'vtep.run': vtepRun,
  'xfrm.state.add': xfrmStateAdd,
  'xfrm.policy.add': xfrmPolicyAdd,
  'encrypted.guard': encryptedGuard,
  'uplink.translate': uplinkTranslate,
  'netns.add': netnsAdd,
} satisfies { readonly [K in StepKind]: Kind<StepOf<K>> };

/** The kind that a step is of; the table above gives every name the kind of its own step. */
function kindOf(step: Step): Kind<Step> {
  return KINDS[step.do];
}

export function looks(step: Step): readonly Place[] {
  return kindOf(step).looks(step);
}

export function apply(step: Step, view: View): readonly Operation[] {
  return kindOf(step).apply(step, view);
}

export function inverse(step: Step, view: View): readonly Operation[] {
  return kindOf(step).inverse(step, view);
}

export function satisfied(step: Step, facts: Facts): boolean {
  return kindOf(step).satisfied(step, facts);
}
