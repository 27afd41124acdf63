/**
 * The namespaces that we have made, each by a descriptor. Sockets of the daemon's in them (the resolver's, a tunnel's, those of tests) keep
 * them in any case: one whose file somebody takes away goes on, with the tunnel that has its VNI and with containers that are on it. So it
 * gets its file back, and not a second one in its place.
 */
import { closeSync, fstatSync, openSync, statSync } from 'node:fs';
import { KernelError } from './kernel.ts';
import {
  createNetns,
  CURRENT_NETNS,
  holdsNetns,
  listNetns,
  removeNetns,
  restoreNetns,
  withNetns,
} from './netns.ts';
import type { NetnsPath } from './step.ts';
import type { Syscalls } from './syscall.ts';

export class Namespaces {
  readonly #sys: Syscalls;
  readonly #folder: string;
  readonly #handles = new Map<NetnsPath, number>();

  constructor(sys: Syscalls, folder: string) {
    this.#sys = sys;
    this.#folder = folder;
  }

  list(): readonly NetnsPath[] {
    const found = listNetns(this.#folder);
    for (const path of found) this.#hold(path);
    return found;
  }

  /** @returns false when nothing is to be undone: one is there, or is there again. */
  create(path: NetnsPath): boolean {
    this.restore(path);
    const isMade = createNetns(this.#sys, path);
    this.#hold(path);
    return isMade;
  }

  /** The one that goes on gets its file back. */
  restore(path: NetnsPath): void {
    const handle = this.#handles.get(path);
    if (handle !== undefined) restoreNetns(this.#sys, path, handle);
  }

  remove(path: NetnsPath): void {
    this.#release(path);
    removeNetns(this.#sys, path);
  }

  close(): void {
    for (const path of [...this.#handles.keys()]) this.#release(path);
  }

  /** By its name in /proc: a descriptor of the file itself would make it busy, and umount(2) refuse. */
  #hold(path: NetnsPath): void {
    const held = this.#handles.get(path);
    try {
      if (held !== undefined && fstatSync(held).ino === statSync(path).ino) return;
      this.#release(path);
      const handle = withNetns(this.#sys, path, () => openSync(CURRENT_NETNS, 'r'));
      this.#handles.set(path, handle);
    } catch (error) {
      // It has gone meanwhile; or there is no descriptor left, and it goes without.
      if (!(error instanceof KernelError) && holdsNetns(path)) throw error;
    }
  }

  #release(path: NetnsPath): void {
    const handle = this.#handles.get(path);
    if (handle !== undefined) closeSync(handle);
    this.#handles.delete(path);
  }
}
