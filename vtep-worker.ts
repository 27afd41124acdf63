/**
 * The thread of the tunnel endpoints in user space: started by kernel/vteps.ts, with the switching of drivers/overlay. It knows both, as
 * main.ts knows all. It waits in poll(2) and nowhere else: a frame costs one system call at its device, its share of one for many at the
 * socket, and no turn of an event loop.
 */
import { closeSync } from 'node:fs';
import { parentPort, receiveMessageOnPort } from 'node:worker_threads';
import type { Ip } from './address/ip.ts';
import { macBytes } from './address/mac.ts';
import { type Drop, Vtep, VtepPort } from './drivers/overlay/vtep.ts';
import { vniOf, VXLAN_HEADER_BYTES, writeVxlanHeader } from './drivers/overlay/vxlan.ts';
import { socketAddress } from './kernel/bound-sockets.ts';
import { BATCH } from './kernel/packet-batch.ts';
import { hostKey, PacketIo } from './kernel/packet-io.ts';
import { KernelError } from './kernel/kernel.ts';
import type { VtepRun } from './kernel/step.ts';
import type { VtepOrder, VtepReply } from './kernel/vteps.ts';

/** How long an order of the daemon may wait for the next look at the orders. */
const LOOK_MS = 20;
/** The largest frame: an MTU of 65535 and its Ethernet header. */
const FRAME_BYTES = 65_549;

/** A host, the same object for the same address. */
interface Peer {
  readonly to: Buffer;
}

type Counters = Record<string, number>;

interface Port {
  readonly key: string;
  readonly fd: number;
  readonly vteps: VtepPort<Peer>;
  readonly peers: Map<string, Peer>;
  /** What came for none of its tunnels. */
  readonly counters: Counters;
  readonly taps: Map<number, Tap>;
}

interface Tap {
  readonly fd: number;
  /** UDP, of all hosts. */
  readonly number: number;
  readonly vtep: Vtep<Peer>;
  readonly port: Port;
  readonly counters: Counters;
}

const io = new PacketIo();
const taps = new Map<string, Tap>();
const tapOf = new Map<number, Tap>();
const ports = new Map<string, Port>();
const portOf = new Map<number, Port>();
const DATAGRAM_BYTES = VXLAN_HEADER_BYTES + FRAME_BYTES;
const incoming = io.batch(DATAGRAM_BYTES);
const outgoing = io.batch(DATAGRAM_BYTES);
/** A frame begins where a header fits before it. Nothing is copied. */
const rooms = Array.from({ length: BATCH }, (_, n) => outgoing.place(n).subarray(VXLAN_HEADER_BYTES));
const NO_ROOM = 'no room';

function count(counters: Counters, what: string, more = 1): void {
  if (more > 0) counters[what] = (counters[what] ?? 0) + more;
}

function fromTap(tap: Tap): void {
  try {
    readAll(tap, performance.now());
  } finally {
    flush(tap);
  }
}

function readAll(tap: Tap, now: number): void {
  for (const [place, room] of rooms.entries()) {
    const length = io.read(tap.fd, room);
    if (length === undefined) return;
    writeVxlanHeader(outgoing.place(place), 0, tap.vtep.vni);
    for (const { to } of tap.vtep.destinations(room, now)) {
      if (outgoing.isFull) flush(tap);
      outgoing.queue(place, VXLAN_HEADER_BYTES + length, to);
    }
  }
}

function flush({ port, counters }: Tap): void {
  const { sent, unsent } = outgoing.send(port.fd, (errno) => {
    count(counters, `error ${errno}`);
  });
  count(counters, 'sent', sent);
  count(counters, NO_ROOM, unsent);
}

function fromNetwork(port: Port): void {
  const now = performance.now();
  const received = incoming.receive(port.fd);
  for (let n = 0; n < received; n += 1) {
    const datagram = incoming.received(n);
    const peer = port.peers.get(hostKey(incoming.sender(n)));
    const verdict = port.vteps.receive(datagram, peer, now);
    if (typeof verdict === 'string') count(addressee(port, verdict, datagram), verdict);
    else deliver(port.taps.get(verdict), datagram.subarray(VXLAN_HEADER_BYTES));
  }
}

/** A device that is down refuses its frames, and no other's. */
function deliver(tap: Tap | undefined, frame: Uint8Array): void {
  if (tap === undefined) return;
  try {
    count(tap.counters, io.write(tap.fd, frame) ? 'delivered' : NO_ROOM);
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    count(tap.counters, `error ${error.errno}`);
  }
}

/** Whose a dropped datagram was: the tunnel's whose VNI it has, or nobody's. */
function addressee(port: Port, drop: Drop, datagram: Uint8Array): Counters {
  const knows = drop === 'stranger' || drop === 'bad-source';
  return (knows ? port.taps.get(vniOf(datagram))?.counters : undefined) ?? port.counters;
}

/** A device that is down refuses frames, a network that is gone datagrams: neither may end the thread. */
function guarded(fd: number, act: () => void): void {
  try {
    act();
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    count(tapOf.get(fd)?.counters ?? portOf.get(fd)?.counters ?? {}, `error ${error.errno}`);
    // The device has gone with its namespace: it would be ready for ever.
    if (error.errno === 'EBADFD' && tapOf.delete(fd)) watchAll();
  }
}

function watchAll(): void {
  io.watch([...tapOf.keys(), ...portOf.keys()]);
}

function add({ name, tap: fd, vtep }: Extract<VtepOrder, { do: 'add' }>): void {
  const key = `${vtep.local} ${vtep.port}`;
  keep(name, fd, ports.get(key) ?? open(key, vtep), vtep, { sent: 0, delivered: 0 });
}

/** What it had learned it learns again. */
function follow({ former, name, vtep }: Extract<VtepOrder, { do: 'follow' }>): void {
  const tap = taps.get(former);
  if (tap === undefined) return;
  taps.delete(former);
  keep(name, tap.fd, tap.port, vtep, tap.counters);
}

function keep(name: string, fd: number, port: Port, vtep: VtepRun, counters: Counters): void {
  const peers = vtep.peers.map((address) => peerAt(port, address, vtep.port));
  const made = new Vtep(vtep.vni, peers, vtep.learning !== false);
  const tap: Tap = { fd, port, counters, number: vtep.port, vtep: made };
  port.vteps.add(tap.vtep);
  port.taps.set(vtep.vni, tap);
  taps.set(name, tap);
  tapOf.set(fd, tap);
}

function peerAt({ peers }: Port, address: Ip, port: number): Peer {
  const to = socketAddress(address, port);
  const known = peers.get(hostKey(to)) ?? { to };
  peers.set(hostKey(to), known);
  return known;
}

function place({ name, changes }: Extract<VtepOrder, { do: 'place' }>): void {
  const tap = taps.get(name);
  if (tap === undefined) return;
  for (const { verb, entry } of changes)
    tap.vtep[verb](macBytes(entry.mac), peerAt(tap.port, entry.dst, tap.number));
}

function open(key: string, { local, port }: Extract<VtepOrder, { do: 'add' }>['vtep']): Port {
  const made: Port = {
    key,
    fd: io.openUdp(local, port),
    vteps: new VtepPort(),
    peers: new Map(),
    taps: new Map(),
    counters: {},
  };
  ports.set(key, made);
  portOf.set(made.fd, made);
  return made;
}

function remove(name: string): void {
  const tap = taps.get(name);
  if (tap === undefined) return;
  taps.delete(name);
  tapOf.delete(tap.fd);
  closeSync(tap.fd);
  const { port, vtep } = tap;
  port.vteps.remove(vtep.vni);
  port.taps.delete(vtep.vni);
  if (!port.vteps.isEmpty) return;
  closeSync(port.fd);
  ports.delete(port.key);
  portOf.delete(port.fd);
}

function obey(order: VtepOrder): VtepReply {
  const { id } = order;
  const counters = countersOf(order);
  try {
    if (order.do === 'add') add(order);
    if (order.do === 'follow') follow(order);
    if (order.do === 'remove') remove(order.name);
    if (order.do === 'place') place(order);
    watchAll();
    return { id, counters };
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    const { errno } = error;
    const taken =
      errno === 'EADDRINUSE' ? 'the UDP port is held by another program, or by a tunnel of the kernel’s' : '';
    return { id, error: { errno, detail: taken || error.detail }, counters };
  }
}

/** As they are before the order is obeyed. */
function countersOf(order: VtepOrder): Readonly<Counters> {
  const tap = 'name' in order ? taps.get(order.name) : undefined;
  return tap === undefined ? {} : { ...tap.counters, ...tap.port.counters };
}

/** Until it is told to end. */
function run(orders: NonNullable<typeof parentPort>): void {
  for (;;) {
    for (const fd of io.wait(LOOK_MS)) {
      const tap = tapOf.get(fd);
      const port = portOf.get(fd);
      if (tap !== undefined)
        guarded(fd, () => {
          fromTap(tap);
        });
      if (port !== undefined)
        guarded(fd, () => {
          fromNetwork(port);
        });
    }
    for (let order = next(orders); order !== undefined; order = next(orders)) {
      if (order.do === 'end') return;
      orders.postMessage(obey(order));
    }
  }
}

function next(orders: NonNullable<typeof parentPort>): VtepOrder | undefined {
  return (receiveMessageOnPort(orders) as { readonly message: VtepOrder } | undefined)?.message;
}

if (parentPort !== null) {
  try {
    run(parentPort);
  } finally {
    // Also when it fails: descriptors and memory are the process's, and the next thread needs these devices and ports.
    for (const name of [...taps.keys()]) remove(name);
    for (const batch of [incoming, outgoing]) batch.close();
  }
}
