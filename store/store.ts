/**
 * Durable records: JSON values under string keys.
 *
 * The daemon is the only writer, so reads are answered from memory at once; a write is on disk (fsync'd, power-loss safe)
 * when its promise resolves. Writes issued in one turn of the event loop may share one commit, each still atomic.
 */
export type Json =
  null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json | undefined };

export type Change = { readonly put: string; readonly value: unknown } | { readonly delete: string };

export interface Store {
  get(key: string): unknown;
  /** Entries whose key starts with `prefix`, in key order. */
  list(prefix: string): readonly (readonly [key: string, value: unknown])[];
  /**
   * All changes or none. Values must be JSON-safe; what is read back is a deep copy, never the object that was put.
   * @throws StoreError when it is not durable (ENOSPC, EROFS, …); memory then still shows the old state.
   */
  write(changes: readonly Change[]): Promise<void>;
  /** What opening it found: a damaged file set aside, a schema migrated. Empty when all was well. */
  readonly notices: readonly StoreNotice[];
  close(): Promise<void>;
}

export type StoreNotice =
  | { readonly kind: 'damaged'; readonly keptAs: string; readonly salvaged: number; readonly message: string }
  | { readonly kind: 'migrated'; readonly from: number; readonly to: number };

export class StoreError extends Error {
  override readonly name = 'StoreError';
  readonly operation: string;
  readonly errno: string;
  constructor(operation: string, errno: string, message: string) {
    super(`${operation}: ${errno} (${message})`);
    this.operation = operation;
    this.errno = errno;
  }
}
