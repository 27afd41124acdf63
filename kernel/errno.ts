/** Errno numbers and their names, as the kernel's headers and man pages write them. */
import { constants } from 'node:os';

/** EOPNOTSUPP and ENOTSUP, EAGAIN and EWOULDBLOCK are one number each on Linux: the name that man pages use. */
const PREFERRED = ['EOPNOTSUPP', 'EAGAIN'];
const NAMES: ReadonlyMap<number, string> = new Map([
  ...Object.entries(constants.errno).map(([name, number]) => [number, name] as const),
  // Node's table has no name for these, which netlink and nftables do answer.
  ...([
    [76, 'ENOTUNIQ'],
    [85, 'ERESTART'],
    [117, 'EUCLEAN'],
    [524, 'ENOTSUPP'],
  ] as const),
  ...Object.entries(constants.errno)
    .filter(([name]) => PREFERRED.includes(name))
    .map(([name, number]) => [number, name] as const),
]);

export function errnoName(errno: number): string {
  const positive = Math.abs(errno);
  return NAMES.get(positive) ?? `errno ${positive}`;
}

/** The errno of an error that node:fs threw; EIO when it carries none. */
export function errnoOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : 'EIO';
}
