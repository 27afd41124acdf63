/**
 * Who may work at the same time. Work under one key is either exclusive, in the order it came, or shared with other shared
 * work under that key; work under different keys runs side by side.
 *
 * A network is shared by the operations of its endpoints, which then store and apply together (20 containers that start at
 * once cost a few disk flushes, not forty), and exclusive to its own creation and deletion.
 */
export class Queues {
  readonly #lanes = new Map<string, Lane>();

  /** Runs `work` after everything that was queued under `key` before it, whether that succeeded or not. */
  run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const lane = this.#lane(key);
    const before = Promise.all([lane.exclusive, ...lane.shared]);
    const result = before.then(work);
    lane.exclusive = this.#ended(key, result);
    lane.shared.clear();
    return result;
  }

  /** Runs `work` after the exclusive work that was queued under `key` before it. */
  share<T>(key: string, work: () => Promise<T>): Promise<T> {
    const lane = this.#lane(key);
    const result = lane.exclusive.then(work);
    const ended = this.#ended(key, result);
    lane.shared.add(ended);
    void ended.then(() => lane.shared.delete(ended));
    return result;
  }

  /** Resolves when everything queued so far, and what that queued, is done. */
  async idle(): Promise<void> {
    while (this.#lanes.size > 0) {
      await Promise.all([...this.#lanes.values()].flatMap((lane) => [lane.exclusive, ...lane.shared]));
    }
  }

  #lane(key: string): Lane {
    const lane = this.#lanes.get(key) ?? { exclusive: Promise.resolve(), shared: new Set(), waiting: 0 };
    lane.waiting += 1;
    this.#lanes.set(key, lane);
    return lane;
  }

  /** A key that nobody waits under is forgotten, or a daemon that lives for months would remember every endpoint. */
  async #ended(key: string, work: Promise<unknown>): Promise<void> {
    await work.catch(() => undefined);
    const lane = this.#lanes.get(key);
    if (lane === undefined) return;
    lane.waiting -= 1;
    if (lane.waiting === 0) this.#lanes.delete(key);
  }
}

interface Lane {
  /** Ends with the last exclusive work, and so with all that was queued before that. Never rejects. */
  exclusive: Promise<void>;
  /** What was let in since. */
  readonly shared: Set<Promise<void>>;
  /** How much work has not ended yet. */
  waiting: number;
}
