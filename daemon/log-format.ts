/** Log lines for people: one record of pino's JSON to a line of text. Lists (the commands of a plan) go below it. */

const LEVELS: Readonly<Record<number, string>> = {
  10: 'TRACE',
  20: 'DEBUG',
  30: 'INFO',
  40: 'WARN',
  50: 'ERROR',
  60: 'FATAL',
};

/** What pino adds to every record; the rest are fields of the one who logs. */
const FRAME = new Set(['level', 'time', 'msg']);

const INDENT = ' '.repeat(31);

/** `json`: one line as pino writes it. Returns text that ends with a newline. */
export function textLine(json: string): string {
  const record = JSON.parse(json) as Record<string, unknown>;
  const fields = Object.entries(record).filter(([name]) => !FRAME.has(name));
  const isBelow = ([, value]: readonly [string, unknown]) => isList(value) || isError(value);
  const beside = fields.filter((field) => !isBelow(field)).map(([name, value]) => `${name}=${word(value)}`);
  const below = fields.filter(isBelow).flatMap(([, value]) => lines(value));
  const level = LEVELS[Number(record['level'])] ?? String(record['level']);
  const head = [String(record['time']), level.padEnd(5), sentence(record['msg']), ...beside].join(' ');
  return [head, ...below.map((line) => INDENT + line)].map((line) => `${line}\n`).join('');
}

/** Control characters would let a caller's text pretend to be another record; JSON has none outside of its strings. */
function word(value: unknown): string {
  const bare = typeof value === 'string' && /^[\x21-\x7e]+$/.test(value) && !value.includes('"');
  return bare ? value : JSON.stringify(value);
}

function sentence(value: unknown): string {
  return typeof value === 'string' ? printable(value) : '';
}

function printable(text: string): string {
  return text.replaceAll(/[\x00-\x1f\x7f]/g, ' ');
}

function isList(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.length > 0 && value.every((item) => typeof item === 'string');
}

/** As pino's serializer for `err` leaves it. */
function isError(value: unknown): value is { readonly stack: string } {
  return typeof value === 'object' && value !== null && 'stack' in value && typeof value.stack === 'string';
}

function lines(value: unknown): readonly string[] {
  if (isError(value)) return value.stack.split('\n');
  return isList(value) ? value.map(printable) : [];
}
