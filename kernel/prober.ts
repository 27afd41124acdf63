/** Asks on a link whether anybody has an address, and listens a while. */
import { setTimeout as sleep } from 'node:timers/promises';
import { familyOf, type Ip } from '../address/ip.ts';
import { type Mac, mac } from '../address/mac.ts';
import type { KernelLog } from './linux.ts';
import { type FrameSocket, openFrameSocket } from './frame-socket.ts';
import { type Claim, CLAIMS, claimOf, groupMac, probeFrame } from './probe.ts';
import type { Syscalls } from './syscall.ts';

/**
 * Milliseconds between questions and after the last. RFC 5227 section 1.1 has three in up to 7 s, for a host that may have waited for
 * its cable; the parent of a macvlan link has been up for long, and a container waits. Who is there answers within a millisecond or,
 * from a Wi-Fi that sleeps, some hundred (a beacon comes every 102 ms).
 */
const BETWEEN = 100;
const AFTER = 200;
const QUESTIONS = 3;
const LOOK = 5;
/** ff02::1, all nodes: where an answer to nobody goes (RFC 4861 section 7.2.4). */
const ALL_NODES = mac('33:33:00:00:00:01');

export interface Question {
  readonly link: string;
  readonly addresses: readonly Ip[];
  /** In whose name; what comes from there is no answer. */
  readonly mac: Mac;
}

export class Prober {
  readonly #sys: Syscalls;
  readonly #log: KernelLog;
  readonly #underWay = new Set<Promise<unknown>>();
  #closed = false;

  constructor(sys: Syscalls, log: KernelLog) {
    this.#sys = sys;
    this.#log = log;
  }

  /** Who has one of them; undefined: nobody who is heard. A link that is down has nobody on it. @throws KernelError ENODEV, EPERM */
  async ask({ link, addresses, mac: own }: Question): Promise<Claim | undefined> {
    const socket = openFrameSocket(this.#sys, link, CLAIMS);
    try {
      for (const address of addresses) {
        socket.admit(own);
        if (familyOf(address) === 4) continue;
        for (const group of [ALL_NODES, groupMac(address)]) socket.admit(group);
      }
      const isClash = (claim: Claim) => addresses.includes(claim.address) && claim.mac !== own;
      for (let left = QUESTIONS; left > 0 && !this.#closed; left -= 1) {
        const sent = addresses.map((address) => socket.send(probeFrame(address, own)));
        if (!sent.includes(true)) return undefined;
        const claim = await this.#listen(socket, left > 1 ? BETWEEN : AFTER, isClash);
        if (claim !== undefined) return claim;
      }
      return undefined;
    } finally {
      socket.close();
    }
  }

  async #listen(
    socket: FrameSocket,
    ms: number,
    isWanted: (claim: Claim) => boolean,
  ): Promise<Claim | undefined> {
    const end = performance.now() + ms;
    while (!this.#closed) {
      for (let frame = socket.receive(); frame !== undefined; frame = socket.receive()) {
        const claim = claimOf(frame);
        if (claim !== undefined && isWanted(claim)) return claim;
      }
      if (performance.now() >= end) return undefined;
      await sleep(LOOK);
    }
    return undefined;
  }

  /** Returns at once; the log says who has it. */
  askAside(question: Question): void {
    const asked = this.ask(question)
      .then((claim) => {
        if (claim === undefined) return;
        const fields = { link: question.link, address: claim.address, mac: claim.mac, ours: question.mac };
        this.#log.warn(fields, 'somebody on the LAN has an address that a container was given');
      })
      .catch((error: unknown) => {
        this.#log.debug(
          { link: question.link, error: String(error) },
          'nobody could be asked about an address',
        );
      })
      .finally(() => this.#underWay.delete(asked));
    this.#underWay.add(asked);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#underWay);
  }
}
