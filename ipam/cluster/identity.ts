/** Under which id this host is in the cluster: lost with its records, as those say what it has. */
import { randomBytes } from 'node:crypto';
import type { Store } from '../../store/store.ts';

/** Its key: a record that says nothing of what the host has. */
export const HOST = 'ipam/host';

/** Made when it is first needed. */
export async function hostId(store: Store): Promise<string> {
  const known = store.get(HOST);
  if (typeof known === 'string' && /^[0-9a-f]{12}$/.test(known)) return known;
  const id = randomBytes(6).toString('hex');
  await store.write([{ put: HOST, value: id }]);
  return id;
}
