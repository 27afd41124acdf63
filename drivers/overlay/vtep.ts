/**
 * The switching of a tunnel endpoint in user space: which peers a frame goes to, and what is to be made of a datagram. It floods and
 * learns as Linux's VXLAN device does, or goes by the entries that it is given (`nolearning`). Pure but for its own table: no sockets, no clock; whoever has these calls it.
 */
import { type Malformed, malformedVxlan, vniOf, VXLAN_HEADER_BYTES } from './vxlan.ts';

/** As Linux has it (drivers/net/vxlan/vxlan_core.c, FDB_AGE_DEFAULT). */
const AGE_MS = 300_000;
/** MAC addresses that a tunnel knows the place of: whoever makes them up fills memory no further. */
const TABLE_LIMIT = 65_536;

/** Why a datagram was not delivered, beside what is wrong with its form. */
export type Drop =
  | Malformed
  /** No tunnel of this port has its VNI. */
  | 'unknown-vni'
  /** It does not come from one of the network's hosts. */
  | 'stranger'
  /** Its frame says to come from a group of hosts. */
  | 'bad-source';

export const DROPS: readonly Drop[] = ['short', 'no-vni', 'runt', 'unknown-vni', 'stranger', 'bad-source'];

interface Place<Peer> {
  peer: Peer;
  seen: number;
}

/** One VNI. `Peer` is whatever stands for a host to the caller, the same object for the same host. */
export class Vtep<Peer> {
  readonly vni: number;
  readonly #learning: boolean;
  readonly #peers: Set<Peer>;
  #all: readonly Peer[];
  readonly #places = new Map<number, Place<Peer>>();

  constructor(vni: number, peers: readonly Peer[], learning = true) {
    this.vni = vni;
    this.#learning = learning;
    this.#all = peers;
    this.#peers = new Set(peers);
  }

  /** Frames to `mac` go to `peer` from now on, until that is removed; to the MAC of all zeros: what everybody is to have goes there, too. */
  put(mac: Uint8Array, peer: Peer): void {
    const key = macKey(mac, 0);
    if (key !== 0) this.#places.set(key, { peer, seen: Infinity });
    else this.#all = [...this.#peers.add(peer)];
  }

  /** Only this very entry. */
  remove(mac: Uint8Array, peer: Peer): void {
    const key = macKey(mac, 0);
    if (key !== 0 && this.#places.get(key)?.peer === peer) this.#places.delete(key);
    if (key === 0 && this.#peers.delete(peer)) this.#all = [...this.#peers];
  }

  /** Where a frame from here goes: to the host that its destination was last seen at, or to all. `now` in ms. */
  destinations(frame: Uint8Array, now: number): readonly Peer[] {
    if (isGroup(frame, 0)) return this.#all;
    const key = macKey(frame, 0);
    const place = this.#places.get(key);
    if (place === undefined) return this.#all;
    if (now - place.seen <= AGE_MS) return [place.peer];
    this.#places.delete(key);
    return this.#all;
  }

  /** A frame that came from `peer`: why it is dropped, or undefined, and its source is then known to be there. */
  admit(frame: Uint8Array, peer: Peer | undefined, now: number): Drop | undefined {
    if (peer === undefined || !this.#peers.has(peer)) return 'stranger';
    if (isGroup(frame, 6)) return 'bad-source';
    if (this.#learning) this.#learn(macKey(frame, 6), peer, now);
    return undefined;
  }

  #learn(key: number, peer: Peer, now: number): void {
    const place = this.#places.get(key);
    if (place !== undefined) {
      place.peer = peer;
      place.seen = now;
      return;
    }
    if (this.#places.size >= TABLE_LIMIT) this.#forgetOldest();
    this.#places.set(key, { peer, seen: now });
  }

  /** The one that was learned first: a Map keeps the order. */
  #forgetOldest(): void {
    for (const key of this.#places.keys()) {
      this.#places.delete(key);
      return;
    }
  }

  get known(): number {
    return this.#places.size;
  }
}

/** The tunnels that share a UDP port, by VNI. */
export class VtepPort<Peer> {
  readonly #vteps = new Map<number, Vtep<Peer>>();

  add(vtep: Vtep<Peer>): void {
    this.#vteps.set(vtep.vni, vtep);
  }

  remove(vni: number): void {
    this.#vteps.delete(vni);
  }

  get isEmpty(): boolean {
    return this.#vteps.size === 0;
  }

  /** The VNI that a datagram's frame is to be delivered to, or why it is dropped. The frame stands behind the header. */
  receive(datagram: Uint8Array, peer: Peer | undefined, now: number): number | Drop {
    const malformed = malformedVxlan(datagram);
    if (malformed !== undefined) return malformed;
    const vni = vniOf(datagram);
    const vtep = this.#vteps.get(vni);
    if (vtep === undefined) return 'unknown-vni';
    return vtep.admit(datagram.subarray(VXLAN_HEADER_BYTES), peer, now) ?? vni;
  }
}

/** 48 bits fit a number exactly. */
function macKey(frame: Uint8Array, at: number): number {
  const high = ((frame[at] ?? 0) << 16) | ((frame[at + 1] ?? 0) << 8) | (frame[at + 2] ?? 0);
  const low = ((frame[at + 3] ?? 0) << 16) | ((frame[at + 4] ?? 0) << 8) | (frame[at + 5] ?? 0);
  return high * 0x1000000 + low;
}

/** The individual/group bit (IEEE 802-2014 section 8.2.2). */
function isGroup(frame: Uint8Array, at: number): boolean {
  return ((frame[at] ?? 0) & 1) === 1;
}
