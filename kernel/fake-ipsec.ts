/** IPsec of a fake host. */
import { guardName } from './guard-name.ts';
import { KernelError } from './kernel.ts';
import type { EncryptedGuard, Step, XfrmPolicyAdd, XfrmStateAdd } from './step.ts';

export interface FakeIpsec {
  readonly states: Map<string, XfrmStateAdd>;
  readonly policies: Map<string, XfrmPolicyAdd>;
  readonly guards: Map<string, EncryptedGuard>;
  /** The kernel has no ESP. */
  readonly missing: string | undefined;
}

export function fakeIpsec(missing: string | undefined): FakeIpsec {
  return { states: new Map(), policies: new Map(), guards: new Map(), missing };
}

type IpsecStep = XfrmStateAdd | XfrmPolicyAdd | EncryptedGuard;

/** @throws KernelError ENOSYS, as a kernel without the algorithm */
export function ipsecStep(ipsec: FakeIpsec, step: IpsecStep): (() => void) | undefined {
  if (step.do === 'xfrm.state.add' && ipsec.missing !== undefined)
    throw new KernelError('ip xfrm state add', 'ENOSYS', ipsec.missing);
  const [held, key] = placeOf(ipsec, step);
  if (held.has(key)) return undefined;
  held.set(key, step);
  return () => {
    held.delete(key);
  };
}

export function undoIpsecStep(ipsec: FakeIpsec, step: IpsecStep): void {
  const [held, key] = placeOf(ipsec, step);
  held.delete(key);
}

function placeOf(ipsec: FakeIpsec, step: IpsecStep): [Map<string, Step>, string] {
  switch (step.do) {
    case 'xfrm.state.add':
      return [ipsec.states, `${step.dst} ${step.spi}`];
    case 'xfrm.policy.add':
      return [ipsec.policies, `${step.src} ${step.dst} ${step.port} ${step.mark}`];
    case 'encrypted.guard':
      return [ipsec.guards, guardName(step)];
  }
}
