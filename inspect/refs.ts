/** How a person names an object: full id, name, or the beginning of an id; in Docker's order. */
import { CnmError, type ErrorCode } from '../cnm/errors.ts';
import type { Named } from './views.ts';

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/;

type Kind = 'network' | 'endpoint' | 'sandbox';

const UNKNOWN: Readonly<Record<Kind, ErrorCode>> = {
  network: 'network-unknown',
  endpoint: 'endpoint-unknown',
  sandbox: 'sandbox-unknown',
};

/**
 * The one object that `ref` means. A full id wins over a name, a name over an id prefix, as in Docker's FindNetwork.
 * @throws CnmError `*-unknown`, or `request-invalid` that lists the candidates when there are several.
 */
export function resolveRef<T extends Named>(kind: Kind, ref: string, among: readonly T[]): T {
  const candidates = byPrecedence(ref, among);
  const [found] = candidates;
  if (found === undefined) throw new CnmError(UNKNOWN[kind], `No ${kind} has the id or name ${quote(ref)}`);
  if (candidates.length > 1) throw several(ref, plural(kind), candidates);
  return found;
}

export function several(ref: string, kinds: string, candidates: readonly Named[]): CnmError {
  const list = candidates.map(title).sort().join(', ');
  return new CnmError(
    'request-invalid',
    `${quote(ref)} means ${candidates.length} ${kinds}: ${list}; give more of the id`,
  );
}

/** Those that `ref` means at the first of these that any answers to: id, name, beginning of an id. */
export function byPrecedence<T extends Named>(ref: string, among: readonly T[]): readonly T[] {
  if (ref === '') return [];
  const same = among.filter((object) => object.id === ref);
  if (same.length > 0) return same;
  const named = among.filter((object) => object.name === ref);
  if (named.length > 0) return named;
  return among.filter((object) => object.id.startsWith(ref));
}

/** @throws CnmError `request-invalid` unless `name` keeps to Docker's rule for container names. */
export function checkName(kind: Kind, name: string): void {
  if (NAME.test(name)) return;
  throw new CnmError(
    'request-invalid',
    `${quote(name)} cannot be the name of a ${kind}: it must begin with a letter or digit and go on with letters, digits, "_", "." or "-"`,
  );
}

/** An object in a sentence: name and short id. */
export function title(object: Named): string {
  const short = object.id.slice(0, 12);
  return object.name === undefined ? short : `${object.name} (${short})`;
}

export function quote(value: string): string {
  return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value);
}

function plural(kind: Kind): string {
  return kind === 'sandbox' ? 'sandboxes' : `${kind}s`;
}
