/**
 * The thread of the tunnel endpoints in user space: started by kernel/vteps.ts, with the switching of drivers/overlay. It knows both, as
 * main.ts knows all. It waits in poll(2) and nowhere else, so that a frame costs two system calls and no turn of an event loop.
 */
import { closeSync } from 'node:fs';
import { parentPort, receiveMessageOnPort } from 'node:worker_threads';
import type { Ip } from './address/ip.ts';
import { macBytes } from './address/mac.ts';
import { Vtep, VtepPort } from './drivers/overlay/vtep.ts';
import { encodeVxlan, VXLAN_HEADER_BYTES } from './drivers/overlay/vxlan.ts';
import { socketAddress } from './kernel/bound-sockets.ts';
import { hostKey, PacketIo } from './kernel/packet-io.ts';
import { KernelError } from './kernel/kernel.ts';
import type { VtepRun } from './kernel/step.ts';
import type { VtepOrder, VtepReply } from './kernel/vteps.ts';

/** How long an order of the daemon may wait for the next look at the orders. */
const LOOK_MS = 20;
/** Frames of one descriptor in a row, before the others have their turn. */
const BURST = 64;
/** The largest frame: an MTU of 65535 and its Ethernet header. */
const FRAME_BYTES = 65_549;

/** A host, the same object for the same address. */
interface Peer {
  readonly to: Buffer;
}

interface Port {
  readonly key: string;
  readonly fd: number;
  readonly vteps: VtepPort<Peer>;
  readonly peers: Map<string, Peer>;
  readonly taps: Map<number, number>;
}

interface Tap {
  readonly fd: number;
  /** UDP, of all hosts. */
  readonly number: number;
  readonly vtep: Vtep<Peer>;
  readonly port: Port;
}

const io = new PacketIo();
const taps = new Map<string, Tap>();
const tapOf = new Map<number, Tap>();
const ports = new Map<string, Port>();
const portOf = new Map<number, Port>();
const counters: Record<string, number> = { sent: 0, delivered: 0, 'no room': 0 };
/** The frame begins where a header fits before it; a datagram at 0. Nothing is copied. */
const buffer = Buffer.alloc(VXLAN_HEADER_BYTES + FRAME_BYTES);
const room = buffer.subarray(VXLAN_HEADER_BYTES);
const sender = Buffer.alloc(28);

function count(what: string): void {
  counters[what] = (counters[what] ?? 0) + 1;
}

function fromTap({ fd, vtep, port }: Tap): void {
  for (let burst = 0; burst < BURST; burst += 1) {
    const length = io.read(fd, room);
    if (length === undefined) return;
    const end = VXLAN_HEADER_BYTES + length;
    const datagram = encodeVxlan(buffer, VXLAN_HEADER_BYTES, end, vtep.vni);
    for (const { to } of vtep.destinations(room, performance.now())) {
      count(io.sendTo(port.fd, datagram, to) ? 'sent' : 'no room');
    }
  }
}

function fromNetwork(port: Port): void {
  for (let burst = 0; burst < BURST; burst += 1) {
    const length = io.receive(port.fd, buffer, sender);
    if (length === undefined) return;
    const datagram = buffer.subarray(0, Math.min(length, buffer.length));
    const peer = port.peers.get(hostKey(sender));
    const verdict = port.vteps.receive(datagram, peer, performance.now());
    if (typeof verdict === 'string') count(verdict);
    else deliver(port.taps.get(verdict), datagram.subarray(VXLAN_HEADER_BYTES));
  }
}

function deliver(tap: number | undefined, frame: Uint8Array): void {
  count(tap !== undefined && io.write(tap, frame) ? 'delivered' : 'no room');
}

/** A device that is down refuses frames, a network that is gone datagrams: neither may end the thread. */
function guarded(fd: number, act: () => void): void {
  try {
    act();
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    count(`error ${error.errno}`);
    // The device has gone with its namespace: it would be ready for ever.
    if (error.errno === 'EBADFD' && tapOf.delete(fd)) watchAll();
  }
}

function watchAll(): void {
  io.watch([...tapOf.keys(), ...portOf.keys()]);
}

function add({ name, tap: fd, vtep }: Extract<VtepOrder, { do: 'add' }>): void {
  const key = `${vtep.local} ${vtep.port}`;
  keep(name, fd, ports.get(key) ?? open(key, vtep), vtep);
}

/** What it had learned it learns again. */
function follow({ former, name, vtep }: Extract<VtepOrder, { do: 'follow' }>): void {
  const tap = taps.get(former);
  if (tap === undefined) return;
  taps.delete(former);
  keep(name, tap.fd, tap.port, vtep);
}

function keep(name: string, fd: number, port: Port, vtep: VtepRun): void {
  const peers = vtep.peers.map((address) => peerAt(port, address, vtep.port));
  const tap: Tap = { fd, port, number: vtep.port, vtep: new Vtep(vtep.vni, peers, vtep.learning !== false) };
  port.vteps.add(tap.vtep);
  port.taps.set(vtep.vni, fd);
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
  try {
    if (order.do === 'add') add(order);
    if (order.do === 'follow') follow(order);
    if (order.do === 'remove') remove(order.name);
    if (order.do === 'place') place(order);
    watchAll();
    return { id: order.id, counters: { ...counters } };
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    const { errno } = error;
    const taken =
      errno === 'EADDRINUSE' ? 'the UDP port is held by another program, or by a tunnel of the kernel’s' : '';
    return { id: order.id, error: { errno, detail: taken || error.detail }, counters: { ...counters } };
  }
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
  run(parentPort);
  for (const name of [...taps.keys()]) remove(name);
}
