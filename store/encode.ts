import { inspect } from 'node:util';
import { StoreError } from './store.ts';
import type { Change } from './store.ts';

/** One change as it is kept: JSON text, or no text for a delete. */
export interface Encoded {
  readonly key: string;
  readonly text: string | undefined;
}

/**
 * Refuses what would read back as something else, before any of the changes is made.
 * @throws StoreError EINVAL that names the key.
 */
export function encodeChanges(changes: readonly Change[]): readonly Encoded[] {
  return changes.map((change) => {
    if ('delete' in change) return { key: checkedKey(change.delete), text: undefined };
    return { key: checkedKey(change.put), text: encodeValue(change.put, change.value) };
  });
}

/** A lone surrogate would be replaced on its way to UTF-8, and the key would be another one after a restart. */
function checkedKey(key: string): string {
  if (typeof key !== 'string' || key === '' || !key.isWellFormed()) {
    throw new StoreError(
      'write',
      'EINVAL',
      `${JSON.stringify(key)} is not a key: it must be a non-empty, well-formed text`,
    );
  }
  return key;
}

function encodeValue(key: string, value: unknown): string {
  try {
    // undefined for what JSON has no text for, which the library's type does not say.
    const text = JSON.stringify(value, refuseLossy) as string | undefined;
    return text ?? refuse(value);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new StoreError(
      'write',
      'EINVAL',
      `the value of ${JSON.stringify(key)} cannot be kept as JSON: ${reason}`,
    );
  }
}

/** JSON.stringify turns NaN into null, a Map into {} and a Date into a text without a word. */
function refuseLossy(this: unknown, name: string, value: unknown): unknown {
  // `value` has been through toJSON() already.
  const original = (this as Readonly<Record<string, unknown>>)[name];
  if (original === undefined) return Array.isArray(this) ? refuse(original) : value;
  return isLossless(original) ? value : refuse(original);
}

function isLossless(value: unknown): boolean {
  if (typeof value === 'number') return Number.isFinite(value);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return value === null || ['string', 'boolean', 'object'].includes(typeof value);
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}

function refuse(value: unknown): never {
  throw new TypeError(`${inspect(value, { depth: 0 })} would not read back as it is`);
}
