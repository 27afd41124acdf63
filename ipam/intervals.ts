/** Which numbers are covered, as the fewest intervals in order: neighbours that touch are one. */
interface Interval {
  readonly first: bigint;
  readonly last: bigint;
}

export class Intervals {
  readonly #runs: Interval[] = [];

  add(first: bigint, last: bigint): void {
    const i = this.#firstEndingAt(first - 1n);
    let [from, to] = [first, last];
    let joined = 0;
    for (let run = this.#runs[i]; run !== undefined && run.first <= last + 1n; run = this.#runs[i + joined]) {
      if (run.first < from) from = run.first;
      if (run.last > to) to = run.last;
      joined++;
    }
    this.#runs.splice(i, joined, { first: from, last: to });
  }

  /** Removes an interval that was added and overlapped no other. */
  delete(first: bigint, last: bigint): void {
    const i = this.#firstEndingAt(first);
    const run = this.#runs[i];
    if (run === undefined || run.first > first) return;
    const left = run.first < first ? [{ first: run.first, last: first - 1n }] : [];
    const right = last < run.last ? [{ first: last + 1n, last: run.last }] : [];
    this.#runs.splice(i, 1, ...left, ...right);
  }

  /** The lowest run that has a number of `first` to `last`. */
  overlapping(first: bigint, last: bigint): Interval | undefined {
    const run = this.#runs[this.#firstEndingAt(first)];
    return run !== undefined && run.first <= last ? run : undefined;
  }

  /** The place of the first run that ends at `value` or after it. */
  #firstEndingAt(value: bigint): number {
    let low = 0;
    let high = this.#runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#runs[middle]?.last ?? 0n) >= value) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
