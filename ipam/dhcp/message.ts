/**
 * DHCP messages as bytes (RFC 2131 section 2, RFC 2132). What comes in is a stranger's: whatever is not a whole message is none. Pure.
 */
import { ip, ipBytes, ipFromBytes, type Ip } from '../../address/ip.ts';
import { macBytes, macFromBytes, type Mac } from '../../address/mac.ts';

export const SERVER_PORT = 67;
export const CLIENT_PORT = 68;
export const UNSPECIFIED = ip('0.0.0.0');
export const BROADCAST = ip('255.255.255.255');

export type Option = number;

/** RFC 2132, and RFC 3442 for the last. */
export const OPTION = {
  subnetMask: 1,
  router: 3,
  dnsServers: 6,
  hostName: 12,
  domainName: 15,
  mtu: 26,
  requestedAddress: 50,
  leaseTime: 51,
  overload: 52,
  messageType: 53,
  serverId: 54,
  parameters: 55,
  message: 56,
  maximumSize: 57,
  renewalTime: 58,
  rebindingTime: 59,
  clientId: 61,
  classlessRoutes: 121,
} as const;

export const TYPE = { discover: 1, offer: 2, request: 3, decline: 4, ack: 5, nak: 6, release: 7 } as const;

export interface DhcpMessage {
  /** 1: of a client; 2: of a server. */
  readonly op: 1 | 2;
  readonly xid: number;
  /** Seconds since the client began. */
  readonly secs: number;
  /** The client cannot receive what is sent to an address that it has not yet. */
  readonly broadcast: boolean;
  readonly ciaddr: Ip;
  readonly yiaddr: Ip;
  readonly siaddr: Ip;
  readonly giaddr: Ip;
  readonly chaddr: Mac;
  readonly options: ReadonlyMap<Option, Uint8Array>;
}

/** Where the fields stand; `options` behind the magic cookie. */
const AT = {
  xid: 4,
  secs: 8,
  flags: 10,
  ciaddr: 12,
  yiaddr: 16,
  siaddr: 20,
  giaddr: 24,
  chaddr: 28,
} as const;
const SNAME = { start: 44, end: 108 } as const;
const FILE = { start: 108, end: 236 } as const;
const COOKIE_AT = 236;
const COOKIE = 0x63825363;
const OPTIONS_AT = 240;
/** RFC 1542 section 2.1: relays may drop what is shorter. */
const LEAST = 300;
const PAD = 0;
const END = 255;
const BROADCAST_FLAG = 0x8000;
const ETHERNET = { type: 1, length: 6 } as const;

export function encodeMessage(message: DhcpMessage): Buffer {
  const head = Buffer.alloc(OPTIONS_AT);
  head.set([message.op, ETHERNET.type, ETHERNET.length, 0]);
  head.writeUInt32BE(message.xid, AT.xid);
  head.writeUInt16BE(Math.min(message.secs, 0xffff), AT.secs);
  head.writeUInt16BE(message.broadcast ? BROADCAST_FLAG : 0, AT.flags);
  for (const field of ['ciaddr', 'yiaddr', 'siaddr', 'giaddr'] as const)
    head.set(ipBytes(message[field]), AT[field]);
  head.set(macBytes(message.chaddr), AT.chaddr);
  head.writeUInt32BE(COOKIE, COOKIE_AT);
  const options = [...message.options].flatMap(([code, value]) => encodeOption(code, value));
  const whole = Buffer.concat([head, ...options, Buffer.of(END)]);
  return Buffer.concat([whole, Buffer.alloc(Math.max(0, LEAST - whole.length))]);
}

/** RFC 3396: what is longer than an option can be is several of the same code. */
function encodeOption(code: Option, value: Uint8Array): readonly Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let at = 0; at === 0 || at < value.length; at += 255) {
    const part = value.subarray(at, at + 255);
    parts.push(Buffer.of(code, part.length), part);
  }
  return parts;
}

/** Undefined for what is no DHCP message over Ethernet. */
export function decodeMessage(payload: Uint8Array): DhcpMessage | undefined {
  const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength);
  if (bytes.length < OPTIONS_AT || bytes.readUInt32BE(COOKIE_AT) !== COOKIE) return undefined;
  const op = bytes.readUInt8(0);
  if (
    (op !== 1 && op !== 2) ||
    bytes.readUInt8(1) !== ETHERNET.type ||
    bytes.readUInt8(2) !== ETHERNET.length
  )
    return undefined;
  const options = decodeOptions(bytes);
  if (options === undefined) return undefined;
  const address = (at: number): Ip => ipFromBytes(bytes.subarray(at, at + 4));
  return {
    op,
    xid: bytes.readUInt32BE(AT.xid),
    secs: bytes.readUInt16BE(AT.secs),
    broadcast: (bytes.readUInt16BE(AT.flags) & BROADCAST_FLAG) !== 0,
    ciaddr: address(AT.ciaddr),
    yiaddr: address(AT.yiaddr),
    siaddr: address(AT.siaddr),
    giaddr: address(AT.giaddr),
    chaddr: macFromBytes(bytes.subarray(AT.chaddr, AT.chaddr + ETHERNET.length)),
    options,
  };
}

/** In the order of RFC 3396 section 5: those of their own field, then of `file`, then of `sname`, where option 52 says so. */
function decodeOptions(bytes: Buffer): ReadonlyMap<Option, Uint8Array> | undefined {
  const found = new Map<Option, Buffer>();
  if (!readOptions(bytes.subarray(OPTIONS_AT), found)) return undefined;
  const overload = found.get(OPTION.overload)?.[0] ?? 0;
  if ((overload & 1) !== 0 && !readOptions(bytes.subarray(FILE.start, FILE.end), found)) return undefined;
  if ((overload & 2) !== 0 && !readOptions(bytes.subarray(SNAME.start, SNAME.end), found)) return undefined;
  return found;
}

/** False: an option is longer than what is left. An end that is missing is nobody's harm. */
function readOptions(field: Buffer, into: Map<Option, Buffer>): boolean {
  for (let at = 0; at < field.length;) {
    const code = field[at] ?? END;
    if (code === END) return true;
    if (code === PAD) {
      at += 1;
      continue;
    }
    const length = field[at + 1];
    if (length === undefined || at + 2 + length > field.length) return false;
    const value = field.subarray(at + 2, at + 2 + length);
    into.set(code, Buffer.concat([into.get(code) ?? Buffer.alloc(0), value]));
    at += 2 + length;
  }
  return true;
}
