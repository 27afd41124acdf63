/** One lease as it is held: the client's state machine with a clock, chance and a wire. */
import { randomBytes } from 'node:crypto';
import type { Mac } from '../../address/mac.ts';
import { addressOf } from '../../address/prefix.ts';
import {
  type Action,
  begin,
  type Client,
  hear,
  type Moment,
  type Outcome,
  rename,
  resume,
  wake,
} from './client.ts';
import type { Lease } from './lease.ts';
import type { DhcpMessage } from './message.ts';
import type { Wires } from './wires.ts';
import { type Identity, messageFor } from './words.ts';

export interface SessionParts {
  readonly wires: Wires;
  readonly wire: string;
  /** Must not throw. */
  readonly on: (event: SessionEvent) => void;
}

/** What happens to the lease. */
export type SessionEvent =
  Exclude<Action, { do: 'send' }> | { readonly do: 'unsent'; readonly error: unknown };

/** How long an answer is waited for with an open socket. */
const LISTEN_MS = 10_000;
/** setTimeout() takes no more; who wakes early goes to sleep again. */
const TIMER_MAX = 2 ** 31 - 1;

export class Session {
  readonly #parts: SessionParts;
  #client: Client;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** `isInUse`: the lease's address has been in use all the time. */
  constructor(parts: SessionParts, identity: Identity, lease?: Lease, isInUse = false) {
    this.#parts = parts;
    const moment = now();
    if (isInUse && lease !== undefined) {
      this.#client = resume(identity, moment, lease);
      this.#sleep();
      return;
    }
    const { client, actions } = begin(identity, moment, lease);
    this.#client = client;
    // What is done is heard of when the caller has the session.
    this.#timer = setTimeout(() => {
      this.#do({ client, actions });
    });
  }

  get client(): Client {
    return this.#client;
  }

  rename(hostName: string): void {
    if (!this.#closed && this.#client.identity.hostName !== hostName)
      this.#do(rename(this.#client, hostName, now()));
  }

  /** Says nothing any more. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#parts.wires.deafen(this.#parts.wire, this.#client.xid);
  }

  #do({ client, actions }: Outcome): void {
    const { wires, wire, on } = this.#parts;
    const { xid } = this.#client;
    this.#client = client;
    for (const action of actions) {
      if (action.do === 'send') this.#send(action);
      else on(action);
    }
    if (client.xid !== xid || client.phase === 'bound') wires.deafen(wire, xid);
    if (!this.#closed) this.#sleep();
  }

  #send({ message, to }: Extract<Action, { do: 'send' }>): void {
    const { wires, wire, on } = this.#parts;
    if (this.#closed) return;
    try {
      wires.listen(wire, message.xid, message.chaddr, LISTEN_MS, (answer, from) => {
        this.#hear(answer, from);
      });
      wires.say(wire, message, to);
    } catch (error) {
      on({ do: 'unsent', error });
    }
  }

  #hear(message: DhcpMessage, from: Mac): void {
    if (!this.#closed) this.#do(hear(this.#client, message, from, now()));
  }

  #sleep(): void {
    clearTimeout(this.#timer);
    const left = Math.max(0, this.#client.wakeAt - Date.now());
    this.#timer = setTimeout(
      () => {
        this.#do(wake(this.#client, now()));
      },
      Math.min(left, TIMER_MAX),
    );
  }
}

/** Tells the server that the address is free. Nobody answers that (RFC 2131 section 4.4.6). @throws KernelError */
export function sayRelease(wires: Wires, wire: string, identity: Identity, lease: Lease): void {
  const { server, serverMac: mac, address } = lease;
  const xid = randomBytes(4).readUInt32BE();
  const message = messageFor(
    identity,
    { say: 'release', address: addressOf(address), server },
    { xid, secs: 0 },
  );
  wires.say(wire, message, { server, mac });
}

function now(): Moment {
  return { now: Date.now(), roll: randomBytes(4).readUInt32BE() };
}
