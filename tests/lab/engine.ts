import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { run, tryRun } from './command.ts';
import { cacheFolder } from './image.ts';

/** Docker Engines that the lab can start. */
export type Engine = '20.10' | '26.1' | '28.5';

/** The Debian suite that has the Engine; the machine's own is 20.10 on Debian 12. */
const SUITES: Readonly<Record<Exclude<Engine, '20.10'>, string>> = { '26.1': 'trixie', '28.5': 'forky' };

/** The file system that an Engine's host starts from. Another suite's is unpacked once (half a minute) and kept. */
export async function engineTree(engine: Engine): Promise<string> {
  if (engine === '20.10') return '/';
  const tree = join(cacheFolder(), SUITES[engine]);
  await run(['bash', join(import.meta.dirname, 'make-tree.sh'), SUITES[engine], tree], { timeout: 900_000 });
  return tree;
}

/** overlay2 where a folder can hold an overlay's upper layer, else vfs, which copies whole images. */
export async function storageDriver(folder: string): Promise<'overlay2' | 'vfs'> {
  if (process.env['CNM_LAB_OVERLAY'] === 'no') return 'vfs';
  const probe = await mkdtemp(join(folder, 'probe-'));
  for (const sub of ['lower', 'upper', 'work', 'merged']) await mkdir(join(probe, sub));
  const options = `lowerdir=${probe}/lower,upperdir=${probe}/upper,workdir=${probe}/work`;
  const script = `mount -t overlay overlay -o ${options} ${probe}/merged`;
  // In a mount namespace of its own, which takes the mount with it.
  const { code } = await tryRun(['unshare', '--mount', '--propagation', 'private', 'sh', '-c', script]);
  await rm(probe, { recursive: true, force: true });
  return code === 0 ? 'overlay2' : 'vfs';
}
