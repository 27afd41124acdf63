/** Programs and shared objects in a root file system of their own: what ldd(1) says they load comes along. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  realpathSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

/** Copies `program` to `target` (or leaves it where it is, when it is inside already), and its libraries into `rootfs`. */
export function copyProgram(program: string, rootfs: string, target?: string): void {
  if (target !== undefined) {
    mkdirSync(dirname(target), { recursive: true });
    copyFileSync(realpathSync(program), target);
    chmodSync(target, 0o755);
  }
  for (const library of libraries(program)) {
    const inside = join(rootfs, library);
    if (existsSync(inside)) continue;
    mkdirSync(dirname(inside), { recursive: true });
    copyFileSync(realpathSync(library), inside);
    chmodSync(inside, 0o755);
  }
}

/** The paths that ldd prints: `libc.so.6 => /lib/…/libc.so.6 (0x…)`, and the loader by its path alone. */
function libraries(program: string): readonly string[] {
  const lines = execFileSync('ldd', [program], { encoding: 'utf8' }).split('\n');
  return lines.flatMap((line) => {
    if (line.includes('not found')) throw new Error(`${program}: ${line.trim()}`);
    return /(?:=> )?(\/\S+) \(0x/.exec(line)?.[1] ?? [];
  });
}

/** Bytes of all files below `path`. */
export function diskUsage(path: string): number {
  const status = lstatSync(path);
  if (!status.isDirectory()) return status.size;
  return readdirSync(path).reduce((sum, name) => sum + diskUsage(join(path, name)), 0);
}
