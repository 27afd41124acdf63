/** Errno numbers and their names, as the kernel's headers and man pages write them. */
import { constants } from 'node:os';

/** EOPNOTSUPP and ENOTSUP, EAGAIN and EWOULDBLOCK are one number each on Linux: the name that man pages use. */
const PREFERRED = ['EOPNOTSUPP', 'EAGAIN'];
/** asm-generic/errno.h, what Node's table leaves out of it and networking code answers. */
const FURTHER: readonly (readonly [number, string])[] = [
  [54, 'EXFULL'],
  [65, 'ENOPKG'],
  [76, 'ENOTUNIQ'],
  [77, 'EBADFD'],
  [85, 'ERESTART'],
  [87, 'EUSERS'],
  [94, 'ESOCKTNOSUPPORT'],
  [96, 'EPFNOSUPPORT'],
  [108, 'ESHUTDOWN'],
  [112, 'EHOSTDOWN'],
  [117, 'EUCLEAN'],
  [124, 'EMEDIUMTYPE'],
  [524, 'ENOTSUPP'],
];
const NODES = Object.entries(constants.errno).map(([name, number]) => [number, name] as const);
const NAMES: ReadonlyMap<number, string> = new Map([
  ...NODES,
  ...FURTHER,
  ...NODES.filter(([, name]) => PREFERRED.includes(name)),
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
