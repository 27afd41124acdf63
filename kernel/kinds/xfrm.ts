/** xfrm.state.add, xfrm.policy.add, encrypted.guard: what keeps an overlay network's datagrams secret between two hosts. */
import { guardName } from '../guard-name.ts';
import type { EncryptedGuard, XfrmPolicyAdd, XfrmStateAdd } from '../step.ts';
import { addPolicy, addState, deletePolicy, deleteState } from '../xfrm.ts';
import type { Kind } from './kind.ts';

/** ESRCH: the state or policy is not there. */
const GONE = ['ESRCH', 'ENOENT'];

export const xfrmStateAdd: Kind<XfrmStateAdd> = {
  looks: () => [],
  apply: (step) => [
    {
      via: 'xfrm',
      request: addState(step),
      // The same SPI towards the same host is the same key: both follow from one secret.
      tolerates: (errno) => errno === 'EEXIST',
      undo: deleteState(step),
      hint: whyNoEsp,
    },
  ],
  inverse: (step) => [
    { via: 'xfrm', request: deleteState(step), tolerates: (errno) => GONE.includes(errno) },
  ],
  satisfied: ({ src, dst, spi, reqid }, { xfrm }) =>
    xfrm?.states.some(
      (held) => held.spi === spi && held.dst === dst && held.src === src && held.reqid === reqid,
    ) === true,
};

/** What the bare number means (xfrm_state_construct(), xfrm_get_type()). */
export function whyNoEsp(errno: string): string | undefined {
  if (!['ENOSYS', 'EPROTONOSUPPORT', 'EAFNOSUPPORT', 'ENOENT', 'EOPNOTSUPP'].includes(errno))
    return undefined;
  return 'this kernel has no ESP with AES-GCM and AES-CBC, or cannot load it: modprobe -a esp4 esp6 gcm cbc sha256 authenc echainiv';
}

export const xfrmPolicyAdd: Kind<XfrmPolicyAdd> = {
  looks: () => [],
  apply: (step) => [
    {
      via: 'xfrm',
      request: addPolicy(step),
      tolerates: (errno) => errno === 'EEXIST',
      undo: deletePolicy(step),
    },
  ],
  inverse: (step) => [
    { via: 'xfrm', request: deletePolicy(step), tolerates: (errno) => GONE.includes(errno) },
  ],
  satisfied: ({ src, dst, port, mark, reqid }, { xfrm }) =>
    xfrm?.policies.some(
      (held) =>
        held.src === src &&
        held.dst === dst &&
        held.port === port &&
        held.mark === mark &&
        held.reqid === reqid,
    ) === true,
};

export const encryptedGuard: Kind<EncryptedGuard> = {
  looks: () => [],
  apply: (guard) => [{ via: 'guard', verb: 'add', guard }],
  inverse: (guard) => [{ via: 'guard', verb: 'remove', guard }],
  satisfied: (guard, { guards }) => guards?.has(guardName(guard)) === true,
};
