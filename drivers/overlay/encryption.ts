/**
 * IPsec between the hosts of an encrypted network: ESP in transport mode around its VXLAN datagrams, as Docker's overlay has it, with keys of
 * its own for each network, pair of hosts and direction. Pure.
 */
import { createHash, hkdfSync } from 'node:crypto';
import type { Ip } from '../../address/ip.ts';
import type { Encryption, HostSettings } from '../../cnm/driver.ts';
import { CnmError } from '../../cnm/errors.ts';
import type { Facts } from '../../kernel/facts.ts';
import type { Plan, XfrmStateAdd } from '../../kernel/step.ts';
import type { OverlayOptions } from './options.ts';

/** 'c' above 24 bits: of the VNI in the mark of a network's datagrams; of a hash of VNI and port in the reqid of its states. */
const OURS = 0x63000000;
/** Periods whose keys are received: whose clock is a little behind, whose is ahead, and who has changed keys ahead of time. */
const RECEIVED = [-1, 0, 1, 2];
/** AES-128 and the salt of RFC 4106; then an SPI. */
const KEY_BYTES = 20;
const SPI_BYTES = 4;
/** RFC 4303 section 2.1: those below are reserved. */
const SPI_LEAST = 256;

/** @throws CnmError `option-invalid` where there is no list of hosts, no secret, or the kernel cannot encrypt. */
export function encryptionOf(
  { peers }: Pick<OverlayOptions, 'peers'>,
  { encryption }: HostSettings,
  { noEsp }: Facts,
): Encryption {
  if (peers.length === 0)
    throw new CnmError(
      'option-invalid',
      'encrypted needs a list of the hosts (-o peers=…) in this version: keys are made for hosts that are known from the start',
    );
  if (encryption === undefined || encryption.secrets.length === 0)
    throw new CnmError(
      'option-invalid',
      'encrypted needs a secret that the hosts share, and this daemon has none: start cnmd with --overlay-keys FILE on all hosts of the network',
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
export function encryptionSteps({ vni, port, local, remotes }: Secured, keys: Encryption): Plan {
  const mark = OURS + vni;
  // Two networks may have one VNI on two ports: each with states of its own.
  const reqid = OURS + createHash('sha256').update(`${vni} ${port}`).digest().readUIntBE(0, 3);
  const state = (src: Ip, dst: Ip, secret: string, period: number): XfrmStateAdd => ({
    do: 'xfrm.state.add',
    src,
    dst,
    reqid,
    ...derive(secret, `esp 1 ${src} ${dst} ${vni} ${port} ${period}`),
  });
  const received = keys.secrets.flatMap((secret) =>
    RECEIVED.map((ahead) => ({ secret, period: keys.period + ahead })),
  );
  const [own = ''] = keys.secrets;
  return [
    { do: 'encrypted.guard', port, vni, mark },
    ...remotes.flatMap((remote) =>
      received.map(({ secret, period }) => state(remote, local, secret, period)),
    ),
    ...remotes.map((remote) => state(local, remote, own, keys.sending)),
    ...remotes.map((dst) => ({ do: 'xfrm.policy.add' as const, src: local, dst, port, mark, reqid })),
  ];
}

/** HKDF (RFC 5869) with SHA-256. */
function derive(secret: string, info: string): Pick<XfrmStateAdd, 'key' | 'spi'> {
  const bytes = Buffer.from(hkdfSync('sha256', secret, 'cnm-overlay', info, KEY_BYTES + SPI_BYTES));
  const spi = bytes.readUInt32BE(KEY_BYTES);
  return { key: bytes.toString('hex', 0, KEY_BYTES), spi: spi < SPI_LEAST ? spi + SPI_LEAST : spi };
}
