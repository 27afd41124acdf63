/** Names of network interfaces. */
import { KernelError } from './kernel.ts';

/**
 * dev_valid_name() of net/core/dev.c, and the 15 bytes of IFNAMSIZ.
 * @throws KernelError EINVAL
 */
export function checkName(name: string): void {
  const bytes = Buffer.byteLength(name);
  if (bytes > 0 && bytes <= 15 && name !== '.' && name !== '..' && !/[/:\s\0]/.test(name)) return;
  throw new KernelError(
    `link name ${JSON.stringify(name)}`,
    'EINVAL',
    'a name has 1 to 15 bytes without "/", ":" or white space',
  );
}
