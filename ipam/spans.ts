/** Runs of addresses, as numbers, both ends included. Pure. */

export interface Span {
  readonly first: bigint;
  readonly last: bigint;
}

/** In order, and as few as can be. */
export function joined(spans: readonly Span[]): readonly Span[] {
  const sorted = [...spans].sort((a, b) => (a.first < b.first ? -1 : 1));
  const found: Span[] = [];
  for (const span of sorted) {
    const before = found.at(-1);
    if (before === undefined || span.first > before.last + 1n) found.push(span);
    else if (span.last > before.last) found[found.length - 1] = { first: before.first, last: span.last };
  }
  return found;
}

/** What of `spans` is in `cuts` too; both in order. */
export function common(spans: readonly Span[], cuts: readonly Span[]): readonly Span[] {
  const found: Span[] = [];
  for (let i = 0, k = 0; ;) {
    const [a, b] = [spans[i], cuts[k]];
    if (a === undefined || b === undefined) return found;
    const first = a.first > b.first ? a.first : b.first;
    const last = a.last < b.last ? a.last : b.last;
    if (first <= last) found.push({ first, last });
    if (a.last < b.last) i++;
    else k++;
  }
}

/** What of `spans` is in none of `cuts`; both in order. */
export function without(spans: readonly Span[], cuts: readonly Span[]): readonly Span[] {
  return spans.flatMap((span) => {
    const left: Span[] = [];
    let { first } = span;
    for (const cut of cuts) {
      if (cut.last < first || cut.first > span.last) continue;
      if (cut.first > first) left.push({ first, last: cut.first - 1n });
      first = cut.last + 1n;
    }
    return first <= span.last ? [...left, { first, last: span.last }] : left;
  });
}

export function sizeOfSpans(spans: readonly Span[]): bigint {
  return spans.reduce((sum, { first, last }) => sum + last - first + 1n, 0n);
}

/** By halving: `spans` are in order. */
export function within(spans: readonly Span[], value: bigint): boolean {
  let low = 0;
  let high = spans.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const span = spans[middle];
    if (span === undefined) return false;
    if (value < span.first) high = middle;
    else if (value > span.last) low = middle + 1;
    else return true;
  }
  return false;
}

/** The lowest `count` of them. */
export function lowest(spans: readonly Span[], count: number): readonly Span[] {
  const found: Span[] = [];
  let left = BigInt(count);
  for (const { first, last } of spans) {
    if (left <= 0n) break;
    const end = last - first + 1n > left ? first + left - 1n : last;
    found.push({ first, last: end });
    left -= end - first + 1n;
  }
  return found;
}

/** Of numbers in any order. */
export function spansOf(values: readonly bigint[]): readonly Span[] {
  return joined(values.map((value) => ({ first: value, last: value })));
}
