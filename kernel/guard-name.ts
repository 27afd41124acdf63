/** By what a guard is told from others. */
import type { EncryptedGuard } from './step.ts';

export function guardName({ port, vni, mark }: Pick<EncryptedGuard, 'port' | 'vni' | 'mark'>): string {
  return `${port} ${vni} ${mark}`;
}
