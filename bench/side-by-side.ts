/** Two or more ways of doing the same, measured in turns in one run, so that what disturbs one disturbs the other. */

export interface Figures {
  readonly median: number;
  readonly p99: number;
  readonly minimum: number;
  readonly maximum: number;
  readonly count: number;
}

export function figures(samples: readonly number[]): Figures {
  const sorted = [...samples].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? NaN;
  return { median: at(0.5), p99: at(0.99), minimum: at(0), maximum: at(1), count: sorted.length };
}

/** Milliseconds that `work` takes. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const begin = performance.now();
  await work();
  return performance.now() - begin;
}

/**
 * Runs every contender once per round, each round in another order, after `warmUp` rounds that do not count.
 * A contender answers its own figure per measure, in whatever unit.
 */
export async function alternate<Name extends string>(
  contenders: Readonly<Record<Name, (round: number) => Promise<Readonly<Record<string, number>>>>>,
  rounds: number,
  warmUp = 2,
): Promise<Readonly<Record<Name, Readonly<Record<string, Figures>>>>> {
  const names = Object.keys(contenders) as Name[];
  const samples = new Map<string, number[]>();
  for (let round = -warmUp; round < rounds; round += 1) {
    const order = round % 2 === 0 ? names : [...names].reverse();
    for (const name of order) {
      const result = await contenders[name](round + warmUp);
      if (round < 0) continue;
      for (const [measure, value] of Object.entries(result)) {
        const key = `${name} ${measure}`;
        samples.set(key, [...(samples.get(key) ?? []), value]);
      }
    }
  }
  const of = (name: Name) =>
    Object.fromEntries(
      [...samples]
        .filter(([key]) => key.startsWith(`${name} `))
        .map(([key, all]) => [key.slice(name.length + 1), figures(all)]),
    );
  return Object.fromEntries(names.map((name) => [name, of(name)])) as Record<Name, Record<string, Figures>>;
}

/** One line of a result, as it stands in docs/benchmarks.md. */
export interface Row {
  readonly what: string;
  readonly ours: string;
  readonly theirs: string;
  readonly ratio: string;
  readonly aim: string;
}

export function row(
  what: string,
  ours: Figures | undefined,
  theirs: Figures | undefined,
  unit: string,
  aim: string,
): Row {
  const text = (f: Figures | undefined) =>
    f === undefined ? '-' : `${f.median.toFixed(f.median < 10 ? 2 : 1)} ${unit} (p99 ${f.p99.toFixed(1)})`;
  const ratio = ours === undefined || theirs === undefined ? '-' : (ours.median / theirs.median).toFixed(2);
  return { what, ours: text(ours), theirs: text(theirs), ratio, aim };
}

export function table(rows: readonly Row[]): string {
  const lines = rows.map(
    ({ what, ours, theirs, ratio, aim }) => `| ${what} | ${ours} | ${theirs} | ${ratio} | ${aim} |`,
  );
  return [
    '| what | ours, median | theirs, median | ours ÷ theirs | aim |',
    '| --- | --- | --- | --- | --- |',
    ...lines,
  ].join('\n');
}
