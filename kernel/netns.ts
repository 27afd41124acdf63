/**
 * Network namespaces: entered only in a synchronous window, and held by bind mounts in a folder of ours.
 *
 * A thread is in one namespace at a time and Node's main thread does everything, so that `fn` must not await, start a worker or a
 * child process that should not be there. libuv's pool threads are started before the first window (`warmThreadPool`):
 * a thread inherits the namespace of the one that starts it, for ever.
 */
import { closeSync, mkdirSync, openSync, readdirSync, rmSync, statfsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { errnoOf } from './errno.ts';
import { KernelError } from './kernel.ts';
import type { Syscalls } from './syscall.ts';

const CLONE_NEWNET = 0x40000000;
const MS_BIND = 0x1000;
const MS_REC = 0x4000;
const MS_SHARED = 0x100000;
const MNT_DETACH = 2;
const NSFS_MAGIC = 0x6e736673;
/** The calling thread's; /proc/self would be the main thread's, which is the same only here. */
export const CURRENT_NETNS = '/proc/thread-self/ns/net';

/** One use of the pool starts all of its threads. To be awaited before anything enters a namespace. */
export async function warmThreadPool(): Promise<void> {
  await stat('/');
}

/**
 * Run `fn` with this thread inside the namespace at `path`. Sockets opened in it stay there.
 * The process aborts when the way back fails: everything after would silently happen in the wrong namespace.
 * @throws KernelError ENOENT when there is no such file, EINVAL when it holds no namespace; and what `fn` throws.
 */
export function withNetns<T>(sys: Syscalls, path: string, fn: () => T): T {
  return withHandle(path, (handle) =>
    withHandle(CURRENT_NETNS, (home) => {
      sys.setns(handle, CLONE_NEWNET);
      return returning(sys, home, fn);
    }),
  );
}

function returning<T>(sys: Syscalls, home: number, fn: () => T): T {
  try {
    return fn();
  } finally {
    try {
      sys.setns(home, CLONE_NEWNET);
    } catch {
      process.abort();
    }
  }
}

/** A descriptor of the namespace at `path` while `fn` runs. */
export function withHandle<T>(path: string, fn: (fd: number) => T): T {
  const fd = openNetns(path);
  try {
    return fn(fd);
  } finally {
    closeSync(fd);
  }
}

/** @throws KernelError with the errno of open(2). Close it with node:fs. */
export function openNetns(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    throw new KernelError(`netns ${path}`, errnoOf(error), 'cannot be opened');
  }
}

/** Whether a namespace is mounted there; a plain file is what a crash between creation and mount leaves. */
export function holdsNetns(path: string): boolean {
  try {
    return statfsSync(path).type === NSFS_MAGIC;
  } catch {
    return false;
  }
}

/**
 * Make a namespace and hold it at `path`. Success with nothing done when one is there; false then.
 * A thread cannot make one without being in it: unshare() and back, in one window.
 */
export function createNetns(sys: Syscalls, path: string): boolean {
  if (holdsNetns(path)) return false;
  prepareFile(sys, path);
  withHandle(CURRENT_NETNS, (home) => {
    sys.unshare(CLONE_NEWNET);
    returning(sys, home, () => {
      sys.mount(CURRENT_NETNS, path, MS_BIND);
    });
  });
  return true;
}

/** The namespace behind a descriptor is held at `path` as before; nothing is done when one is there. */
export function restoreNetns(sys: Syscalls, path: string, handle: number): void {
  if (holdsNetns(path)) return;
  prepareFile(sys, path);
  sys.mount(`/proc/thread-self/fd/${handle}`, path, MS_BIND);
}

function prepareFile(sys: Syscalls, path: string): void {
  prepareFolder(sys, dirname(path));
  closeSync(openSync(path, 'w', 0o444));
}

/**
 * The folder becomes a mount point of its own with shared propagation, as `ip netns` does with /run/netns: else every
 * process that copies the mount table (`unshare -m`, a container) keeps the namespaces in it alive after we have
 * unmounted ours.
 */
function prepareFolder(sys: Syscalls, folder: string): void {
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  try {
    sys.mount('', folder, MS_SHARED | MS_REC);
  } catch (error) {
    // EINVAL: not a mount point yet.
    if (!(error instanceof KernelError && error.errno === 'EINVAL')) throw error;
    sys.mount(folder, folder, MS_BIND | MS_REC);
    sys.mount('', folder, MS_SHARED | MS_REC);
  }
}

/** Let go of the namespace at `path`; the kernel ends it when nothing else holds it. Gone already is success. */
export function removeNetns(sys: Syscalls, path: string): void {
  while (holdsNetns(path)) sys.umount(path, MNT_DETACH);
  rmSync(path, { force: true });
}

/** The namespaces held in a folder. */
export function listNetns(folder: string): readonly string[] {
  try {
    return readdirSync(folder)
      .map((name) => join(folder, name))
      .filter(holdsNetns)
      .sort();
  } catch {
    return [];
  }
}
