/** Addresses that a DHCP server on the wire gives: what the network model wants of whoever asks it. */
import type { Ip } from '../address/ip.ts';
import type { Mac } from '../address/mac.ts';
import type { Prefix } from '../address/prefix.ts';
import type { EndpointId, EndpointSpec, NetworkId, StaticRoute } from './model.ts';

/** What came with an address. */
export interface Leased {
  readonly address: Prefix;
  readonly gateway?: Ip;
  readonly routes: readonly StaticRoute[];
  /** Bytes. */
  readonly mtu?: number;
  readonly dns: readonly Ip[];
  readonly domain?: string;
}

export interface Obtained {
  readonly leased: Leased;
  /** The MAC to have with it: where nobody chose one, that of before. */
  readonly mac: Mac;
}

/** How a driver wants an endpoint's address leased. */
export interface LeaseRequest {
  /** The link that the server is asked by. */
  readonly wire: string;
  /** Option 12, where the user gave one or the endpoint's name is known. */
  readonly hostName?: string;
  /** Option 61, where the user gave one: its type and its bytes, in hex. */
  readonly clientId?: string;
  /** The endpoint is known by the same MAC or client identifier when its container is started again: its lease waits for it a while. */
  readonly returns: boolean;
}

export interface Leases {
  /**
   * Soon, or not at all. The lease is durable before this resolves.
   * @throws CnmError `lease-unanswered`, `lease-refused`, `kernel` when the wire is not there
   */
  obtain(endpoint: EndpointSpec & { readonly mac: Mac }, request: LeaseRequest): Promise<Obtained>;
  /** The endpoint does not come to be, or is gone. Of one that has none: nothing. */
  giveBack(network: NetworkId, endpoint: EndpointId): Promise<void>;
  /** All that a network has, those that wait as well: its wire is about to go. */
  giveBackAll(network: NetworkId): Promise<void>;
}
