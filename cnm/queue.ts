/** One queue per key: work under one key runs in the order it came, work under different keys side by side. */
export class Queues {
  readonly #tails = new Map<string, Promise<unknown>>();

  /** Runs `work` after everything that was queued under `key` before it, whether that succeeded or not. */
  run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key) ?? Promise.resolve();
    const result = before.then(work, work);
    const tail = result.catch(() => undefined);
    this.#tails.set(key, tail);
    // Forget a key whose queue has run empty, or a daemon that lives for months would remember every endpoint's network.
    void tail.then(() => {
      if (this.#tails.get(key) === tail) this.#tails.delete(key);
    });
    return result;
  }

  /** Resolves when everything queued so far, and what that queued, is done. */
  async idle(): Promise<void> {
    while (this.#tails.size > 0) await Promise.all(this.#tails.values());
  }
}
