/**
 * What the other hosts said last on one network, on this host's disk: a daemon that starts knows it before the cluster answers, and of
 * hosts that are silent by then. Written a little later than it is heard, for that costs a container nothing then.
 */
import type { Change, Store } from '../../store/store.ts';
import type { Remote } from '../control.ts';
import { messageOf } from '../errors.ts';
import type { Log } from '../log.ts';
import { decodeRemote } from './keys.ts';

export interface HeardParts {
  readonly records: Pick<Store, 'get' | 'list' | 'write'>;
  /** Of the network's keys in the cluster; they are the same here, in a folder of their own. */
  readonly prefix: string;
  readonly log: Log;
}

const FOLDER = 'heard/';
/** Milliseconds. */
const LATER = 500;

export class Heard {
  readonly #parts: HeardParts;
  #open = new Map<string, Remote | undefined>();
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: HeardParts) {
    this.#parts = parts;
  }

  /** By key in the cluster. */
  load(): ReadonlyMap<string, Remote> {
    const { records, prefix } = this.#parts;
    const found = new Map<string, Remote>();
    for (const [key, value] of records.list(FOLDER + prefix)) {
      const remote = decodeRemote(key.slice(FOLDER.length + prefix.length), value);
      if (remote !== undefined) found.set(key.slice(FOLDER.length), remote);
    }
    return found;
  }

  /** Undefined: there is no such any more. */
  note(key: string, remote: Remote | undefined): void {
    this.#open.set(key, remote);
    this.#timer ??= setTimeout(() => {
      this.flush();
    }, LATER).unref();
  }

  /** Whoever closes the store does so after what was to be written. */
  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const { records } = this.#parts;
    const changes = [...this.#open].flatMap(([key, remote]): Change[] => {
      const [at, known] = [FOLDER + key, records.get(FOLDER + key)];
      if (remote === undefined) return known === undefined ? [] : [{ delete: at }];
      return JSON.stringify(known) === JSON.stringify(remote) ? [] : [{ put: at, value: remote }];
    });
    this.#open = new Map();
    if (changes.length > 0) this.#write(changes);
  }

  /** This host has left the network. Also what nobody can read. */
  clear(): void {
    const { records, prefix } = this.#parts;
    for (const [key] of records.list(FOLDER + prefix)) this.#open.set(key.slice(FOLDER.length), undefined);
    for (const key of this.#open.keys()) this.#open.set(key, undefined);
    this.flush();
  }

  #write(changes: readonly Change[]): void {
    const { records, log } = this.#parts;
    records.write(changes).catch((error: unknown) => {
      log.warn({ error: messageOf(error) }, 'what other hosts said is not on disk');
    });
  }
}
