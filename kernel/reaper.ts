/**
 * Links of the daemon's namespace deleted together, beside the event loop.
 *
 * To unregister a device the kernel waits for other processors to have let go of it (synchronize_net(), and
 * rcu_barrier() in netdev_run_todo()): 10 to 20 ms for one link, and the same for a hundred that go in one message. So the work
 * happens on a thread of libuv's pool, one message at a time, and what comes meanwhile goes together in the next one.
 */
import { randomInt } from 'node:crypto';
import type { NetlinkSocket } from './netlink.ts';
import { changeLink, deleteGroup, deleteLink } from './rtnetlink.ts';

/** What the kernel refused, undefined: nothing. Gone already is no failure. */
export type Refusal = { readonly errno: string; readonly detail: string } | undefined;

interface Waiting {
  readonly index: number;
  readonly resolve: (refusal: Refusal) => void;
  readonly reject: (error: unknown) => void;
}

export class Reaper {
  readonly #socket: NetlinkSocket;
  #waiting: Waiting[] = [];
  #running: Promise<void> | undefined;

  /** `socket` is used for nothing else, and closed by `close`. */
  constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  delete(index: number): Promise<Refusal> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ index, resolve, reject });
      this.#running ??= this.#run().finally(() => {
        this.#running = undefined;
      });
    });
  }

  async #run(): Promise<void> {
    // What is asked for in one turn of the event loop goes in one message.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      try {
        await this.#reap(batch);
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
  }

  /**
   * By way of a group of their own. They keep their aliases, so that what a crash leaves here is known as ours.
   * One link alone goes by its index.
   */
  async #reap(batch: readonly Waiting[]): Promise<void> {
    const [first] = batch;
    if (batch.length === 1 && first !== undefined) {
      first.resolve(refusalOf(await this.#socket.transactAside([deleteLink(first.index)])));
      return;
    }
    const group = randomInt(1, 0x7fffffff);
    const left = batch.filter(({ index, resolve }) => {
      const outcome = this.#socket.transact([changeLink(index, { group })]);
      if (outcome.failures.length > 0) resolve(refusalOf(outcome));
      return outcome.failures.length === 0;
    });
    if (left.length === 0) return;
    const refusal = refusalOf(await this.#socket.transactAside([deleteGroup(group)]));
    for (const { resolve } of left) resolve(refusal);
  }

  /** After what is under way. */
  async close(): Promise<void> {
    await this.#running;
    this.#socket.close();
  }
}

/** One link, at once: where waiting for the kernel is no matter. */
export function deleteNow(socket: NetlinkSocket, index: number): Refusal {
  return refusalOf(socket.transact([deleteLink(index)]));
}

/** ENODEV: somebody else was faster. */
function refusalOf({ failures: [failure] }: ReturnType<NetlinkSocket['transact']>): Refusal {
  return failure === undefined || failure.errno === 'ENODEV' ? undefined : failure;
}
