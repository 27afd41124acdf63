/** The forwarding table of a VXLAN link, over rtnetlink (neighbour messages of AF_BRIDGE, `bridge fdb … self`). Pure. */
import type { NetlinkMessage } from 'netlink/dist/structs.js';
import { MessageType } from 'netlink/dist/rt/structs.js';
import { ipBytes, ipFromBytes } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import { mac, macBytes, macFromBytes } from '../address/mac.ts';
import type { Mac } from '../address/mac.ts';
import { attributes } from './decode.ts';
import { NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE } from './netlink.ts';
import type { NetlinkRequest } from './netlink.ts';

/** Stands for every destination that has no entry of its own (drivers/net/vxlan/vxlan_core.c, `all_zeros_mac`). */
export const ANY_MAC: Mac = mac('00:00:00:00:00:00');

/** linux/neighbour.h, linux/socket.h */
const AF_BRIDGE = 7;
const NTF_SELF = 0x02;
const NUD_NOARP = 0x40;
const NUD_PERMANENT = 0x80;
/** What ip(8) says for `permanent`, the default: it never ages. */
const STATE = NUD_NOARP | NUD_PERMANENT;
const NDA_DST = 1;
const NDA_LLADDR = 2;
const NDMSG_LENGTH = 12;
const INDEX_AT = 4;
const STATE_AT = 8;
const FLAGS_AT = 10;

/** The one of any MAC joins those that are there; that of a known one takes its place: vxlan_fdb_update_existing(). */
export function addForwarding(index: number, address: Mac, dst: Ip): NetlinkRequest {
  const how = address === ANY_MAC ? NLM_F_APPEND : NLM_F_REPLACE;
  return {
    type: MessageType.NEWNEIGH,
    flags: NLM_F_CREATE | how,
    data: message(index, STATE, address, dst),
  };
}

export function deleteForwarding(index: number, address: Mac, dst: Ip): NetlinkRequest {
  return { type: MessageType.DELNEIGH, flags: 0, data: message(index, STATE, address, dst) };
}

/** Of all links: the kernel would take an index for that of a bridge's port (rtnl_fdb_dump()). */
export function dumpForwarding(): NetlinkRequest {
  return { type: MessageType.GETNEIGH, flags: 0, data: header(0, 0, 0) };
}

export interface KernelForwarding {
  readonly index: number;
  readonly mac: Mac;
  readonly dst: Ip;
}

/** Undefined: learned, or no entry of a tunnel's. */
export function decodeForwarding({ data }: NetlinkMessage): KernelForwarding | undefined {
  if ((data.readUInt16LE(STATE_AT) & NUD_PERMANENT) === 0) return undefined;
  let address: Mac | undefined;
  let dst: Ip | undefined;
  for (const { type, start, end } of attributes(data, NDMSG_LENGTH, data.length)) {
    if (type === NDA_LLADDR && end - start === 6) address = macFromBytes(data.subarray(start, end));
    if (type === NDA_DST) dst = ipFromBytes(data.subarray(start, end));
  }
  if (address === undefined || dst === undefined) return undefined;
  return { index: data.readInt32LE(INDEX_AT), mac: address, dst };
}

function message(index: number, state: number, address: Mac, dst: Ip): Buffer {
  const lladdr = attribute(NDA_LLADDR, macBytes(address));
  return Buffer.concat([header(index, state, NTF_SELF), lladdr, attribute(NDA_DST, ipBytes(dst))]);
}

/** struct ndmsg */
function header(index: number, state: number, flags: number): Buffer {
  const out = Buffer.alloc(NDMSG_LENGTH);
  out[0] = AF_BRIDGE;
  out.writeInt32LE(index, INDEX_AT);
  out.writeUInt16LE(state, STATE_AT);
  out[FLAGS_AT] = flags;
  return out;
}

function attribute(type: number, payload: Uint8Array): Buffer {
  const out = Buffer.alloc(4 + ((payload.length + 3) & ~3));
  out.writeUInt16LE(4 + payload.length, 0);
  out.writeUInt16LE(type, 2);
  out.set(payload, 4);
  return out;
}
