/** What the commands share: where they print, in what colours, and the daemon they talk to. */
import { type Command, Option } from 'commander';
import pico from 'picocolors';
import { Client, CommandError } from '../client.ts';
import { type Paint, printable } from '../render/text.ts';

const DEFAULT_SOCKET = '/run/cnm/cnm.sock';

export interface Terminal {
  readonly paint: Paint;
  /** Exit status of a command that did not fail. */
  status: number;
  print(text: string): void;
  json(value: unknown): void;
  complain(error: unknown): void;
}

/** The options that every command has. */
export interface Common {
  readonly socket: string;
  readonly json?: true;
}

export function terminal({ stdout, stderr }: Pick<NodeJS.Process, 'stdout' | 'stderr'>): Terminal {
  return {
    paint: pico.createColors(stdout.isTTY && pico.isColorSupported),
    status: 0,
    print: (text) => {
      stdout.write(text);
    },
    json: (value) => {
      stdout.write(JSON.stringify(value, undefined, 2) + '\n');
    },
    complain: (error) => {
      stderr.write(`cnm: ${sentence(error)}\n`);
    },
  };
}

export function common(command: Command): Command {
  return command
    .addOption(
      new Option('--socket <path>', "the daemon's admin socket").default(DEFAULT_SOCKET).env('CNM_SOCKET'),
    )
    .option('--json', 'print JSON for programs');
}

export function client({ socket }: Common): Client {
  return new Client(socket);
}

/** Repeatable option: collects its values in order. */
export function collect(value: string, before: readonly string[]): readonly string[] {
  return [...before, value];
}

/** `k=v` words as a record. @throws CommandError for a word that is none. */
export function pairs(flag: string, words: readonly string[]): Readonly<Record<string, string>> {
  const entries = words.map((word): readonly [string, string] => {
    const equals = word.indexOf('=');
    // `-o encrypted` with no value: Docker's CLI passes it with an empty one.
    if (equals < 0) return [word, ''];
    if (equals === 0) throw new CommandError(`${flag} ${word}: the key before "=" is missing`);
    return [word.slice(0, equals), word.slice(equals + 1)];
  });
  return Object.fromEntries(entries);
}

/** Does the work for each, and goes on after a failure; the last word is that there was one. */
export async function forEach(
  refs: readonly string[],
  own: Terminal,
  work: (ref: string) => Promise<void>,
): Promise<void> {
  for (const ref of refs) {
    try {
      await work(ref);
    } catch (error) {
      own.complain(error);
      own.status = 1;
    }
  }
}

function sentence(error: unknown): string {
  if (error instanceof CommandError) return error.message.split('\n').map(printable).join('\n');
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
