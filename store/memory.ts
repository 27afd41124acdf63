import { setImmediate } from 'node:timers/promises';
import { encodeChanges } from './encode.ts';
import { Mirror } from './mirror.ts';
import { StoreError } from './store.ts';
import type { Change, Store } from './store.ts';

/** A store for tests and dry runs: the same answers as the durable one, gone with the process. */
export function memoryStore(initial: Readonly<Record<string, unknown>> = {}): Store {
  const mirror = new Mirror();
  let open = true;
  const changes = Object.entries(initial).map(([put, value]) => ({ put, value }));
  for (const { key, text } of encodeChanges(changes)) mirror.set(key, text);

  return {
    notices: [],
    get: (key) => mirror.get(key),
    list: (prefix) => mirror.list(prefix),
    async write(changes: readonly Change[]) {
      if (!open) throw new StoreError('write', 'EBADF', 'the store is closed');
      const encoded = encodeChanges(changes);
      // The durable store shows a write only once it is committed; callers must not come to lean on less.
      await setImmediate();
      for (const { key, text } of encoded) mirror.set(key, text);
    },
    close() {
      open = false;
      return Promise.resolve();
    },
  };
}
