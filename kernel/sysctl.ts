/**
 * Sysctls, read and written through /proc/sys in the calling thread. The `net` branch shows the network namespace of
 * the thread that opens the file (fs/proc/proc_sysctl.c, net/sysctl_net.c: net_ctl_header_lookup takes
 * `current->nsproxy`), so the functions are synchronous and can be called where a namespace was entered.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { errnoOf } from './errno.ts';
import { KernelError } from './kernel.ts';

const PROC_SYS = '/proc/sys';

/** The value without the line's end, or undefined when there is no such sysctl here. `key` as in SysctlSet. */
export function readSysctl(key: string, root = PROC_SYS): string | undefined {
  const path = sysctlPath(key, root);
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === 'ENOENT' || errno === 'ENOTDIR') return undefined;
    throw new KernelError(`sysctl ${key}`, errno);
  }
}

/**
 * Written only when it differs: a read-only /proc/sys is then no hindrance where the host is set up already.
 * @returns The former value, or undefined when nothing had to be written.
 * @throws KernelError ENOENT (no such sysctl), EROFS or the kernel's own refusal, naming both values.
 */
export function writeSysctl(key: string, value: string, root = PROC_SYS): string | undefined {
  const before = readSysctl(key, root);
  if (before !== undefined && words(before) === words(value)) return undefined;
  if (before === undefined)
    throw new KernelError(`sysctl ${key}`, 'ENOENT', `there is none, wanted ${value}`);
  try {
    writeFileSync(sysctlPath(key, root), value);
  } catch (error) {
    throw new KernelError(`sysctl ${key}`, errnoOf(error), `it is ${before}, wanted ${value}`);
  }
  return before;
}

/** Lists such as ip_local_port_range are read with tabs and may be written with spaces. */
function words(value: string): string {
  return value.trim().split(/\s+/).join(' ');
}

/**
 * `.` separates and `/` stands for a dot, as for sysctl(8) (`net.ipv4.conf.eth0/100.forwarding`): the path has them
 * the other way round.
 */
function sysctlPath(key: string, root: string): string {
  const swapped = key.replaceAll(/[./]/g, (c) => (c === '.' ? '/' : '.'));
  const parts = swapped.split('/');
  if (parts.some((part) => ['', '.', '..'].includes(part)) || key.includes('\0')) {
    throw new KernelError(
      `sysctl ${JSON.stringify(key)}`,
      'EINVAL',
      'a sysctl is written as net.ipv4.ip_forward',
    );
  }
  return `${root}/${swapped}`;
}

const MS_REMOUNT = 0x20;
const MS_BIND = 0x1000;
const KEEP: Readonly<Record<string, number>> = { nosuid: 0x2, nodev: 0x4, noexec: 0x8 };

/**
 * Make /proc/sys writable in the daemon's own mount namespace. Container runtimes mount it read-only (`readonlyPaths`
 * of the OCI runtime specification; a managed plugin gets them whatever its capabilities), and a managed plugin with
 * CAP_SYS_ADMIN may take that back for itself alone: nobody else sees this mount.
 * Called once by the daemon at its start; success with nothing done when /proc/sys is no mount of its own or is writable.
 * @param mounts Text of /proc/self/mountinfo.
 * @throws KernelError EPERM without CAP_SYS_ADMIN.
 */
export function makeProcSysWritable(
  mount: (source: string, target: string, flags: number) => void,
  mounts = readFileSync('/proc/self/mountinfo', 'utf8'),
): void {
  const flags = readOnlyMountOf(PROC_SYS, mounts);
  if (flags === undefined) return;
  // A bind remount sets all flags of the mount anew, so the ones besides `ro` are named again.
  const kept = flags.reduce((all, flag) => all | (KEEP[flag] ?? 0), 0);
  mount('none', PROC_SYS, MS_REMOUNT | MS_BIND | kept);
}

/** The mount options of the topmost mount at `path` when `ro` is among them (proc(5): fields 5 and 6 of mountinfo). */
function readOnlyMountOf(path: string, mounts: string): readonly string[] | undefined {
  const fields = mounts
    .split('\n')
    .map((line) => line.split(' '))
    .findLast((line) => line[4] === path);
  const flags = fields?.[5]?.split(',');
  return flags?.includes('ro') === true ? flags : undefined;
}
