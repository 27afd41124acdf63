/** One measurement of a DNS server by dnsperf: how many answers a second, what they cost it, and how long they take. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { NODE, REPOSITORY } from '../tests/lab/host.ts';
import { type Figures, type Row } from './side-by-side.ts';

export interface Load {
  readonly server: string;
  readonly port: number;
  /** dnsperf's file of questions. */
  readonly queries: string;
  /** Its process; 0 where its work cannot be told from other work of the process. */
  readonly pid: number;
  /** Runs dnsperf where it is to run. */
  readonly run: (argv: readonly string[]) => Promise<string>;
  /** For files. */
  readonly folder: string;
}

/** Seconds of asking as fast as it is answered, and at a fixed pace. */
const FULL = 1;
const PACED = 1;
/** Queries a second at which latencies are compared: all of them keep up with it. */
export const PACE = 15_000;
/** The pace beside questions that hang: what is measured is who waits, not how many. */
const HANGING_PACE = 2_000;
export const HANGING = 2_000;

function dnsperf({ server, port, queries }: Load, ...more: readonly (string | number)[]): readonly string[] {
  const words = ['-s', server, '-p', port, '-d', queries, '-c', 8, '-q', 200, ...more];
  return ['dnsperf', ...words.map(String)];
}

/** `cpu`: microseconds of the server's processor time, the kernel's part included, for an answer at full load. Latencies in ms. */
export async function measure(load: Load): Promise<Record<'rate' | 'cpu' | 'p50' | 'p99' | 'lost', number>> {
  const before = await processorTime(load.pid);
  const full = await load.run(dnsperf(load, '-l', FULL));
  const spent = (await processorTime(load.pid)) - before;
  const rate = Number(/Queries per second: +([\d.]+)/.exec(full)?.[1] ?? NaN);
  const answers = Number(/Queries completed: +(\d+)/.exec(full)?.[1] ?? NaN);
  return { rate, cpu: (spent * 1e6) / answers, ...(await latencies(load, PACED, PACE)) };
}

/** Latencies of names that are known, while HANGING questions wait for a server that is silent. */
export async function measureHanging(load: Load): Promise<Record<'p50' | 'p99' | 'lost', number>> {
  const program = join(REPOSITORY, 'bench/dns-hang.ts');
  const words = [NODE, program, load.server, load.port, HANGING, 4_000].map(String);
  const hanging = load.run(words);
  await new Promise((done) => setTimeout(done, 1_500));
  const result = await latencies(load, 2, HANGING_PACE);
  await hanging;
  return result;
}

/** Into a file: who reads them as they come takes time from those that are measured. */
async function latencies(
  load: Load,
  seconds: number,
  pace: number,
): Promise<Record<'p50' | 'p99' | 'lost', number>> {
  const file = join(load.folder, 'latencies');
  const words = dnsperf(load, '-l', seconds, '-Q', pace, '-v');
  await load.run(['sh', '-c', `exec ${words.join(' ')} > ${file}`]);
  const text = await readFile(file, 'utf8');
  const times = [...text.matchAll(/^> \S+ \S+ \S+ ([\d.]+)$/gm)].map(([, took]) => Number(took) * 1000);
  times.sort((a, b) => a - b);
  const at = (share: number) => times[Math.floor(times.length * share)] ?? NaN;
  const lost = Number(/Queries lost: +\d+ \(([\d.]+)%\)/.exec(text)?.[1] ?? NaN);
  return { p50: at(0.5), p99: at(0.99), lost };
}

/** Seconds; clock ticks are hundredths on every Linux (proc_pid_stat(5)). */
async function processorTime(pid: number): Promise<number> {
  if (pid === 0) return NaN;
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

type Measured = Readonly<Record<string, Figures>>;

export function compared(what: string, ours: Measured, theirs: Measured): readonly Row[] {
  const line = (
    title: string,
    measure: string,
    show: (value: number) => string,
    aim = '',
  ): readonly Row[] => {
    const [own, other] = [ours[measure], theirs[measure]];
    if (own === undefined || other === undefined || Number.isNaN(own.median)) return [];
    const text = ({ minimum, median, maximum }: Figures) =>
      Number.isNaN(median) ? '-' : `${show(median)} (${show(minimum)} to ${show(maximum)})`;
    const ratio = Number.isNaN(other.median) ? '-' : (own.median / other.median).toFixed(2);
    return [{ what: `${what}: ${title}`, ours: text(own), theirs: text(other), ratio, aim }];
  };
  const ms = (value: number) => `${value.toFixed(2)} ms`;
  const docker = what.includes('Docker');
  const hanging = ours['rate'] === undefined;
  const pace = hanging ? HANGING_PACE : PACE;
  const rows = [
    ...line(
      'answers a second',
      'rate',
      (value) => Math.round(value).toLocaleString('en'),
      docker ? '≥ 1.8' : '≥ 1',
    ),
    ...line('processor time of an answer', 'cpu', (value) => `${value.toFixed(1)} µs`),
    ...line(`p50 at ${pace}/s`, 'p50', ms),
    ...line(`p99 at ${pace}/s`, 'p99', ms, hanging ? '< 20 ms' : docker ? '≤ 0.5' : ''),
    // Of what is lost at a pace that all keep up with, something is to be said.
    ...([ours, theirs].some((one) => (one['lost']?.maximum ?? 0) > 0)
      ? line('unanswered at that pace', 'lost', (value) => `${value.toFixed(2)} %`)
      : []),
  ];
  for (const { what: title, ours: own, theirs: other, ratio } of rows)
    process.stderr.write(`${title}: ${own}, ${other}, ${ratio}\n`);
  return rows;
}
