/** The tables of networks' namespaces that have an uplink (see translation.ts), loaded by `nft` and looked at over netlink. */
import { decodeSet, NFPROTO_INET, rulesRequest, setsRequest } from './element-batch.ts';
import { KernelError } from './kernel.ts';
import { NETLINK_NETFILTER, openNetlinkSocket } from './netlink.ts';
import { withNetns } from './netns.ts';
import type { OwnPorts } from './own-ports.ts';
import { run } from './run.ts';
import type { NetnsPath, UplinkTranslate } from './step.ts';
import type { Syscalls } from './syscall.ts';
import { DROP_TRANSLATION, heldTranslation, translationName, translationText } from './translation.ts';

export class Translations {
  readonly #sys: Syscalls;
  readonly #own: OwnPorts;

  constructor(sys: Syscalls, own: OwnPorts) {
    this.#sys = sys;
    this.#own = own;
  }

  /** False when it is there already. @throws KernelError with nft's own words. */
  async load(step: UplinkTranslate): Promise<boolean> {
    if (this.held(step.netns) === translationName(step)) return false;
    await this.#nft(step.netns, translationText(step));
    return true;
  }

  async drop({ netns }: UplinkTranslate): Promise<void> {
    await this.#nft(netns, DROP_TRANSLATION);
  }

  /** By translationName(); undefined where there is none, or not all of it. */
  held(netns: NetnsPath): string | undefined {
    const socket = openNetlinkSocket(this.#sys, NETLINK_NETFILTER, netns);
    try {
      const sets = socket.dump(setsRequest(), ({ data }) => decodeSet(data).name);
      const rules = socket.dump(rulesRequest(NFPROTO_INET), () => true);
      return heldTranslation(sets, rules.length);
    } catch (error) {
      if (error instanceof KernelError && error.errno === 'ENOENT') return undefined;
      throw error;
    } finally {
      socket.close();
    }
  }

  /** A program is in the namespace that it is started in: only its start is in the window. */
  async #nft(netns: NetnsPath, script: string): Promise<void> {
    await withNetns(this.#sys, netns, () => run('nft', ['-f', '-'], script, this.#own));
  }
}
