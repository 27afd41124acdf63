/**
 * The client of RFC 2131 section 4.4 as a state machine: something happens at a moment, and out come the next state and what to do. It
 * knows no clock, no chance and no socket. Pure.
 *
 * Two things are not as in the RFC, because a container waits for its address, and on one segment: what is not answered is said again
 * after 1, 2, 4, … s instead of 4, 8, 16, … (section 4.1; still up to 64), and a renewal that is not answered is said again also where
 * less than a minute is left (section 4.4.5), or a lease of two minutes would have one try.
 */
import { type Ip } from '../../address/ip.ts';
import type { Mac } from '../../address/mac.ts';
import { addressOf } from '../../address/prefix.ts';
import { isUsable, type Lease, leaseOf, serverOf } from './lease.ts';
import { type DhcpMessage, OPTION, TYPE, UNSPECIFIED } from './message.ts';
import { numberOf } from './values.ts';
import { messageFor, type Identity, type Want } from './words.ts';

export type Phase = 'selecting' | 'requesting' | 'rebooting' | 'bound' | 'renewing' | 'rebinding';

export interface Client {
  readonly phase: Phase;
  readonly identity: Identity;
  readonly xid: number;
  /** When this exchange began, what its last DHCPDISCOVER said of that, and when its last message was sent: a lease counts from then. */
  readonly since: number;
  readonly secs: number;
  readonly sentAt: number;
  /** Messages sent without an answer. */
  readonly tries: number;
  /** Asleep until then, or until something is heard. */
  readonly wakeAt: number;
  /** What it has, or had: what it asks for again. */
  readonly lease?: Lease;
  /** What it was offered, and by whom. */
  readonly offer?: { readonly address: Ip; readonly server: Ip };
}

/** `roll`: 32 random bits. */
export interface Moment {
  readonly now: number;
  readonly roll: number;
}

export type Action =
  | {
      readonly do: 'send';
      readonly message: DhcpMessage;
      readonly to?: { readonly server: Ip; readonly mac: Mac };
    }
  | { readonly do: 'bound'; readonly lease: Lease }
  /** The address may not be used any more: the server said so, or the lease is over. */
  | { readonly do: 'lost'; readonly why: 'refused' | 'expired' }
  /** The server said no to a request. */
  | { readonly do: 'refused'; readonly server?: Ip };

export interface Outcome {
  readonly client: Client;
  readonly actions: readonly Action[];
}

const SECOND = 1000;
const LONGEST_PAUSE = 64;
/** Requests without an answer, after which the offer is forgotten. */
const REQUESTS = 4;
/** Of somebody who was here before: a server that knows nothing of him stays silent (section 4.3.2). */
const REBOOTS = 2;
const MINUTE = 60 * SECOND;

/** INIT-REBOOT with a lease of before, else INIT. */
export function begin(identity: Identity, moment: Moment, lease?: Lease): Outcome {
  const isGood = lease !== undefined && lease.expiresAt > moment.now;
  return enter(identity, isGood ? 'rebooting' : 'selecting', moment, lease);
}

/** The address has been in use all the time: only its renewal goes on. */
export function resume(identity: Identity, { now, roll }: Moment, lease: Lease): Client {
  const common = { identity, xid: roll >>> 0, since: now, secs: 0, sentAt: now, tries: 0, lease };
  return { ...common, phase: 'bound', wakeAt: Math.max(now, lease.renewAt) };
}

/** The server is to know another name: told at once, by a renewal before its time (section 4.4.5 allows one at any time). */
export function rename(client: Client, hostName: string, moment: Moment): Outcome {
  const renamed = { ...client, identity: { ...client.identity, hostName } };
  if (client.phase !== 'bound') return { client: renamed, actions: [] };
  return wake({ ...renamed, wakeAt: moment.now }, moment);
}

export function wake(client: Client, moment: Moment): Outcome {
  if (moment.now < client.wakeAt) return { client, actions: [] };
  switch (client.phase) {
    case 'selecting':
      return send(client, moment);
    case 'requesting':
      if (client.tries < REQUESTS) return send(client, moment);
      return enter(client.identity, 'selecting', moment, client.lease);
    case 'rebooting':
      return client.tries < REBOOTS ? send(client, moment) : unanswered(client, moment);
    case 'bound':
      return enter(client.identity, 'renewing', moment, client.lease);
    case 'renewing':
    case 'rebinding':
      return prolong(client, moment);
  }
}

/** Section 3.2: who hears nothing may go on with what he has, as long as it lasts. */
function unanswered(client: Client, moment: Moment): Outcome {
  const { lease } = client;
  if (lease === undefined || lease.expiresAt <= moment.now)
    return enter(client.identity, 'selecting', moment, lease);
  return { client: resume(client.identity, moment, lease), actions: [{ do: 'bound', lease }] };
}

function prolong(client: Client, moment: Moment): Outcome {
  const { lease, identity } = client;
  if (lease === undefined || moment.now >= lease.expiresAt) {
    const again = enter(identity, 'selecting', moment, lease);
    return { ...again, actions: [{ do: 'lost', why: 'expired' }, ...again.actions] };
  }
  if (client.phase === 'renewing' && moment.now >= lease.rebindAt)
    return enter(identity, 'rebinding', moment, lease);
  return send(client, moment);
}

/** @param from the frame's source. */
export function hear(client: Client, message: DhcpMessage, from: Mac, moment: Moment): Outcome {
  const silent = { client, actions: [] };
  if (message.op !== 2 || message.xid !== client.xid || message.chaddr !== client.identity.mac) return silent;
  switch (numberOf(message, OPTION.messageType, 1)) {
    case TYPE.offer:
      return client.phase === 'selecting' ? accept(client, message, moment) : silent;
    case TYPE.ack:
      return client.phase === 'selecting' || client.phase === 'bound'
        ? silent
        : bind(client, message, from, moment);
    case TYPE.nak:
      return refuse(client, message, moment);
    default:
      return silent;
  }
}

/** The first one: there is no better, and the container waits. */
function accept(client: Client, message: DhcpMessage, moment: Moment): Outcome {
  const server = serverOf(message);
  const address = message.yiaddr;
  if (server === undefined || !isUsable(address)) return { client, actions: [] };
  return send({ ...client, phase: 'requesting', tries: 0, offer: { address, server } }, moment);
}

function bind(client: Client, message: DhcpMessage, from: Mac, moment: Moment): Outcome {
  const silent = { client, actions: [] };
  const { phase, offer, sentAt, identity } = client;
  const lease = leaseOf(message, from, sentAt, (moment.roll >>> 0) / 2 ** 32);
  if (lease === undefined) return silent;
  // Another server's answer to somebody else's question with the same number would be a wonder; it is not ours all the same.
  if (phase === 'requesting' && lease.server !== offer?.server) return silent;
  return { client: resume(identity, moment, lease), actions: [{ do: 'bound', lease }] };
}

function refuse(client: Client, message: DhcpMessage, moment: Moment): Outcome {
  const silent = { client, actions: [] };
  const { phase, identity, offer } = client;
  if (phase === 'selecting' || phase === 'bound') return silent;
  const server = serverOf(message);
  if (phase === 'requesting') {
    if (server !== offer?.server) return silent;
    // Not at once: who refuses what he has offered would do it as often as he is asked.
    const later = begun(identity, 'selecting', moment);
    const waiting = { ...later, wakeAt: moment.now + SECOND };
    return { client: waiting, actions: [{ do: 'refused', ...(server !== undefined && { server }) }] };
  }
  const again = enter(identity, 'selecting', moment);
  const lost: readonly Action[] = phase === 'rebooting' ? [] : [{ do: 'lost', why: 'refused' }];
  return { ...again, actions: [...lost, ...again.actions] };
}

function enter(identity: Identity, phase: Phase, moment: Moment, lease?: Lease): Outcome {
  return send(begun(identity, phase, moment, lease), moment);
}

function begun(identity: Identity, phase: Phase, { now, roll }: Moment, lease?: Lease): Client {
  const common = {
    identity,
    phase,
    xid: roll >>> 0,
    since: now,
    secs: 0,
    sentAt: now,
    tries: 0,
    wakeAt: now,
  };
  return { ...common, ...(lease !== undefined && { lease }) };
}

/** What the phase has to say, and when it is said again. */
function send(client: Client, moment: Moment): Outcome {
  const { now } = moment;
  const { lease, identity, xid, phase } = client;
  // Section 4.4.1: the same as in the DHCPDISCOVER, so that a relay that takes it serves both.
  const secs = phase === 'requesting' ? client.secs : Math.floor((now - client.since) / SECOND);
  const message = messageFor(identity, wantOf(client), { xid, secs });
  const next = { ...client, secs, sentAt: now, tries: client.tries + 1, wakeAt: again(client, moment) };
  const isDirect = phase === 'renewing' && lease !== undefined;
  const to = isDirect ? { to: { server: lease.server, mac: lease.serverMac } } : {};
  return { client: next, actions: [{ do: 'send', message, ...to }] };
}

function wantOf({ phase, lease, offer }: Client): Want {
  const held = lease === undefined ? undefined : addressOf(lease.address);
  switch (phase) {
    case 'requesting':
      return offer === undefined ? { say: 'discover' } : { say: 'request', ...offer };
    case 'rebooting':
      return held === undefined ? { say: 'discover' } : { say: 'reboot', address: held };
    case 'renewing':
    case 'rebinding':
      return { say: 'renew', address: held ?? UNSPECIFIED };
    default:
      return { say: 'discover', ...(held !== undefined && { address: held }) };
  }
}

function again({ phase, tries, lease }: Client, { now, roll }: Moment): number {
  if ((phase === 'renewing' || phase === 'rebinding') && lease !== undefined) {
    const end = phase === 'renewing' ? lease.rebindAt : lease.expiresAt;
    const least = Math.min(MINUTE, Math.max(SECOND, (lease.expiresAt - lease.renewAt) / 10));
    return Math.min(end, now + Math.max((end - now) / 2, least));
  }
  // Section 4.1: not in step with others who began at the same time.
  const spread = 0.9 + 0.2 * ((roll >>> 0) / 2 ** 32);
  return now + Math.floor(Math.min(LONGEST_PAUSE, 2 ** tries) * SECOND * spread);
}
