/**
 * Neighbour messages of rtnetlink: the forwarding tables of VXLAN links (`bridge fdb … self`) and of bridges (`bridge fdb … master`), and
 * permanent neighbours (`ip neigh`). Pure.
 */
import type { NetlinkMessage } from 'netlink/dist/structs.js';
import { MessageType } from 'netlink/dist/rt/structs.js';
import { ipBytes, ipFromBytes } from '../address/ip.ts';
import type { Ip } from '../address/ip.ts';
import { macBytes, macFromBytes } from '../address/mac.ts';
import type { Mac } from '../address/mac.ts';
import { attribute, attributesAt } from './attribute.ts';
import { ANY_MAC } from './entry.ts';
import { NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE } from './netlink.ts';
import type { NetlinkRequest } from './netlink.ts';
import { AF_BRIDGE, AF_INET, AF_INET6, familyNumber } from './socket-numbers.ts';

/** linux/neighbour.h */
const NTF_SELF = 0x02;
const NTF_MASTER = 0x04;
const NUD_NOARP = 0x40;
const NUD_PERMANENT = 0x80;
/** What ip(8) says for `permanent`, the default: it never ages. */
const STATE = NUD_NOARP | NUD_PERMANENT;
const NDA_DST = 1;
const NDA_LLADDR = 2;
const NDA_MASTER = 9;
const NDMSG_LENGTH = 12;
const INDEX_AT = 4;
const STATE_AT = 8;
const FLAGS_AT = 10;

/** The one of any MAC joins those that are there; that of a known one takes its place: vxlan_fdb_update_existing(). */
export function addForwarding(index: number, address: Mac, dst: Ip): NetlinkRequest {
  const how = address === ANY_MAC ? NLM_F_APPEND : NLM_F_REPLACE;
  return request(MessageType.NEWNEIGH, NLM_F_CREATE | how, tunnel(index), [
    lladdr(address),
    destination(dst),
  ]);
}

export function deleteForwarding(index: number, address: Mac, dst: Ip): NetlinkRequest {
  return request(MessageType.DELNEIGH, 0, tunnel(index), [lladdr(address), destination(dst)]);
}

/** Static and not the bridge's own: NUD_NOARP alone (fdb_add_entry()). */
export function addPortEntry(index: number, address: Mac): NetlinkRequest {
  return request(MessageType.NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, port(index), [lladdr(address)]);
}

/** Only while it is at this port: fdb_delete_by_addr_and_port(). */
export function deletePortEntry(index: number, address: Mac): NetlinkRequest {
  return request(MessageType.DELNEIGH, 0, port(index), [lladdr(address)]);
}

export function addNeighbour(index: number, address: Ip, to: Mac): NetlinkRequest {
  const attributes = [destination(address), lladdr(to)];
  return request(
    MessageType.NEWNEIGH,
    NLM_F_CREATE | NLM_F_REPLACE,
    header(familyNumber(address), index, NUD_PERMANENT, 0),
    attributes,
  );
}

export function deleteNeighbour(index: number, address: Ip): NetlinkRequest {
  return request(MessageType.DELNEIGH, 0, header(familyNumber(address), index, 0, 0), [destination(address)]);
}

/** Of all links: the kernel would take an index for that of a bridge's port (rtnl_fdb_dump()). */
export function dumpForwarding(): NetlinkRequest {
  return { type: MessageType.GETNEIGH, flags: 0, data: header(AF_BRIDGE, 0, 0, 0) };
}

export function dumpNeighbours(family: 4 | 6): NetlinkRequest {
  const number = family === 6 ? AF_INET6 : AF_INET;
  return { type: MessageType.GETNEIGH, flags: 0, data: header(number, 0, 0, 0) };
}

export type KernelEntry =
  | { readonly kind: 'tunnel'; readonly index: number; readonly mac: Mac; readonly dst: Ip }
  | { readonly kind: 'port'; readonly index: number; readonly mac: Mac }
  | { readonly kind: 'neighbour'; readonly index: number; readonly mac: Mac; readonly address: Ip };

/** Undefined: learned, or nothing that anybody set. */
export function decodeEntry({ data }: NetlinkMessage): KernelEntry | undefined {
  let address: Mac | undefined;
  let dst: Ip | undefined;
  let ofBridge = false;
  for (const { type, start, end } of attributesAt(data, NDMSG_LENGTH, data.length)) {
    if (type === NDA_LLADDR && end - start === 6) address = macFromBytes(data.subarray(start, end));
    if (type === NDA_DST) dst = ipFromBytes(data.subarray(start, end));
    if (type === NDA_MASTER) ofBridge = true;
  }
  if (address === undefined) return undefined;
  const state = data.readUInt16LE(STATE_AT);
  const index = data.readInt32LE(INDEX_AT);
  if (data[0] === AF_BRIDGE && ofBridge) {
    return state === NUD_NOARP ? { kind: 'port', index, mac: address } : undefined;
  }
  if ((state & NUD_PERMANENT) === 0 || dst === undefined) return undefined;
  if (data[0] === AF_BRIDGE) return { kind: 'tunnel', index, mac: address, dst };
  return { kind: 'neighbour', index, mac: address, address: dst };
}

function tunnel(index: number): Buffer {
  return header(AF_BRIDGE, index, STATE, NTF_SELF);
}

function port(index: number): Buffer {
  return header(AF_BRIDGE, index, NUD_NOARP, NTF_MASTER);
}

function lladdr(address: Mac): Buffer {
  return attribute(NDA_LLADDR, macBytes(address));
}

function destination(address: Ip): Buffer {
  return attribute(NDA_DST, ipBytes(address));
}

function request(type: number, flags: number, head: Buffer, attributes: readonly Buffer[]): NetlinkRequest {
  return { type, flags, data: Buffer.concat([head, ...attributes]) };
}

/** struct ndmsg */
function header(family: number, index: number, state: number, flags: number): Buffer {
  const out = Buffer.alloc(NDMSG_LENGTH);
  out[0] = family;
  out.writeInt32LE(index, INDEX_AT);
  out.writeUInt16LE(state, STATE_AT);
  out[FLAGS_AT] = flags;
  return out;
}
