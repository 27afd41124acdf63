/** The whole of a fake kernel's state, and where in it things are. */
import type { AcceptRule } from './facts.ts';
import { emptyNetns } from './fake-host.ts';
import type { FakeLink, FakeNetns } from './fake-host.ts';
import type { FakePorts } from './fake-ports.ts';
import { KernelError } from './kernel.ts';
import type { NetnsPath, NftSetName } from './step.ts';
import { type FakeIpsec } from './fake-ipsec.ts';

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

export function removeNetns(state: FakeState, netns: FakeNetns): void {
  if (netns.path !== undefined) state.netns.delete(netns.path);
  for (const name of state.vteps) if (name.startsWith(`${netns.path ?? ''} `)) state.vteps.delete(name);
  emptyNetns(netns, state.host);
}

export function findLink(state: FakeState, path: NetnsPath | undefined, name: string): FakeLink | undefined {
  return (path === undefined ? state.host : state.netns.get(path))?.links.get(name);
}

/** @throws KernelError ENOENT when the namespace file is not there. */
export function netnsAt(state: FakeState, path: NetnsPath | undefined): FakeNetns {
  if (path === undefined) return state.host;
  const netns = state.netns.get(path);
  if (netns === undefined) throw new KernelError(`netns ${path}`, 'ENOENT');
  return netns;
}

/** @throws KernelError ENODEV when there is no such link. */
export function linkAt(state: FakeState, path: NetnsPath | undefined, name: string): FakeLink {
  const link = netnsAt(state, path).links.get(name);
  if (link === undefined) throw new KernelError(`link ${name}`, 'ENODEV');
  return link;
}
