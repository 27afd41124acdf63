/** The nf_tables messages that carry elements: a batch is one transaction (linux/netfilter/nfnetlink.h). */
import { getString } from 'netlink/dist/structs.js';
import { attribute, attributes, fields, nested } from './attribute.ts';
import { decodeCounter, decodeElement, encodeElement } from './element.ts';
import type { ElementText } from './element.ts';
import type { PacketCount } from './kernel.ts';
import { NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL } from './netlink.ts';
import type { NetlinkRequest } from './netlink.ts';
import { SETS, TABLE } from './sets.ts';
import type { NftSetName } from './step.ts';

const NFNL_MSG_BATCH_BEGIN = 0x10;
const NFNL_MSG_BATCH_END = 0x11;
const NFNL_SUBSYS_NFTABLES = 10;
const NFT_MSG_GETCHAIN = 4;
const NFT_MSG_GETRULE = 7;
const NFT_MSG_GETSET = 10;
const NFT_MSG_NEWSETELEM = 12;
const NFT_MSG_GETSETELEM = 13;
const NFT_MSG_DELSETELEM = 14;
const NFT_MSG_GETGEN = 16;
export const NFPROTO_INET = 1;
export const NFPROTO_IPV4 = 2;
export const NFPROTO_IPV6 = 10;

const NFTA_TABLE = 1;
const NFTA_CHAIN_NAME = 3;
const NFTA_SET_NAME = 2;
const NFTA_SET_KEY_LEN = 5;
const NFTA_SET_ELEM_LIST_SET = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS = 3;
/** An attribute's length has 16 bits; what one element takes at most is far below the rest. */
const LIST_BYTES = 60_000;

/** Elements of one set that go to the kernel, or from it, in one message. */
export interface ElementChange {
  readonly remove: boolean;
  readonly set: NftSetName;
  readonly elements: readonly EncodedElement[];
}

export interface EncodedElement extends ElementText {
  readonly bytes: Buffer;
}

/**
 * The requests of one transaction: begin, the changes in order, end. The change of request i is `changes[i - 1]`.
 * @param exclusive An element that is there already fails the transaction with EEXIST; else it is success.
 * @throws KernelError EINVAL for text that is not of the set's type.
 */
export function batch(changes: readonly ElementChange[], exclusive = false): readonly NetlinkRequest[] {
  const add = NLM_F_CREATE | (exclusive ? NLM_F_EXCL : 0);
  return [
    { type: NFNL_MSG_BATCH_BEGIN, flags: 0, data: nfgenmsg(0, NFNL_SUBSYS_NFTABLES) },
    ...changes.map((change, i) => ({
      type: message(change.remove ? NFT_MSG_DELSETELEM : NFT_MSG_NEWSETELEM),
      // The answers come when the whole batch is done: to know the last one's is to know them all.
      flags: (change.remove ? 0 : add) | (i === changes.length - 1 ? NLM_F_ACK : 0),
      data: elementList(change),
    })),
    { type: NFNL_MSG_BATCH_END, flags: 0, data: nfgenmsg(0, NFNL_SUBSYS_NFTABLES) },
  ];
}

/** As few messages as the 16 bits of an attribute's length allow, in order of first appearance of the sets. */
export function changesOf(
  remove: boolean,
  steps: readonly (ElementText & { set: NftSetName })[],
): ElementChange[] {
  const changes: { set: NftSetName; elements: EncodedElement[]; length: number }[] = [];
  for (const { set, ...element } of steps) {
    const encoded = { ...element, bytes: encodeElement(SETS[set], element) };
    const { length } = encoded.bytes;
    const open = changes.findLast((change) => change.set === set);
    if (open !== undefined && open.length + length <= LIST_BYTES) {
      open.elements.push(encoded);
      open.length += length;
    } else {
      changes.push({ set, elements: [encoded], length });
    }
  }
  return changes.map(({ set, elements }) => ({ remove, set, elements }));
}

/** Ask for all elements of a set: a dump. */
export function elementsRequest(set: NftSetName): NetlinkRequest {
  return request(NFT_MSG_GETSETELEM, NFPROTO_INET, [
    text(NFTA_TABLE, TABLE),
    text(NFTA_SET_ELEM_LIST_SET, set),
  ]);
}

export function decodeElements(set: NftSetName, data: Uint8Array): readonly ElementText[] {
  return elementsIn(data).map((one) => decodeElement(SETS[set], one));
}

/** The same with what each has counted. */
export function decodeCounted(
  set: NftSetName,
  data: Uint8Array,
): readonly (ElementText & { readonly count: PacketCount })[] {
  return elementsIn(data).map((one) => ({ ...decodeElement(SETS[set], one), count: decodeCounter(one) }));
}

function elementsIn(data: Uint8Array): readonly Buffer[] {
  return [...attributes(data.subarray(4))]
    .filter(({ type }) => type === NFTA_SET_ELEM_LIST_ELEMENTS)
    .flatMap((list) => [...attributes(list.data)].map((one) => one.data));
}

/** Ask for the sets of our table: a dump, ENOENT when there is no such table. */
export function setsRequest(): NetlinkRequest {
  return request(NFT_MSG_GETSET, NFPROTO_INET, [text(NFTA_TABLE, TABLE)]);
}

/** A set's name and the bytes of its key. */
export function decodeSet(data: Uint8Array): { readonly name: string; readonly keyLength: number } {
  const found = fields(data.subarray(4));
  const name = found.get(NFTA_SET_NAME);
  return {
    name: name === undefined ? '' : getString(name),
    keyLength: found.get(NFTA_SET_KEY_LEN)?.readUInt32BE() ?? 0,
  };
}

/** Ask for the rules of our table of one family (NFPROTO_…): a dump, empty when there is no such table. */
export function rulesRequest(family: number): NetlinkRequest {
  return request(NFT_MSG_GETRULE, family, [text(NFTA_TABLE, TABLE)]);
}

/** Ask for the generation of the ruleset: answered by its number. */
export function generationRequest(): NetlinkRequest {
  return request(NFT_MSG_GETGEN, 0, []);
}

/** Ask for one chain: answered by it, or ENOENT. */
export function chainRequest(family: number, table: string, chain: string): NetlinkRequest {
  return {
    ...request(NFT_MSG_GETCHAIN, family, [text(NFTA_TABLE, table), text(NFTA_CHAIN_NAME, chain)]),
    flags: NLM_F_ACK,
  };
}

function request(type: number, family: number, attrs: readonly Buffer[]): NetlinkRequest {
  return { type: message(type), flags: 0, data: Buffer.concat([nfgenmsg(family, 0), ...attrs]) };
}

function elementList({ set, elements }: ElementChange): Buffer {
  return Buffer.concat([
    nfgenmsg(NFPROTO_INET, 0),
    text(NFTA_TABLE, TABLE),
    text(NFTA_SET_ELEM_LIST_SET, set),
    nested(NFTA_SET_ELEM_LIST_ELEMENTS, ...elements.map(({ bytes }) => bytes)),
  ]);
}

function message(type: number): number {
  return (NFNL_SUBSYS_NFTABLES << 8) | type;
}

/** struct nfgenmsg: family, version 0, resource id in network order. */
function nfgenmsg(family: number, resource: number): Buffer {
  return Buffer.of(family, 0, resource >> 8, resource & 0xff);
}

function text(type: number, value: string): Buffer {
  return attribute(type, Buffer.from(`${value}\0`));
}
