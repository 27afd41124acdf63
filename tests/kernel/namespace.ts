/**
 * A network namespace for one test process: what it does happens in there and ends with it; the machine's own namespace is
 * never touched. Only this thread enters it (and the child processes that it starts).
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { warmThreadPool } from '../../kernel/netns.ts';
import { loadSyscalls } from '../../kernel/syscall.ts';
import type { Syscalls } from '../../kernel/syscall.ts';

const CLONE_NEWNET = 0x40000000;

/** Again: leaves the former namespace, which ends with all that is in it. */
export async function enterFreshNetns(): Promise<Syscalls> {
  await warmThreadPool();
  const sys = loadSyscalls();
  sys.unshare(CLONE_NEWNET);
  ip('link set lo up');
  return sys;
}

/** A folder for `netns.add`, and the way to be rid of it with the mounts in it. */
export async function netnsFolder(): Promise<{ readonly path: string; readonly remove: () => void }> {
  const path = await mkdtemp(join(tmpdir(), 'cnm-kernel-test-'));
  return {
    path,
    remove: () => {
      for (const file of readdirSync(path)) sh(`umount -l ${join(path, file)} 2>/dev/null || true`);
      sh(`umount -l ${path} 2>/dev/null || true`);
      rmSync(path, { recursive: true });
    },
  };
}

export function ip(args: string, netns?: string): void {
  sh(`${inside(netns)}ip ${args}`);
}

/** What `ip -j -d` says. */
export function ipJson(args: string, netns?: string): readonly Record<string, unknown>[] {
  const text = sh(`${inside(netns)}ip -j -d ${args}`).trim();
  return text === '' ? [] : (JSON.parse(text) as readonly Record<string, unknown>[]);
}

/** The names of all links but `lo`. */
export function linkNames(netns?: string): readonly string[] {
  return ipJson('link', netns)
    .map(({ ifname }) => String(ifname))
    .filter((name) => name !== 'lo')
    .sort();
}

export function sh(command: string): string {
  return execFileSync('/bin/sh', ['-c', command], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

export function openDescriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

function inside(netns: string | undefined): string {
  return netns === undefined ? '' : `nsenter --net=${netns} `;
}
