/** What a setting of `cnmd` is, and how texts become values: each names in its error where the text came from and what would be right. Pure. */

/** A setting that cannot be used. `message` is a sentence that names the flag and what would be right. */
export class ConfigurationError extends Error {
  override readonly name = 'ConfigurationError';
}

export interface Setting {
  readonly flag: string;
  readonly value: string;
  readonly default: string;
  readonly help: string;
}

/** A setting's text and where it came from, for the error message. */
export interface Value {
  readonly from: string;
  readonly text: string;
}

export function absolutePath({ from, text }: Value): string {
  if (!text.startsWith('/') || text.includes('\0'))
    throw new ConfigurationError(`${from}: '${text}' is not an absolute path; it must begin with '/'.`);
  return text.length > 1 ? text.replace(/\/+$/, '') : text;
}

/** A week is enough for any client to have forgotten an address. */
const REST_MAX_S = 7 * 24 * 3600;

export function seconds({ from, text }: Value, least = 0): number {
  const number = /^\d{1,6}$/.test(text) ? Number(text) : -1;
  if (number >= least && number <= REST_MAX_S) return number;
  throw new ConfigurationError(
    `${from}: '${text}' must be a whole number of seconds from ${least} to ${REST_MAX_S}.`,
  );
}

export function oneOf<T extends string>({ from, text }: Value, choices: readonly T[]): T {
  const choice = choices.find((known) => known === text);
  if (choice === undefined)
    throw new ConfigurationError(`${from}: '${text}' is unknown; it must be one of ${choices.join(', ')}.`);
  return choice;
}
