/**
 * Where the messages of tests come in and go out. Each daemon with an overlay network has one: it answers other hosts' questions, and
 * hands the answers to its own to whoever asked. It keeps nothing of what it is asked.
 *
 * Node can poll none of these sockets, so a timer looks, as kernel/monitor.ts does: four times a second while nothing is asked here.
 */
import { familyOf, type Ip, ip } from '../../address/ip.ts';
import type { Cnm } from '../../cnm/cnm.ts';
import type { Encryption } from '../../cnm/driver.ts';
import type { Log } from '../../cnm/log.ts';
import type { NetworkRecord } from '../../cnm/model.ts';
import type { Kernel, ProbeSocket, ProbeSocketOptions } from '../../kernel/kernel.ts';
import { bridgeMac } from '../../drivers/overlay/names.ts';
import { replyTo } from '../../drivers/overlay/check/answer.ts';
import {
  CHECKSUM,
  PACKET_OVERHEAD,
  PROBE_PORT,
  probeDatagram,
  probeFrame,
} from '../../drivers/overlay/check/frame.ts';
import { echoRequest, parseIcmp } from '../../drivers/overlay/check/icmp.ts';
import { keysSaid } from '../../drivers/overlay/check/keys.ts';
import {
  type Answer,
  type Ask,
  decodeMessage,
  encodeMessage,
  type Message,
  type Way,
} from '../../drivers/overlay/check/message.ts';
import type { Heard } from '../../drivers/overlay/check/survey.ts';
import { entriesOf, type Tunnel, tunnelsOf } from '../../drivers/overlay/check/tunnels.ts';

export type ProbeKernel = Pick<Kernel, 'probeSocket' | 'sendUnfinished'>;

export interface StationParts {
  readonly cnm: Pick<Cnm, 'networks' | 'endpoints' | 'watch'> & Partial<Pick<Cnm, 'remotes'>>;
  readonly kernel: ProbeKernel;
  readonly log: Log;
  /** What encrypted networks are encrypted with. */
  readonly encryption?: () => Encryption | undefined;
}

const IDLE_MS = 250;
const ASKING_MS = 15;
/** Answers in one look: a flood of questions costs no more than that. */
const ANSWERS_AT_ONCE = 64;
const ANY = { 4: ip('0.0.0.0'), 6: ip('::') } as const;
const DRIVER = 'cnm-overlay';
/** Means nothing. */
const ECHO_ID = 0x636e;

/** Sockets that only send, from one of this host's addresses. */
interface Mouth {
  readonly icmp: ProbeSocket;
  readonly udp: ProbeSocket;
}

export class Station {
  readonly #parts: StationParts;
  readonly #mouths = new Map<Ip, Mouth>();
  /** By namespace: what comes through its tunnels. */
  readonly #ears = new Map<string, ProbeSocket>();
  /** By family: what comes beside them, also where this host has no endpoint yet. */
  readonly #icmp = new Map<4 | 6, ProbeSocket>();
  readonly #failed = new Set<string>();
  readonly #listeners = new Set<(heard: Heard) => void>();
  #timer: NodeJS.Timeout | undefined;
  #unwatch = () => {};
  /** A socket could not be had. */
  #wanting = false;

  constructor(parts: StationParts) {
    this.#parts = parts;
  }

  /** From now on. To be called when the records are true. */
  start(): void {
    this.#unwatch = this.#parts.cnm.watch(({ what }) => {
      // At once: a socket keeps the namespace that it is in. A record comes before its namespace, an endpoint's record after it.
      if (what === 'network' || (what === 'endpoint' && this.#wanting)) this.#sync();
    });
    this.#sync();
  }

  close(): void {
    this.#unwatch();
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const [key, socket] of this.#ears) shut(this.#ears, key, socket);
    for (const [key, socket] of this.#icmp) shut(this.#icmp, key, socket);
    for (const [key, { icmp, udp }] of this.#mouths) shut(this.#mouths, key, icmp, udp);
  }

  tunnels(network?: string): readonly Tunnel[] {
    return this.#networks()
      .filter(({ id }) => network === undefined || id === network)
      .flatMap((one) => tunnelsOf(one, this.#parts.cnm.remotes?.(one.id)))
      .map((tunnel) => {
        const encryption = tunnel.encrypted ? this.#parts.encryption?.() : undefined;
        return { ...tunnel, ...(encryption && { keys: keysSaid(encryption) }) };
      });
  }

  /** Everything that comes in, until the returned function is called. */
  listen(listener: (heard: Heard) => void): () => void {
    this.#listeners.add(listener);
    this.#look();
    return () => this.#listeners.delete(listener);
  }

  /** @returns the errno by which this host's kernel refused it; undefined: it is on its way, or was lost. */
  send(tunnel: Tunnel, to: Ip, way: Way, message: Message, size = 0): string | undefined {
    const { here } = tunnel;
    const mouth = here && this.#mouths.get(here.local);
    if (here === undefined || mouth === undefined) return 'ENOENT';
    try {
      if (way === 'icmp') mouth.icmp.send(echoRequest(familyOf(to), ECHO_ID, encodeMessage(message)), to);
      else this.#sendInside(tunnel, here, mouth, to, way, encodeMessage(message, size - PACKET_OVERHEAD));
      return undefined;
    } catch (error) {
      if (error instanceof Error && 'errno' in error) return String(error.errno);
      throw error;
    }
  }

  #sendInside(
    { vni, port }: Tunnel,
    here: NonNullable<Tunnel['here']>,
    { udp }: Mouth,
    to: Ip,
    way: Way,
    message: Buffer,
  ): void {
    const spec = { from: here.mac, to: bridgeMac(to, vni, here.bridge), message };
    if (way === 'tunnel') udp.send(probeDatagram(vni, spec), to, port);
    else
      this.#parts.kernel.sendUnfinished(
        here.netns,
        here.link,
        probeFrame({ ...spec, unfinished: true }),
        CHECKSUM,
      );
  }

  #networks(): readonly NetworkRecord[] {
    return this.#parts.cnm.networks().filter(({ driver, state }) => driver === DRIVER && state === 'ready');
  }

  /** Sockets as the records want them; one that cannot be had is tried again at the next change. */
  #sync(): void {
    this.#wanting = false;
    const tunnels = this.tunnels();
    const here = tunnels.flatMap((tunnel) => tunnel.here ?? []);
    const netns = new Set(here.map((one) => one.netns));
    const locals = new Set(here.map((one) => one.local));
    const families = new Set(tunnels.flatMap(({ hosts }) => hosts.map(familyOf)));
    for (const [key, socket] of this.#ears) if (!netns.has(key)) shut(this.#ears, key, socket);
    for (const [key, socket] of this.#icmp) if (!families.has(key)) shut(this.#icmp, key, socket);
    for (const [key, { icmp, udp }] of this.#mouths) if (!locals.has(key)) shut(this.#mouths, key, icmp, udp);
    for (const key of netns)
      this.#have(this.#ears, key, { kind: 'udp', address: ANY[4], port: PROBE_PORT, netns: key });
    for (const family of families) this.#have(this.#icmp, family, { kind: 'icmp', address: ANY[family] });
    for (const address of locals) if (!this.#mouths.has(address)) this.#openMouth(address);
    this.#look();
  }

  #have<K>(sockets: Map<K, ProbeSocket>, key: K, options: ProbeSocketOptions): void {
    const socket = sockets.has(key) ? undefined : this.#open(options);
    if (socket !== undefined) sockets.set(key, socket);
  }

  #openMouth(address: Ip): void {
    const icmp = this.#open({ kind: 'icmp', address, deaf: true });
    const udp = this.#open({ kind: 'udp', address, deaf: true });
    if (icmp !== undefined && udp !== undefined) this.#mouths.set(address, { icmp, udp });
    else for (const one of [icmp, udp]) one?.close();
  }

  #open(options: ProbeSocketOptions): ProbeSocket | undefined {
    try {
      return this.#parts.kernel.probeSocket(options);
    } catch (error) {
      if (!(error instanceof Error && 'errno' in error)) throw error;
      this.#wanting = true;
      const what = `${options.kind} ${options.address} ${options.netns ?? ''}`;
      if (!this.#failed.has(what))
        this.#parts.log.debug(
          { error: error.message, what },
          'tests of the way to other hosts are not answered there',
        );
      this.#failed.add(what);
      return undefined;
    }
  }

  #look(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#icmp.size === 0 && this.#ears.size === 0) return;
    const budget = { answers: ANSWERS_AT_ONCE };
    for (const ear of this.#ears.values())
      ear.drain((bytes) => {
        this.#hear(decodeMessage(bytes), 'tunnel', undefined, budget);
      });
    for (const [family, socket] of this.#icmp)
      socket.drain((bytes, from) => {
        this.#hearIcmp(family, bytes, from, budget);
      });
    const next = this.#listeners.size > 0 ? ASKING_MS : IDLE_MS;
    this.#timer = setTimeout(() => {
      this.#look();
    }, next);
    this.#timer.unref();
  }

  #hearIcmp(family: 4 | 6, bytes: Buffer, from: Ip, budget: { answers: number }): void {
    const heard = parseIcmp(family, bytes);
    if (heard === undefined) return;
    if (heard.kind === 'unreachable') {
      this.#tell({ kind: 'unreachable', what: heard, by: from });
      return;
    }
    const message = decodeMessage(heard.data);
    if (heard.kind === 'request') this.#hear(message, 'icmp', from, budget);
    else if (message !== undefined) this.#tell({ kind: 'pong', from, id: message.id });
  }

  /** `from`: who sent it, where that is known; through a tunnel it is what the message says. */
  #hear(
    message: Message | undefined,
    way: 'icmp' | 'tunnel',
    from: Ip | undefined,
    budget: { answers: number },
  ): void {
    if (message === undefined) return;
    if (message.say === 'answer') this.#tell({ kind: 'answer', answer: message, way, at: Date.now() });
    else if (budget.answers > 0) {
      budget.answers -= 1;
      this.#answer(message, way === 'icmp' ? 'icmp' : message.way, from);
    }
  }

  #tell(heard: Heard): void {
    for (const listener of this.#listeners) listener(heard);
  }

  #answer(ask: Ask, heard: Way, from: Ip | undefined): void {
    const { cnm } = this.#parts;
    const own = ({ network }: Tunnel) => entriesOf(cnm.endpoints(network.id));
    const { inside, beside } = replyTo(ask, heard, from, this.tunnels(), Date.now(), own);
    let failed: string | undefined;
    for (const way of inside?.ways ?? [])
      failed ??= inside && this.send(inside.tunnel, ask.from, way, { ...inside.answer, way }, ask.size);
    if (beside === undefined) return;
    this.#sendNote(ask.from, beside.from, { ...beside.answer, ...(failed !== undefined && { failed }) });
  }

  /** Beside all tunnels: also where this host has none of the asker's. */
  #sendNote(to: Ip, local: Ip | undefined, note: Answer): void {
    const mouth = local === undefined ? undefined : this.#mouths.get(local);
    try {
      const socket = mouth?.icmp ?? this.#icmp.get(familyOf(to));
      socket?.send(echoRequest(familyOf(to), ECHO_ID, encodeMessage(note)), to);
    } catch (error) {
      if (!(error instanceof Error && 'errno' in error)) throw error;
    }
  }
}

function shut<K>(all: Map<K, unknown>, key: K, ...sockets: readonly ProbeSocket[]): void {
  for (const socket of sockets) socket.close();
  all.delete(key);
}
