/**
 * Traffic control over rtnetlink (linux/pkt_sched.h, linux/pkt_cls.h): a token bucket as a link's root qdisc, and the redirection
 * of all that comes in by a link. Pure. By hand, because the `netlink` package's codecs end where the options
 * of a qdisc or filter begin.
 *
 * The redirection is the classifier u32 with a key that matches everything, because kernels are built without `matchall` more
 * often than without u32.
 */
import type { NetlinkMessage } from 'netlink/dist/structs.js';
import { attribute, fields, nested, uint32 } from './attribute.ts';
import { NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE } from './netlink.ts';
import type { NetlinkRequest } from './netlink.ts';

/** A token bucket (tc-tbf(8)): bytes per second, bytes at once, and bytes that wait at most. */
export interface TokenBucket {
  readonly rate: number;
  readonly burst: number;
  readonly limit: number;
}

/** linux/rtnetlink.h */
const RTM_NEWQDISC = 36;
const RTM_DELQDISC = 37;
const RTM_GETQDISC = 38;
const RTM_NEWTFILTER = 44;
const RTM_GETTFILTER = 46;
const TCA_KIND = 1;
const TCA_OPTIONS = 2;
/** linux/pkt_sched.h: the root, the qdisc for what comes in, and the side of it that filters stand on (also of `clsact`). */
const TC_H_ROOT = 0xffffffff;
const TC_H_INGRESS = 0xfffffff1;
const INGRESS_HANDLE = 0xffff0000;
const INGRESS_FILTERS = 0xfffffff2;
const TCA_TBF_PARMS = 1;
const TCA_TBF_RATE64 = 4;
const TCA_TBF_BURST = 6;
/** The bit of TC_LINKLAYER_ETHERNET: the kernel computes with the rate and needs no table of it (TCA_TBF_RTAB). */
const LINKLAYER_ETHERNET = 1;
/** PSCHED_TICKS2NS(): the kernel counts the bucket in ticks of 64 ns (PSCHED_SHIFT). */
const TICK_NS = 64;
const U32_MAX = 0xffffffff;

/** linux/pkt_cls.h, linux/tc_act/tc_mirred.h */
const TCA_U32_SEL = 5;
const TCA_U32_ACT = 7;
const TC_U32_TERMINAL = 1;
const TCA_ACT_KIND = 1;
const TCA_ACT_OPTIONS = 2;
const TCA_MIRRED_PARMS = 2;
const TC_ACT_STOLEN = 4;
const TCA_EGRESS_REDIR = 1;
/** Node 800 in the first hash table, 800: the names that the kernel would choose; said, so that the same request again is no second node. */
const FILTER_HANDLE = 0x80000800;
const FIRST_PRIORITY = 1;
const ETH_P_ALL = 0x0003;

/** `add`: EEXIST when the link has a root qdisc of somebody's making. `replace`: whatever is there. */
export function setBucket(index: number, bucket: TokenBucket, how: 'add' | 'replace'): NetlinkRequest {
  const large = bucket.rate > U32_MAX;
  const rate64 = Buffer.alloc(8);
  rate64.writeBigUInt64LE(BigInt(bucket.rate));
  const options = Buffer.concat([
    attribute(TCA_TBF_PARMS, bucketParameters(bucket)),
    attribute(TCA_TBF_BURST, uint32(bucket.burst)),
    ...(large ? [attribute(TCA_TBF_RATE64, rate64)] : []),
  ]);
  const data = Buffer.concat([
    header(index, 0, TC_H_ROOT, 0),
    attribute(TCA_KIND, text('tbf')),
    attribute(TCA_OPTIONS, options),
  ]);
  return { type: RTM_NEWQDISC, flags: NLM_F_CREATE | (how === 'add' ? NLM_F_EXCL : NLM_F_REPLACE), data };
}

/** struct tc_tbf_qopt: two struct tc_ratespec, of which the second (peakrate) is empty, then limit, buffer and mtu. */
function bucketParameters({ rate, burst, limit }: TokenBucket): Buffer {
  const parameters = Buffer.alloc(36);
  parameters.writeUInt8(LINKLAYER_ETHERNET, 1);
  parameters.writeUInt32LE(Math.min(rate, U32_MAX), 8);
  parameters.writeUInt32LE(limit, 24);
  parameters.writeUInt32LE(Math.min(Math.trunc(ticksOf(burst, rate)), U32_MAX), 28);
  return parameters;
}

function ticksOf(bytes: number, rate: number): number {
  return ((bytes / rate) * 1e9) / TICK_NS;
}

export function deleteBucket(index: number): NetlinkRequest {
  return { type: RTM_DELQDISC, flags: 0, data: header(index, 0, TC_H_ROOT, 0) };
}

/** What redirections are attached to. EEXIST when it is there. */
export function addIngress(index: number): NetlinkRequest {
  return { type: RTM_NEWQDISC, flags: NLM_F_CREATE | NLM_F_EXCL, data: ingress(index) };
}

/** With all that is attached to it. */
export function deleteIngress(index: number): NetlinkRequest {
  return { type: RTM_DELQDISC, flags: 0, data: ingress(index) };
}

function ingress(index: number): Buffer {
  return Buffer.concat([
    header(index, INGRESS_HANDLE, TC_H_INGRESS, 0),
    attribute(TCA_KIND, text('ingress')),
  ]);
}

/** All that comes in by `index` goes out by `to`; an IFB hands it back from there as if it had just come in. */
export function redirectIngress(index: number, to: number): NetlinkRequest {
  const mirred = Buffer.alloc(28);
  mirred.writeInt32LE(TC_ACT_STOLEN, 8);
  mirred.writeInt32LE(TCA_EGRESS_REDIR, 20);
  mirred.writeUInt32LE(to, 24);
  const action = Buffer.concat([
    attribute(TCA_ACT_KIND, text('mirred')),
    nested(TCA_ACT_OPTIONS, attribute(TCA_MIRRED_PARMS, mirred)),
  ]);
  // struct tc_u32_sel with one struct tc_u32_key whose mask is zero.
  const selector = Buffer.alloc(32);
  selector.writeUInt8(TC_U32_TERMINAL, 0);
  selector.writeUInt8(1, 2);
  const options = Buffer.concat([
    attribute(TCA_U32_ACT, attribute(1, action)),
    attribute(TCA_U32_SEL, selector),
  ]);
  // tcm_info: the priority, and the protocol in network byte order.
  const info = FIRST_PRIORITY * 0x10000 + (ETH_P_ALL << 8);
  const data = Buffer.concat([
    header(index, FILTER_HANDLE, INGRESS_FILTERS, info),
    attribute(TCA_KIND, text('u32')),
    attribute(TCA_OPTIONS, options),
  ]);
  return { type: RTM_NEWTFILTER, flags: NLM_F_CREATE, data };
}

/** Of all links. */
export function dumpQdiscs(): NetlinkRequest {
  return { type: RTM_GETQDISC, flags: 0, data: header(0, 0, 0, 0) };
}

/** The filters on what comes in by one link. */
export function dumpIngressFilters(index: number): NetlinkRequest {
  return { type: RTM_GETTFILTER, flags: 0, data: header(index, 0, INGRESS_FILTERS, 0) };
}

/** struct tcmsg. */
function header(index: number, handle: number, parent: number, info: number): Buffer {
  const bytes = Buffer.alloc(20);
  bytes.writeInt32LE(index, 4);
  bytes.writeUInt32LE(handle, 8);
  bytes.writeUInt32LE(parent, 12);
  bytes.writeUInt32LE(info, 16);
  return bytes;
}

function text(value: string): Buffer {
  return Buffer.from(`${value}\0`);
}

const HEADER_BYTES = 20;

/** Undefined: another kind of qdisc, or not a root. The burst is what the kernel's ticks say, which round it down a little. */
export function decodeBucket({
  data,
}: NetlinkMessage): (TokenBucket & { readonly index: number }) | undefined {
  if (data.readUInt32LE(12) !== TC_H_ROOT) return undefined;
  const parts = fields(data.subarray(HEADER_BYTES));
  if (textOf(parts.get(TCA_KIND)) !== 'tbf') return undefined;
  const options = fields(parts.get(TCA_OPTIONS));
  const parameters = options.get(TCA_TBF_PARMS);
  if (parameters === undefined) return undefined;
  const rate64 = options.get(TCA_TBF_RATE64);
  const rate = rate64 === undefined ? parameters.readUInt32LE(8) : Number(rate64.readBigUInt64LE());
  const burst = Math.round((parameters.readUInt32LE(28) * TICK_NS * rate) / 1e9);
  return { index: data.readInt32LE(4), rate, burst, limit: parameters.readUInt32LE(24) };
}

/** The index of the link that a filter sends everything to. */
export function decodeRedirect({ data }: NetlinkMessage): number | undefined {
  if (data.readUInt32LE(8) !== FILTER_HANDLE) return undefined;
  const parts = fields(data.subarray(HEADER_BYTES));
  const action = fields(fields(fields(parts.get(TCA_OPTIONS)).get(TCA_U32_ACT)).get(1));
  if (textOf(action.get(TCA_ACT_KIND)) !== 'mirred') return undefined;
  const mirred = fields(action.get(TCA_ACT_OPTIONS)).get(TCA_MIRRED_PARMS);
  return mirred?.readInt32LE(20) === TCA_EGRESS_REDIR ? mirred.readUInt32LE(24) : undefined;
}

/** Whether a dumped bucket is the one that was set: exactly, but for the ticks that its burst is kept in. */
export function sameBucket(found: TokenBucket | undefined, wanted: TokenBucket): boolean {
  if (found === undefined || found.rate !== wanted.rate || found.limit !== wanted.limit) return false;
  const tick = (wanted.rate * TICK_NS) / 1e9;
  // What the kernel computes with (psched_ratecfg) is good to 1 in 2^16 or better.
  return Math.abs(found.burst - wanted.burst) <= Math.max(2, 2 * tick, wanted.burst / 10_000);
}

function textOf(value: Buffer | undefined): string {
  return value?.toString('latin1').replace(/\0$/, '') ?? '';
}
