import { mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { run } from './command.ts';
import { labName } from './leftovers.ts';

/** What the lab calls its only image in every Engine. Without a command a container waits, and ends at once on SIGTERM. */
export const IMAGE = 'cnm-lab';

/** What is made once and kept between runs: the image and other Debian suites' trees. */
export function cacheFolder(): string {
  return process.env['CNM_LAB_CACHE'] ?? '/var/cache/cnm-lab';
}

/** The command of a container that was given none. */
export const COMMAND = ['/bin/sh', '/etc/wait'];

const WAIT = `trap 'exit 0' TERM INT
while :; do sleep 3600 & wait $!; done
`;

/** Dynamically linked, because a static glibc program cannot load the name service that asks 127.0.0.11. */
const DYNAMIC = ['/usr/bin/getent', '/bin/ping'];

/** A tar of the image: busybox for everything, `getent` and a `ping` that resolve names. Made once. */
export async function imageTar(): Promise<string> {
  const made = join(cacheFolder(), 'image-1.tar');
  if (await readFile(made).then(Boolean, () => false)) return made;
  const folder = await mkdtemp(join(tmpdir(), `${await labName('image')}-`));
  try {
    await fill(folder);
    await mkdir(cacheFolder(), { recursive: true });
    const fresh = join(cacheFolder(), `.image-${process.pid}.tar`);
    await run(['tar', '--create', '--owner=0', '--group=0', `--file=${fresh}`, `--directory=${folder}`, '.']);
    await rename(fresh, made);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return made;
}

async function fill(folder: string): Promise<void> {
  for (const sub of ['bin', 'etc', 'tmp', 'proc', 'sys', 'dev', 'root', 'www', 'var/run']) {
    await mkdir(join(folder, sub), { recursive: true });
  }
  await run(['cp', '/bin/busybox', join(folder, 'bin/busybox')]);
  const own = new Set(['busybox', ...DYNAMIC.map((path) => path.split('/').at(-1))]);
  for (const applet of (await run(['/bin/busybox', '--list'])).split('\n')) {
    if (applet !== '' && !own.has(applet)) await symlink('busybox', join(folder, 'bin', applet));
  }
  for (const program of DYNAMIC) await copyWithLibraries(program, folder);
  await copyNameService(folder);
  await writeFile(join(folder, 'etc/wait'), WAIT);
  await writeFile(join(folder, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\n');
  await writeFile(join(folder, 'etc/group'), 'root:x:0:\n');
  await writeFile(join(folder, 'etc/nsswitch.conf'), 'hosts: files dns\n');
  await writeFile(join(folder, 'www/index.html'), 'cnm-lab\n');
}

async function copyWithLibraries(program: string, folder: string): Promise<void> {
  await run(['cp', '--dereference', program, join(folder, 'bin')]);
  // "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)", and the loader by its bare path.
  const listed = (await run(['ldd', program])).matchAll(/(?:=> )?(\/\S+) \(0x/g);
  for (const [, library] of listed) if (library !== undefined) await copyLibrary(library, folder);
}

/** Loaded by name at run time, so that ldd does not list them. Beside libc, wherever this machine has that. */
async function copyNameService(folder: string): Promise<void> {
  const libc = /(\/\S+)\/libc\.so\.6 /.exec(await run(['ldd', '/usr/bin/getent']))?.[1];
  if (libc === undefined)
    throw new Error('getent is not linked to libc.so.6: cannot make an image that resolves names');
  for (const name of ['libnss_files.so.2', 'libnss_dns.so.2', 'libresolv.so.2']) {
    await copyLibrary(`${libc}/${name}`, folder);
  }
}

async function copyLibrary(library: string, folder: string): Promise<void> {
  await mkdir(join(folder, dirname(library)), { recursive: true });
  await run(['cp', '--dereference', library, join(folder, library)]);
}
