/** What an encrypted network of this host sends by. Of keys it shows nothing. Pure. */
import type { NetworkRecord } from '../cnm/model.ts';
import type { XfrmStateAdd } from '../kernel/step.ts';
import type { EncryptionView } from './views.ts';

const CIPHERS = { gcm: 'AES-GCM', cbc: 'AES-CBC' } as const;

/** @param until when the next keys come by themselves; undefined for a network that is not encrypted, or not here. */
export function encryptionView(
  { presence = [] }: Pick<NetworkRecord, 'presence'>,
  until: string | undefined,
): EncryptionView | undefined {
  if (!presence.some((step) => step.do === 'encrypted.guard')) return undefined;
  const states = presence.filter((step): step is XfrmStateAdd => step.do === 'xfrm.state.add');
  const sent = new Map(
    presence.flatMap((step) => {
      if (step.do !== 'xfrm.policy.add') return [];
      const { src, dst } = step;
      const last = states.findLast((state) => state.src === src && state.dst === dst);
      return last === undefined ? [] : [[dst, CIPHERS[last.cipher]] as const];
    }),
  );
  return {
    peers: [...sent].map(([at, cipher]) => ({ at, cipher })),
    ...(until !== undefined && { until }),
  };
}
