/** What an encrypted network sends by, in a line. Pure. */
import type { EncryptionView } from '../views.ts';

export function encryptionFields(
  view: EncryptionView | undefined,
): readonly (readonly [name: string, value: string])[] {
  if (view === undefined) return [];
  const { peers, until } = view;
  const to = peers.map(({ at, cipher }) => `to ${at} ${cipher}`).join(', ');
  const keys = until === undefined ? '' : `, with keys until ${until}`;
  return [['encrypted', `by ESP${keys}: ${to === '' ? 'to no other host' : to}`]];
}
