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
  /** Entries whose key starts with `prefix`, in key order (by UTF-16 code units, as `<` compares strings). */
  list(prefix: string): readonly (readonly [key: string, value: unknown])[];
  /**
   * All changes or none. Values must be JSON-safe; what is read back is a deep copy, never the object that was put.
   * A read shows a write only once it is durable.
   * @throws StoreError when it is not durable (ENOSPC, EROFS, …; EINVAL for a value that is not JSON-safe, EBADF after
   *   close); memory then still shows the old state, and a later write may succeed.
   */
  write(changes: readonly Change[]): Promise<void>;
  /** What opening it found: a damaged file set aside, a schema migrated. Empty when all was well. */
  readonly notices: readonly StoreNotice[];
  /** After the writes that were issued before it. */
  close(): Promise<void>;
}

/** The durable records as a tool sees them beside the running daemon: each call shows the last committed state. */
export interface StoreReader {
  get(key: string): unknown;
  list(prefix: string): readonly (readonly [key: string, value: unknown])[];
  close(): void;
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
