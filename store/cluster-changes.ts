/** What of a transaction no cluster store can take. Pure. */
import { encodeChanges } from './encode.ts';
import { MOST_CHANGES } from './cluster.ts';
import type { ClusterChange, Failure } from './cluster.ts';

/** A text for each change that puts. @returns why the changes cannot be made, naming the key; or undefined. */
export function changesProblem(changes: readonly ClusterChange[]): Failure | undefined {
  const keys = changes.map((change) => ('put' in change ? change.put : change.delete));
  const twice = keys.find((key, n) => keys.indexOf(key) !== n);
  if (changes.length > MOST_CHANGES)
    return invalid(`${changes.length} changes in one transaction; at most ${MOST_CHANGES} can be`);
  if (twice !== undefined) return invalid(`${JSON.stringify(twice)} is changed twice in one transaction`);
  try {
    encodeChanges(changes);
    return undefined;
  } catch (error) {
    return invalid(error instanceof Error ? error.message : String(error));
  }
}

function invalid(message: string): Failure {
  return { ok: false, reason: 'invalid', message, uncertain: false };
}
