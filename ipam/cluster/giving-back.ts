/**
 * Addresses on their way back from this host, to another one or to none: first they are no longer given here, then a transaction makes them others'.
 */
import type { Prefix } from '../../address/prefix.ts';
import { give, partsOf, takeBack } from './block.ts';
import { blocksOf } from './choice.ts';
import { hostKey, poolKey } from './keys.ts';
import { pause } from './pause.ts';
import type { PoolState } from './pool-state.ts';
import { ClusterProblem } from './records.ts';
import type { Records } from './records.ts';
import { common, joined, spansOf, without } from '../spans.ts';
import type { Span } from '../spans.ts';

export interface GivingBackOptions {
  readonly prefix: Prefix;
  readonly records: Records;
  readonly state: () => PoolState;
  /** What is withheld has changed. */
  readonly onChange: () => void;
  /** Milliseconds until it is tried again. */
  readonly retry: number;
}

export class GivingBack {
  readonly #options: GivingBackOptions;
  #withheld: readonly Span[] = [];
  #running: Promise<unknown> = Promise.resolve();
  #closed = false;

  constructor(options: GivingBackOptions) {
    this.#options = options;
  }

  /** No longer given here, and not yet others'. */
  get withheld(): readonly Span[] {
    return this.#withheld;
  }

  /** Resolves when nothing that was begun before is on its way any more. */
  get settled(): Promise<unknown> {
    return this.#running;
  }

  /** Nothing is given back any more; what is on its way stays withheld. */
  close(): void {
    this.#closed = true;
  }

  /**
   * One after another: what `choose` says must still be free when it is withheld.
   * @param to The host that it goes to; or to none.
   */
  async giveBack(choose: () => readonly bigint[], to?: string): Promise<void> {
    const work = this.#running.then(async () => {
      const spans = spansOf(choose());
      if (spans.length === 0 || this.#closed) return;
      this.#withhold([...this.#withheld, ...spans]);
      for (const span of blocksOf(this.#options.prefix, spans))
        await this.#giveBackOf(span, common(spans, [span]), to);
    });
    this.#running = work.catch(() => undefined);
    await work;
  }

  /**
   * Until it is certain. What was given up may be given again only when it is certain that no transaction is on its way that
   * would make it others'.
   */
  async #giveBackOf(span: Span, spans: readonly Span[], to: string | undefined): Promise<void> {
    for (let certain = true; ;) {
      if (this.#closed) throw new Error(`the pool ${this.#options.prefix} is no longer this host's`);
      try {
        if (await this.#givenBack(span, spans, to)) break;
      } catch (error) {
        certain &&= error instanceof ClusterProblem && !error.failure.uncertain;
        if (certain) break;
        await pause(this.#options.retry);
      }
    }
    this.#withhold(without(this.#withheld, spans));
  }

  /** False when another change came in between. */
  async #givenBack(span: Span, spans: readonly Span[], to: string | undefined): Promise<boolean> {
    const { prefix, records } = this.#options;
    const { me, mirror } = records;
    const state = this.#options.state();
    const now = state.block(span);
    const mine = now === undefined ? [] : common(partsOf(now, me), spans);
    if (now === undefined || mine.length === 0) return true;
    const left = takeBack(now, me, mine);
    const there = to !== undefined && mirror.hosts.has(to) && state.record?.hosts.includes(to) === true;
    const { when, then } = records.blockChange(state, span, there ? give(left, to, mine) : left);
    if (there) when.push({ key: hostKey(to), is: 'present' }, mirror.unchanged(poolKey(prefix)));
    return (await records.change(when, then)) === 'done';
  }

  #withhold(spans: readonly Span[]): void {
    this.#withheld = joined(spans);
    this.#options.onChange();
  }
}
