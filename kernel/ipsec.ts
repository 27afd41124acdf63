/** The daemon's socket of the IPsec part of the kernel, opened when it is wanted first. */
import { ip } from '../address/ip.ts';
import type { Facts } from './facts.ts';
import { whyNoEsp } from './kinds/xfrm.ts';
import { KernelError } from './kernel.ts';
import { openNetlinkSocket } from './netlink.ts';
import type { NetlinkSocket } from './netlink.ts';
import type { XfrmStateAdd } from './step.ts';
import type { Syscalls } from './syscall.ts';
import {
  addState,
  decodePolicy,
  decodeState,
  deleteState,
  dumpPolicies,
  dumpStates,
  NETLINK_XFRM,
} from './xfrm.ts';

/** Between addresses that are nobody's (RFC 5737): added and taken away again, they tell whether the kernel could. */
const TRIALS = (['gcm', 'cbc'] as const).map((cipher): XfrmStateAdd => ({
  do: 'xfrm.state.add',
  src: ip('192.0.2.1'),
  dst: ip('192.0.2.2'),
  spi: 0x636e6d,
  reqid: 0x636e6d,
  cipher,
  key: '00'.repeat(cipher === 'gcm' ? 20 : 48),
}));

export class Ipsec {
  readonly #sys: Syscalls;
  #socket: NetlinkSocket | undefined;

  constructor(sys: Syscalls) {
    this.#sys = sys;
  }

  /** @throws KernelError EPROTONOSUPPORT where the kernel has no xfrm */
  socket(): NetlinkSocket {
    this.#socket ??= openNetlinkSocket(this.#sys, NETLINK_XFRM);
    return this.#socket;
  }

  dump(): NonNullable<Facts['xfrm']> {
    const socket = this.socket();
    return {
      states: socket.dump(dumpStates(), decodeState),
      policies: socket.dump(dumpPolicies(), decodePolicy),
    };
  }

  /** `Facts.noEsp`. The kernel may load modules for it. */
  whyNot(): string | undefined {
    try {
      for (const trial of TRIALS) {
        const [failure] = this.socket().transact([addState(trial)]).failures;
        if (failure === undefined) this.socket().transact([deleteState(trial)]);
        else if (failure.errno !== 'EEXIST')
          return [failure.errno, failure.detail, whyNoEsp(failure.errno)].filter(Boolean).join('; ');
      }
      return undefined;
    } catch (error) {
      if (error instanceof KernelError) return error.message;
      throw error;
    }
  }

  close(): void {
    this.#socket?.close();
  }
}
