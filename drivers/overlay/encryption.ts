/**
 * IPsec between the hosts of an encrypted network: ESP in transport mode around its VXLAN datagrams, as Docker's overlay has it, with keys of
 * its own for each network, pair of hosts and direction. Pure.
 */
import { createHash, hkdfSync } from 'node:crypto';
import type { Ip } from '../../address/ip.ts';
import { type Encryption, type HostSettings, stateName } from '../../cnm/driver.ts';
import { CnmError } from '../../cnm/errors.ts';
import type { Facts } from '../../kernel/facts.ts';
import type { Plan, XfrmStateAdd } from '../../kernel/step.ts';

/** 'c' above 24 bits: of the VNI in the mark of a network's datagrams; of a hash of VNI and port in the reqid of its states. */
const OURS = 0x63000000;
/** Periods whose keys are received: whose clock is a little behind, whose is ahead, and who has changed keys ahead of time. */
const RECEIVED = [-1, 0, 1, 2];
/** Periods whose keys may be sent with when this one's are spent: the other hosts have them, also the one whose clock is behind. */
const AHEAD_MOST = 1;
/** AES-128 and the salt of RFC 4106; AES-128 and a key of HMAC-SHA-256, as long as what it gives (RFC 4868 section 2.1.1). */
const KEY_BYTES = { gcm: 16 + 4, cbc: 16 + 32 } as const;
const SPI_BYTES = 4;
/** RFC 4303 section 2.1: those below are reserved. */
const SPI_LEAST = 256;

/** @throws CnmError `option-invalid` where there is no secret, or the kernel cannot encrypt. */
export function encryptionOf({ encryption }: HostSettings, { noEsp }: Facts): Encryption {
  if (encryption === undefined || encryption.secrets.length === 0)
    throw new CnmError(
      'option-invalid',
      'encrypted needs a secret that the hosts share, and this daemon has none: start cnmd with --overlay-keys FILE on all hosts of the network; in a cluster they have one as soon as its etcd answers',
    );
  if (noEsp !== undefined)
    throw new CnmError(
      'option-invalid',
      `encrypted cannot be had on this host (${noEsp}); nothing is sent in the clear that was to be encrypted: leave out "encrypted", or use another kernel`,
    );
  return encryption;
}

export interface Secured {
  readonly vni: number;
  readonly port: number;
  readonly local: Ip;
  readonly remotes: readonly Ip[];
}

/** The guard before all, receiving before sending, and the policy last: from the first step on nothing leaves in the clear. */
export function encryptionSteps(secured: Secured, keys: Encryption): Plan {
  const { vni, port, local, remotes } = secured;
  const mark = OURS + vni;
  const reqid = reqidOf(secured);
  return [
    { do: 'encrypted.guard', port, vni, mark },
    ...remotes.flatMap((remote) => received(secured, remote, keys)),
    ...remotes.map((remote) => sent(secured, remote, keys)),
    ...remotes.map((dst) => ({ do: 'xfrm.policy.add' as const, src: local, dst, port, mark, reqid })),
  ];
}

function received(secured: Secured, src: Ip, { secrets, period }: Encryption): readonly XfrmStateAdd[] {
  const way = { src, dst: secured.local };
  return secrets.flatMap((secret) =>
    RECEIVED.flatMap((ahead) =>
      CIPHERS.map((cipher) => state(secured, way, { secret, cipher, period: period + ahead })),
    ),
  );
}

/**
 * AES-GCM with a key that was never sent with before: RFC 4106 section 3 forbids it to use one nonce twice with one key, and the kernel begins
 * to count anew with each state (seqiv_aead_encrypt() adds a random start of 64 bits, which makes it unlikely, not impossible). The
 * keys of this period, then of the next one. Where both are spent, AES-CBC with HMAC until the next period: two packets with the same
 * key and number betray nothing there, for what they begin with is random (RFC 3602 section 3; echainiv_encrypt()). So a host that
 * begins anew needs nobody to agree with.
 */
function sent(secured: Secured, dst: Ip, { secrets, period, sending, spent }: Encryption): XfrmStateAdd {
  const [secret = ''] = secrets;
  const way = { src: secured.local, dst };
  for (let number = sending; number <= period + AHEAD_MOST; number += 1) {
    const fresh = state(secured, way, { secret, cipher: 'gcm', period: number });
    if (spent?.has(stateName(fresh)) !== true) return { ...fresh, once: true };
  }
  return state(secured, way, { secret, cipher: 'cbc', period: sending });
}

const CIPHERS = ['gcm', 'cbc'] as const;

interface Key {
  readonly secret: string;
  readonly cipher: XfrmStateAdd['cipher'];
  readonly period: number;
}

/** Key and SPI by HKDF (RFC 5869) with SHA-256. */
function state(
  secured: Secured,
  { src, dst }: Pick<XfrmStateAdd, 'src' | 'dst'>,
  { secret, cipher, period }: Key,
): XfrmStateAdd {
  const { vni, port } = secured;
  const length = KEY_BYTES[cipher];
  const info = `esp 2 ${cipher} ${src} ${dst} ${vni} ${port} ${period}`;
  const bytes = Buffer.from(hkdfSync('sha256', secret, 'cnm-overlay', info, length + SPI_BYTES));
  const random = bytes.readUInt32BE(length);
  const spi = random < SPI_LEAST ? random + SPI_LEAST : random;
  const key = bytes.toString('hex', 0, length);
  return { do: 'xfrm.state.add', src, dst, spi, reqid: reqidOf(secured), cipher, key };
}

/** Two networks may have one VNI on two ports: each with states of its own. */
function reqidOf({ vni, port }: Secured): number {
  return OURS + createHash('sha256').update(`${vni} ${port}`).digest().readUIntBE(0, 3);
}
