/** The cluster's published networks as this host has heard of them, and what hosts say of each. */
import {
  decodePublished,
  decodeReport,
  PUBLISHED,
  type PublishedNetwork,
  readKey,
  type Report,
} from '../cnm/published/record.ts';
import type { ClusterEntry, ClusterStore, ClusterWatch, WatchEvent } from '../store/cluster.ts';

export interface Heard {
  readonly network: PublishedNetwork;
  readonly revision: number;
  /** By the ids of hosts. */
  readonly reports: ReadonlyMap<string, Report>;
}

export class PublishedMirror {
  readonly #networks = new Map<string, { readonly network: PublishedNetwork; readonly revision: number }>();
  readonly #reports = new Map<string, Map<string, Report>>();
  readonly #listeners = new Set<() => void>();
  #watch: ClusterWatch | undefined;

  /** @param changed a network is another, or everything was heard once more. */
  start(store: ClusterStore, changed: () => void): void {
    this.#watch = store.watch(PUBLISHED, (event) => {
      if (this.#hear(event)) changed();
      for (const listener of this.#listeners) listener();
    });
  }

  all(): readonly Heard[] {
    return [...this.#networks.keys()].flatMap((name) => this.get(name) ?? []);
  }

  get(name: string): Heard | undefined {
    const known = this.#networks.get(name);
    return known && { ...known, reports: this.#reports.get(name) ?? new Map<string, Report>() };
  }

  /** Resolves when `holds`, or when the time is up. It is asked after everything that is heard. */
  async until(holds: () => boolean, milliseconds: number): Promise<void> {
    if (holds()) return;
    const { promise, resolve } = Promise.withResolvers<undefined>();
    const listener = () => {
      if (holds()) resolve(undefined);
    };
    const timer = setTimeout(resolve, milliseconds, undefined);
    this.#listeners.add(listener);
    await promise;
    clearTimeout(timer);
    this.#listeners.delete(listener);
  }

  close(): void {
    this.#watch?.close();
  }

  /** Whether there is something to do. */
  #hear(event: WatchEvent): boolean {
    if (event.kind === 'snapshot') {
      this.#networks.clear();
      this.#reports.clear();
      for (const entry of event.entries) this.#put(entry);
      return true;
    }
    if (event.kind !== 'changes') return event.kind === 'resumed';
    let changed = false;
    for (const change of event.changes)
      changed = ('put' in change ? this.#put(change.put) : this.#drop(change.delete)) || changed;
    return changed;
  }

  #put({ key, value, revision }: ClusterEntry): boolean {
    const { name, host } = readKey(key) ?? {};
    if (name === undefined) return false;
    if (host === undefined) {
      const network = decodePublished(value);
      if (network?.name === name) this.#networks.set(name, { network, revision });
      return true;
    }
    const report = decodeReport(value);
    if (report === undefined) return false;
    const reports = this.#reports.get(name) ?? new Map<string, Report>();
    this.#reports.set(name, reports.set(host, report));
    return false;
  }

  #drop(key: string): boolean {
    const { name = '', host } = readKey(key) ?? {};
    if (host === undefined) return this.#networks.delete(name);
    this.#reports.get(name)?.delete(host);
    return false;
  }
}
