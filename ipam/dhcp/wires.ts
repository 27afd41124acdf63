/** The links that DHCP messages go and come by: each is heard while somebody waits for an answer on it, and no longer. */
import type { Ip } from '../../address/ip.ts';
import type { Mac } from '../../address/mac.ts';
import { mac as macOf } from '../../address/mac.ts';
import {
  BROADCAST,
  CLIENT_PORT,
  decodeMessage,
  type DhcpMessage,
  encodeMessage,
  SERVER_PORT,
} from './message.ts';

interface Address {
  readonly mac: Mac;
  readonly address: Ip;
  readonly port: number;
}

/** As Kernel.tapLink: datagrams on a link, of whatever address; a packet socket. */
export interface Tap {
  send(datagram: { readonly from: Address; readonly to: Address; readonly payload: Uint8Array }): boolean;
  receive(): { readonly from: Address; readonly payload: Uint8Array } | undefined;
  close(): void;
}

export type OpenTap = (link: string, port: number) => Tap;

/** @param from the frame's source. */
export type OnMessage = (message: DhcpMessage, from: Mac) => void;

const BROADCAST_MAC = macOf('ff:ff:ff:ff:ff:ff');
/**
 * Milliseconds between looks: an answer comes soon, or late. libuv polls no packet socket, and a look that finds nothing costs some
 * microseconds.
 */
const SOON = 5;
const LATE = 50;
const SOON_FOR = 1000;

interface Wire {
  readonly tap: Tap;
  /** Until when each listens, by its transaction. */
  readonly waiting: Map<
    number,
    { readonly onMessage: OnMessage; readonly since: number; readonly until: number }
  >;
  timer: NodeJS.Timeout | undefined;
}

export class Wires {
  readonly #open: OpenTap;
  readonly #wires = new Map<string, Wire>();

  constructor(open: OpenTap) {
    this.#open = open;
  }

  /**
   * Says it, once. `to` absent: to all.
   * @throws KernelError when there is no such link.
   */
  say(link: string, message: DhcpMessage, to?: { readonly server: Ip; readonly mac: Mac }): void {
    const wire = this.#wire(link);
    wire.tap.send({
      // The frame's source is the client's own address, or a switch would learn where it is not, and some servers refuse it.
      from: { mac: message.chaddr, address: message.ciaddr, port: CLIENT_PORT },
      to: { mac: to?.mac ?? BROADCAST_MAC, address: to?.server ?? BROADCAST, port: SERVER_PORT },
      payload: encodeMessage(message),
    });
    this.#settle(link, wire);
  }

  /** Hears the answers to a transaction for so many milliseconds, or until `deafen`. @throws KernelError */
  listen(link: string, xid: number, forMs: number, onMessage: OnMessage): void {
    const wire = this.#wire(link);
    const now = performance.now();
    wire.waiting.set(xid, { onMessage, since: now, until: now + forMs });
    this.#settle(link, wire);
  }

  deafen(link: string, xid: number): void {
    const wire = this.#wires.get(link);
    if (wire?.waiting.delete(xid) === true) this.#settle(link, wire);
  }

  close(): void {
    for (const [link, wire] of this.#wires) {
      wire.waiting.clear();
      this.#settle(link, wire);
    }
  }

  #wire(link: string): Wire {
    const known = this.#wires.get(link);
    if (known !== undefined) return known;
    const wire: Wire = { tap: this.#open(link, CLIENT_PORT), waiting: new Map(), timer: undefined };
    this.#wires.set(link, wire);
    return wire;
  }

  /** Looks again, or closes what nobody listens to. */
  #settle(link: string, wire: Wire): void {
    if (this.#wires.get(link) !== wire) return;
    const now = performance.now();
    for (const [xid, { until }] of wire.waiting) if (until < now) wire.waiting.delete(xid);
    if (wire.waiting.size === 0) {
      clearTimeout(wire.timer);
      this.#wires.delete(link);
      wire.tap.close();
      return;
    }
    if (wire.timer !== undefined) return;
    const isSoon = [...wire.waiting.values()].some(({ since }) => now - since < SOON_FOR);
    wire.timer = setTimeout(
      () => {
        wire.timer = undefined;
        this.#look(link, wire);
        this.#settle(link, wire);
      },
      isSoon ? SOON : LATE,
    );
  }

  /** Who hears what he waited for may be the last one: then it is closed. */
  #look(link: string, wire: Wire): void {
    while (this.#wires.get(link) === wire) {
      const heard = wire.tap.receive();
      if (heard === undefined) return;
      const message = heard.from.port === SERVER_PORT ? decodeMessage(heard.payload) : undefined;
      if (message !== undefined) wire.waiting.get(message.xid)?.onMessage(message, heard.from.mac);
    }
  }
}
