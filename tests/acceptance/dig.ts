/** `dig` inside of a network namespace, and what it printed. */
import { tryRun } from '../lab/command.ts';

export interface Reply {
  readonly status: string;
  readonly flags: string;
  readonly question: string;
  /** The last words of the answers. */
  readonly answers: readonly string[];
  /** Milliseconds, as dig has measured them. */
  readonly took: number;
  readonly raw: string;
}

const OPTIONS = [
  '+tries=1',
  '+time=5',
  '+noall',
  '+comments',
  '+question',
  '+answer',
  '+authority',
  '+stats',
  '+nocookie',
];

/** `status` is "none" where there is no answer within five seconds. */
export async function dig(netns: string, ...words: string[]): Promise<Reply> {
  const command = ['nsenter', `--net=${netns}`, '--', 'dig', ...OPTIONS, ...words];
  const { stdout } = await tryRun(command, { timeout: 30_000 });
  const [, status = 'none'] = /status: (\w+)/.exec(stdout) ?? [];
  const [, flags = ''] = /flags: ([a-z ]+);/.exec(stdout) ?? [];
  const [, question = ''] = /^;(\S+?)\.?\s+(?:IN|CH)/m.exec(stdout) ?? [];
  const [, answer = ''] = /ANSWER SECTION:\n([^]*?)(?:\n\n|$)/.exec(stdout) ?? [];
  const answers = answer.split('\n').flatMap((line) => line.split(/\s+/).slice(4).join(' ') || []);
  const took = Number(/Query time: (\d+) msec/.exec(stdout)?.[1] ?? Infinity);
  return { status, flags, question, answers, took, raw: stdout };
}
