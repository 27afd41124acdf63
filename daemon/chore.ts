/** Work in the background that many may ask for and that must never run twice at a time. */
import type { Log } from '../cnm/log.ts';

export class Chore {
  readonly #name: string;
  readonly #work: () => Promise<void>;
  readonly #log: Log;
  #timer: NodeJS.Timeout | undefined;
  #due = Infinity;
  #running: Promise<void> | undefined;
  #stopped = false;

  constructor(name: string, log: Log, work: () => Promise<void>) {
    this.#name = name;
    this.#log = log;
    this.#work = work;
  }

  /** Runs within `ms`: asked for several times before it starts, it runs once, at the earliest of the times. */
  within(ms: number): void {
    const due = Date.now() + ms;
    if (this.#stopped || due >= this.#due) return;
    clearTimeout(this.#timer);
    this.#due = due;
    this.#timer = setTimeout(() => {
      void this.#run();
    }, ms);
  }

  /** Nothing starts any more; resolves when what runs now is over. */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#running;
  }

  async #run(): Promise<void> {
    // Asked for while it runs: what it saw may be stale by now, so it runs once more after.
    await this.#running;
    if (this.#stopped) return;
    this.#due = Infinity;
    this.#running = this.#attempt();
    await this.#running;
  }

  async #attempt(): Promise<void> {
    try {
      await this.#work();
    } catch (error) {
      this.#log.error({ err: error }, `${this.#name} failed`);
    }
  }
}
