/** What a client says, by table 5 of RFC 2131. Pure. */
import { createHash } from 'node:crypto';
import { ipBytes, type Ip } from '../../address/ip.ts';
import { type Mac, macBytes } from '../../address/mac.ts';
import { type DhcpMessage, type Option, OPTION, TYPE, UNSPECIFIED } from './message.ts';
import { u16 } from './values.ts';

/** As whom a lease is held. */
export interface Identity {
  readonly mac: Mac;
  /** Option 61, type and bytes, in hex. */
  readonly clientId: string;
  /** Option 12. */
  readonly hostName?: string;
}

export type Want =
  | { readonly say: 'discover'; readonly address?: Ip }
  | { readonly say: 'request'; readonly address: Ip; readonly server: Ip }
  /** Of one that was had before (INIT-REBOOT). */
  | { readonly say: 'reboot'; readonly address: Ip }
  /** Of one that is in use. */
  | { readonly say: 'renew'; readonly address: Ip }
  | { readonly say: 'release'; readonly address: Ip; readonly server: Ip };

/** Option 121 before 3 (RFC 3442). */
const PARAMETERS = [
  OPTION.subnetMask,
  OPTION.classlessRoutes,
  OPTION.router,
  OPTION.dnsServers,
  OPTION.domainName,
  OPTION.mtu,
  OPTION.leaseTime,
  OPTION.renewalTime,
  OPTION.rebindingTime,
];
/** A frame's: what is larger would come in fragments, which are not put together here. */
const LARGEST = 1500;

export function messageFor(
  { mac, clientId, hostName }: Identity,
  want: Want,
  { xid, secs }: { readonly xid: number; readonly secs: number },
): DhcpMessage {
  const isInUse = want.say === 'renew' || want.say === 'release';
  const options = new Map<Option, Uint8Array>([
    [OPTION.messageType, Buffer.of(TYPE[typeOf(want)])],
    [OPTION.clientId, Buffer.from(clientId, 'hex')],
  ]);
  if (!isInUse && want.address !== undefined) options.set(OPTION.requestedAddress, ipBytes(want.address));
  if ('server' in want) options.set(OPTION.serverId, ipBytes(want.server));
  if (want.say !== 'release') {
    options.set(OPTION.maximumSize, u16(LARGEST));
    if (hostName !== undefined) options.set(OPTION.hostName, Buffer.from(hostName, 'latin1'));
    options.set(OPTION.parameters, Buffer.from(PARAMETERS));
  }
  return {
    op: 1,
    xid,
    secs: isInUse ? 0 : secs,
    // Until it has an address nobody answers ARP for it (section 4.1).
    broadcast: !isInUse,
    ciaddr: isInUse ? want.address : UNSPECIFIED,
    yiaddr: UNSPECIFIED,
    siaddr: UNSPECIFIED,
    giaddr: UNSPECIFIED,
    chaddr: mac,
    options,
  };
}

function typeOf({ say }: Want): keyof typeof TYPE {
  return say === 'reboot' || say === 'renew' ? 'request' : say;
}

/** RFC 4361 section 6.1: type 255, an IAID, and a DUID, here that of the MAC (DUID-LL, RFC 8415 section 11.4). The same for the same MAC. */
export function clientIdOf(mac: Mac): string {
  const iaid = createHash('sha256').update(mac).digest().subarray(0, 4);
  return Buffer.concat([Buffer.of(255), iaid, Buffer.of(0, 3, 0, 1), macBytes(mac)]).toString('hex');
}
