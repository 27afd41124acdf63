/** IPsec states and policies over netlink (linux/xfrm.h), as `ip xfrm` sends them: ESP in transport mode. Pure. */
import type { NetlinkMessage } from 'netlink/dist/structs.js';
import { familyOf, ipBytes, ipFromBytes } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import { attribute, attributesAt, uint32 } from './attribute.ts';
import type { XfrmPolicyFact, XfrmStateFact } from './facts.ts';
import type { NetlinkRequest } from './netlink.ts';
import { AF_INET6, familyNumber, IPPROTO_ESP, IPPROTO_UDP } from './socket-numbers.ts';
import type { XfrmPolicyAdd, XfrmStateAdd } from './step.ts';

export const NETLINK_XFRM = 6;

const XFRM_MSG_NEWSA = 0x10;
const XFRM_MSG_DELSA = 0x11;
const XFRM_MSG_GETSA = 0x12;
const XFRM_MSG_NEWPOLICY = 0x13;
const XFRM_MSG_DELPOLICY = 0x14;
const XFRM_MSG_GETPOLICY = 0x15;
const XFRMA_ALG_CRYPT = 2;
const XFRMA_TMPL = 5;
const XFRMA_SRCADDR = 13;
const XFRMA_ALG_AEAD = 18;
const XFRMA_ALG_AUTH_TRUNC = 20;
const XFRMA_MARK = 21;
const XFRMA_REPLAY_ESN_VAL = 23;
const XFRMA_SA_EXTRA_FLAGS = 24;
const XFRM_STATE_ESN = 128;
const XFRM_SA_XFLAG_OSEQ_MAY_WRAP = 2;
const XFRM_POLICY_OUT = 1;
/** RFC 4106, with an ICV of 16 bytes (section 6). */
const GCM = 'rfc4106(gcm(aes))';
/** RFC 3602; RFC 4868, which cuts off half of what HMAC gives (section 2.3). */
const CBC = 'cbc(aes)';
const HMAC = 'hmac(sha256)';
const ICV_BITS = 128;
const AES_BYTES = 16;
/**
 * Packets that may be overtaken by later ones and are still let in; a bit for each. Where several queues and ways are between two hosts, a
 * window of 64 (RFC 4303 section 3.4.3) loses some.
 */
const REPLAY_WINDOW = 4096;

/** struct xfrm_selector */
const SELECTOR = {
  size: 56,
  daddr: 0,
  saddr: 16,
  dport: 32,
  dportMask: 34,
  family: 40,
  dlen: 42,
  slen: 43,
  proto: 44,
};
/** struct xfrm_usersa_info */
const STATE = {
  size: 224,
  daddr: 56,
  spi: 72,
  proto: 76,
  saddr: 80,
  limits: 96,
  reqid: 208,
  family: 212,
  flags: 216,
};
/** struct xfrm_userpolicy_info */
const POLICY = { size: 168, limits: 56, direction: 160 };
/** struct xfrm_userpolicy_id */
const POLICY_ID = { size: 64, direction: 60 };
/** struct xfrm_user_tmpl */
const TEMPLATE = { size: 64, daddr: 0, proto: 20, family: 24, saddr: 28, reqid: 44, algorithms: 52 };
/** struct xfrm_usersa_id */
const STATE_ID = { size: 24, daddr: 0, spi: 16, family: 20, proto: 22 };
/** struct xfrm_lifetime_cfg begins with four numbers of 64 bits: bytes and packets, soft and hard. XFRM_INF. */
const LIMITS_BYTES = 32;

export function addState({ src, dst, spi, reqid, cipher, key }: XfrmStateAdd): NetlinkRequest {
  const info = Buffer.alloc(STATE.size);
  info.set(ipBytes(dst), STATE.daddr);
  info.writeUInt32BE(spi, STATE.spi);
  info[STATE.proto] = IPPROTO_ESP;
  info.set(ipBytes(src), STATE.saddr);
  info.fill(0xff, STATE.limits, STATE.limits + LIMITS_BYTES);
  info.writeUInt32LE(reqid, STATE.reqid);
  info.writeUInt16LE(familyNumber(dst), STATE.family);
  if (cipher === 'gcm') info[STATE.flags] = XFRM_STATE_ESN;
  const bytes = Buffer.from(key, 'hex');
  const data = Buffer.concat([info, ...(cipher === 'gcm' ? galois(bytes) : chained(bytes))]);
  return { type: XFRM_MSG_NEWSA, flags: 0, data };
}

function galois(key: Buffer): readonly Buffer[] {
  return [
    attribute(XFRMA_ALG_AEAD, algorithm(GCM, key, ICV_BITS)),
    attribute(XFRMA_REPLAY_ESN_VAL, replayWindow()),
  ];
}

/** Made anew it counts from the start again, and after 2^32 packets as well: nobody looks at its numbers. */
function chained(key: Buffer): readonly Buffer[] {
  return [
    attribute(XFRMA_ALG_AUTH_TRUNC, algorithm(HMAC, key.subarray(AES_BYTES), ICV_BITS)),
    attribute(XFRMA_ALG_CRYPT, algorithm(CBC, key.subarray(0, AES_BYTES))),
    attribute(XFRMA_SA_EXTRA_FLAGS, uint32(XFRM_SA_XFLAG_OSEQ_MAY_WRAP)),
  ];
}

/** struct xfrm_algo; with the length of an ICV, in bits, struct xfrm_algo_aead and struct xfrm_algo_auth. */
function algorithm(name: string, key: Buffer, icv?: number): Buffer {
  const named = Buffer.alloc(64);
  named.write(name);
  return Buffer.concat([named, uint32(key.length * 8), ...(icv === undefined ? [] : [uint32(icv)]), key]);
}

/** struct xfrm_replay_state_esn, without the bits: those are zero, and the kernel makes room for them by their number of words. */
function replayWindow(): Buffer {
  return Buffer.concat([uint32(REPLAY_WINDOW / 32), Buffer.alloc(16), uint32(REPLAY_WINDOW)]);
}

export function deleteState({ src, dst, spi }: XfrmStateAdd): NetlinkRequest {
  const id = Buffer.alloc(STATE_ID.size);
  id.set(ipBytes(dst), STATE_ID.daddr);
  id.writeUInt32BE(spi, STATE_ID.spi);
  id.writeUInt16LE(familyNumber(dst), STATE_ID.family);
  id[STATE_ID.proto] = IPPROTO_ESP;
  return {
    type: XFRM_MSG_DELSA,
    flags: 0,
    data: Buffer.concat([id, attribute(XFRMA_SRCADDR, address(src))]),
  };
}

/** EEXIST where there is one with the same selector and mark (xfrm_policy_insert()). */
export function addPolicy(policy: XfrmPolicyAdd): NetlinkRequest {
  const info = Buffer.alloc(POLICY.size);
  selector(policy).copy(info);
  info.fill(0xff, POLICY.limits, POLICY.limits + LIMITS_BYTES);
  info[POLICY.direction] = XFRM_POLICY_OUT;
  const template = Buffer.alloc(TEMPLATE.size);
  template.set(ipBytes(policy.dst), TEMPLATE.daddr);
  template[TEMPLATE.proto] = IPPROTO_ESP;
  template.writeUInt16LE(familyNumber(policy.dst), TEMPLATE.family);
  template.set(ipBytes(policy.src), TEMPLATE.saddr);
  template.writeUInt32LE(policy.reqid, TEMPLATE.reqid);
  // Whatever the state has: aalgos, ealgos and calgos.
  template.fill(0xff, TEMPLATE.algorithms);
  const data = Buffer.concat([info, attribute(XFRMA_TMPL, template), markOf(policy)]);
  return { type: XFRM_MSG_NEWPOLICY, flags: 0, data };
}

export function deletePolicy(policy: XfrmPolicyAdd): NetlinkRequest {
  const id = Buffer.alloc(POLICY_ID.size);
  selector(policy).copy(id);
  id[POLICY_ID.direction] = XFRM_POLICY_OUT;
  return { type: XFRM_MSG_DELPOLICY, flags: 0, data: Buffer.concat([id, markOf(policy)]) };
}

/** From host to host, UDP to that port. */
function selector({ src, dst, port }: XfrmPolicyAdd): Buffer {
  const bytes = Buffer.alloc(SELECTOR.size);
  bytes.set(ipBytes(dst), SELECTOR.daddr);
  bytes.set(ipBytes(src), SELECTOR.saddr);
  bytes.writeUInt16BE(port, SELECTOR.dport);
  bytes.writeUInt16BE(0xffff, SELECTOR.dportMask);
  bytes.writeUInt16LE(familyNumber(dst), SELECTOR.family);
  const length = familyOf(dst) === 6 ? 128 : 32;
  bytes[SELECTOR.dlen] = length;
  bytes[SELECTOR.slen] = length;
  bytes[SELECTOR.proto] = IPPROTO_UDP;
  return bytes;
}

function markOf({ mark }: XfrmPolicyAdd): Buffer {
  const bytes = Buffer.alloc(8, 0xff);
  bytes.writeUInt32LE(mark, 0);
  return attribute(XFRMA_MARK, bytes);
}

/** xfrm_address_t holds either family. */
function address(ip: Ip): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.set(ipBytes(ip));
  return bytes;
}

export function dumpStates(): NetlinkRequest {
  return { type: XFRM_MSG_GETSA, flags: 0, data: Buffer.alloc(0) };
}

export function dumpPolicies(): NetlinkRequest {
  return { type: XFRM_MSG_GETPOLICY, flags: 0, data: Buffer.alloc(0) };
}

/** Undefined: not ESP. */
export function decodeState({ data }: NetlinkMessage): XfrmStateFact | undefined {
  if (data.length < STATE.size || data[STATE.proto] !== IPPROTO_ESP) return undefined;
  const family = data.readUInt16LE(STATE.family);
  return {
    src: addressAt(data, STATE.saddr, family),
    dst: addressAt(data, STATE.daddr, family),
    spi: data.readUInt32BE(STATE.spi),
    reqid: data.readUInt32LE(STATE.reqid),
  };
}

/** Undefined: not outward, or without a mark or a template, as ours have them. */
export function decodePolicy({ data }: NetlinkMessage): XfrmPolicyFact | undefined {
  if (data.length < POLICY.size || data[POLICY.direction] !== XFRM_POLICY_OUT) return undefined;
  const family = data.readUInt16LE(SELECTOR.family);
  let mark: number | undefined;
  let reqid: number | undefined;
  for (const { type, start, end } of attributesAt(data, POLICY.size, data.length)) {
    if (type === XFRMA_MARK && end - start >= 8) mark = data.readUInt32LE(start);
    if (type === XFRMA_TMPL && end - start >= TEMPLATE.size)
      reqid = data.readUInt32LE(start + TEMPLATE.reqid);
  }
  if (mark === undefined || reqid === undefined) return undefined;
  return {
    src: addressAt(data, SELECTOR.saddr, family),
    dst: addressAt(data, SELECTOR.daddr, family),
    port: data.readUInt16BE(SELECTOR.dport),
    mark,
    reqid,
  };
}

function addressAt(data: Buffer, at: number, family: number): Ip {
  return ipFromBytes(data.subarray(at, at + (family === AF_INET6 ? 16 : 4)));
}
