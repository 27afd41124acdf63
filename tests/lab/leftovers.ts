import { readFile, readdir, rm, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { PATIENCE, signalIfThere, tryRun } from './command.ts';

/** Everything that a lab makes outside its own namespaces bears a name with this prefix: folders, cgroups, processes. */
export const PREFIX = 'cnmlab-';

/** Set in the environment of every process of a lab; its value is the lab's name. */
export const MARK = 'CNM_LAB_RUN';

/** Field 22 of /proc/PID/stat: with it a process number is unique until the next boot (proc_pid_stat(5)). */
async function startTime(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
}

/** `cnmlab-<pid>-<start time>-<serial>`: tells whether the test that opened the lab still runs. */
export async function labName(serial: string): Promise<string> {
  return `${PREFIX}${process.pid}-${(await startTime(process.pid)) ?? '0'}-${serial}`;
}

async function abandoned(name: string): Promise<boolean> {
  const [pid, started] = name.slice(PREFIX.length).split('-');
  return (await startTime(Number(pid))) !== started;
}

/** Running processes (no zombies) that bear the mark of this lab. */
async function processesOf(name: string): Promise<number[]> {
  const found: number[] = [];
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    // A zombie's environment is empty; a process that ends while we look has none either.
    const environ = await readFile(`/proc/${entry}/environ`, 'utf8').catch(() => '');
    if (environ.split('\0').includes(`${MARK}=${name}`)) found.push(Number(entry));
  }
  return found;
}

/** Ids of the managed plugins of a lab's Engines: runc names their cgroups by the bare id. */
async function pluginIds(folder: string): Promise<string[]> {
  const ids: string[] = [];
  for (const host of await readdir(folder).catch(() => [])) {
    const plugins = await readdir(join(folder, host, 'host/docker/plugins')).catch(() => []);
    ids.push(...plugins.filter((entry) => /^[0-9a-f]{64}$/.test(entry)));
  }
  return ids;
}

async function cgroupsOf(names: readonly string[]): Promise<string[]> {
  const found = await tryRun(['find', '/sys/fs/cgroup', '-depth', '-type', 'd']);
  return found.stdout.split('\n').filter((path) => names.some((name) => path.includes(name)));
}

/** Milliseconds for what was killed to be gone: a process that is killed must have its turn to die, and may wait for a disk before. */
const DYING_MS = 60_000 * PATIENCE;

/** A cgroup is busy for a moment after the last process of it has died. */
async function removeCgroups(names: readonly string[]): Promise<void> {
  const deadline = performance.now() + DYING_MS;
  while (performance.now() < deadline) {
    const paths = await cgroupsOf(names);
    if (paths.length === 0) return;
    for (const path of paths) await rmdir(path).catch(() => undefined);
    await sleep(25);
  }
}

/** Ends and removes all that a lab left outside its namespaces. The namespaces go with their processes. */
export async function takeAway(name: string): Promise<void> {
  const deadline = performance.now() + DYING_MS;
  while (performance.now() < deadline) {
    const pids = await processesOf(name);
    if (pids.length === 0) break;
    for (const pid of pids) signalIfThere(pid, 'SIGKILL');
    await sleep(25);
  }
  const folder = join(tmpdir(), name);
  await removeCgroups([name, ...(await pluginIds(folder))]);
  await rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 });
}

/** Removes what labs left whose test was killed. Labs of tests that still run are not touched. */
export async function sweep(): Promise<string[]> {
  const swept: string[] = [];
  for (const entry of await readdir(tmpdir())) {
    if (!entry.startsWith(PREFIX) || !(await abandoned(entry))) continue;
    await takeAway(entry);
    swept.push(entry);
  }
  return swept;
}

/** Links of the machine's own namespace whose names Docker or we give; by index, as names can be used again. */
export async function suspectLinks(): Promise<Map<number, string>> {
  const suspects = new Map<number, string>();
  for (const name of await readdir('/sys/class/net')) {
    if (!/^(docker|br-|veth|cnm|vx-|ov-)/.test(name)) continue;
    suspects.set(Number(await readFile(`/sys/class/net/${name}/ifindex`, 'utf8').catch(() => '0')), name);
  }
  return suspects;
}

/** What of a lab is still on the machine, one line each; `links` are the suspects from before the lab. */
export async function leftOf(name: string, links: ReadonlyMap<number, string>): Promise<string[]> {
  const left = (await processesOf(name)).map((pid) => `process ${pid}`);
  const mounts = await readFile('/proc/self/mountinfo', 'utf8');
  left.push(...mounts.split('\n').filter((line) => line.includes(name)));
  left.push(...(await cgroupsOf([name])).map((path) => `cgroup ${path}`));
  const folders = (await readdir(tmpdir())).filter((entry) => entry === name);
  left.push(...folders.map((entry) => `folder ${join(tmpdir(), entry)}`));
  for (const [index, link] of await suspectLinks()) {
    if (!links.has(index)) left.push(`link ${link} in the machine's own network namespace`);
  }
  return left;
}
