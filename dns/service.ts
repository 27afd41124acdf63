/** The resolver as the daemon runs it: everything put together, and what there is to be told about it. */
import * as packet from 'dns-packet';
import type { Ip } from '../address/ip.ts';
import type { Cnm, EngineNames } from '../cnm/cnm.ts';
import { CnmError } from '../cnm/errors.ts';
import type { Log } from '../cnm/log.ts';
import type { Ipam } from '../ipam/ipam.ts';
import { type Bind, Doors, type DoorView } from './doors.ts';
import type { OtherHosts } from './elsewhere.ts';
import { Feed } from './feed.ts';
import { Forwarder } from './forwarder.ts';
import { followResolvConf, type HostServers } from './host-servers.ts';
import { keyBytes, nameKey } from './name.ts';
import { type AnswerCount, eventOf, QueryLog, type QueryEvent } from './query-log.ts';
import { parseQuery } from './question.ts';
import { Resolver } from './resolver.ts';
import type { Drain } from './server.ts';
import { SandboxFiles } from './sandbox-files.ts';
import { type Upstream, type UpstreamCounts, Upstreams } from './upstream.ts';
import { CLASS_IN, FLAG, HEADER, TYPE, typeNumber } from './wire.ts';
import { type View, Zone } from './zone.ts';

export interface DnsParts {
  readonly cnm: Cnm;
  readonly ipam: Pick<Ipam, 'pools'>;
  readonly engine: EngineNames;
  /** In a cluster. */
  readonly others?: OtherHosts;
  readonly bind: Bind;
  readonly drain: Drain;
  readonly log: Log;
  readonly resolvConf: string;
  /** Milliseconds, as ForwarderOptions.stale. */
  readonly stale: number;
  readonly runDir: string;
  readonly listen: readonly { readonly address: Ip; readonly port: number }[];
}

export interface Dns {
  /** Opens the doors that are there already, and follows what comes. To be called when the records are true. */
  start(): Promise<void>;
  names(network?: string): readonly NameView[];
  doors(): readonly DoorView[];
  upstreams(): readonly UpstreamView[];
  counts(): readonly CountView[];
  load(): Forwarder['load'];
  /** Every query from now on; returns the way to stop. */
  listen(listener: (event: QueryEvent) => void): () => void;
  /** Asks as `owner` (a sandbox's id, or Docker's sandbox key) would; absent = as the host. @throws CnmError `request-invalid` */
  ask(name: string, type: string, owner?: string): Promise<AskView>;
  close(): Promise<void>;
}

export interface NameView {
  readonly network: string;
  readonly networkName?: string;
  readonly endpoint: string;
  /** The sandbox's id, or Docker's sandbox key. */
  readonly owner: string;
  readonly names: readonly string[];
  readonly addresses: readonly string[];
  /** `80/tcp` */
  readonly ports: readonly string[];
}

export interface CountView extends AnswerCount {
  readonly networkName?: string;
}

export interface UpstreamView extends UpstreamCounts {
  readonly address: string;
  readonly port: number;
  readonly state: 'up' | 'down' | 'loop';
  /** Milliseconds. */
  readonly roundTrip?: number;
}

export interface AskView extends QueryEvent {
  /** Records as in a zone file. */
  readonly records: readonly string[];
}

export function createDns(parts: DnsParts): Dns {
  return new Service(parts);
}

class Service implements Dns {
  readonly #parts: DnsParts;
  readonly #zone = new Zone();
  readonly #log = new QueryLog();
  readonly #forwarder: Forwarder;
  readonly #known = new Upstreams();
  readonly #resolver: Resolver;
  readonly #feed: Feed;
  readonly #doors: Doors;
  readonly #files: SandboxFiles;
  readonly #probes: Upstream[] = [];
  #host: HostServers | undefined;
  #stops: (() => void)[] = [];

  constructor(parts: DnsParts) {
    const { cnm, ipam, log, runDir } = parts;
    this.#parts = parts;
    this.#forwarder = new Forwarder({ stale: parts.stale });
    this.#resolver = new Resolver({
      zone: this.#zone,
      forwarder: this.#forwarder,
      log: this.#log,
      upstreams: (view) => this.#upstreamsOf(view),
      onLoop: (probe) => {
        this.#loops(this.#probes[probe]);
      },
      onFault: (error) => {
        log.error({ err: error }, 'a DNS query could not be answered');
      },
    });
    this.#feed = new Feed({ cnm, zone: this.#zone, log, ipam });
    this.#files = new SandboxFiles(runDir);
    this.#doors = new Doors({ ...parts, zone: this.#zone, resolver: this.#resolver });
  }

  async start(): Promise<void> {
    const { cnm, engine, others, resolvConf } = this.#parts;
    this.#host = followResolvConf(resolvConf, () => {
      this.#serversChanged();
    });
    this.#feed.load();
    this.#stops = [
      cnm.watch((change) => {
        this.#feed.change(change);
        if (change.what === 'network' && cnm.network(change.id) === undefined) this.#log.drop(change.id);
        if (change.what === 'sandbox') this.#writeFiles();
        if (change.what !== 'remote') void this.#doors.sync();
      }),
      engine.follow((news) => {
        this.#feed.hear(news);
      }),
      ...(others === undefined
        ? []
        : [
            others.follow((news) => {
              this.#feed.hearOthers(news);
            }),
          ]),
    ];
    this.#writeFiles();
    await this.#doors.sync();
    this.#probe();
  }

  #writeFiles(): void {
    const { cnm, log } = this.#parts;
    try {
      const sandboxes = cnm.sandboxes().filter(({ state }) => state === 'ready');
      if (this.#host !== undefined) this.#files.sync(sandboxes, this.#host.conf);
    } catch (error) {
      log.warn({ error: String(error) }, 'resolv.conf of the sandboxes cannot be written');
    }
  }

  #serversChanged(): void {
    const servers = this.#host?.conf.servers ?? [];
    this.#parts.log.info({ servers }, 'the host has other DNS servers now');
    const listed = this.#zone.networks().flatMap(({ network }) => network.upstreams ?? []);
    this.#known.keep(new Set([...servers, ...listed]));
    this.#forwarder.forget();
    this.#writeFiles();
    this.#probe();
  }

  #upstreamsOf({ networks }: View): readonly Upstream[] {
    const own = networks.find(({ network }) => (network.upstreams ?? []).length > 0)?.network.upstreams;
    return this.#known.of(own ?? this.#host?.conf.servers ?? []);
  }

  /** Asks each server for a name that nobody else asks for. Who hears of it again is asked by his own servers. */
  #probe(): void {
    for (const upstream of this.#known.of(this.#host?.conf.servers ?? [])) {
      upstream.loops = false;
      const number = this.#probes.push(upstream) - 1;
      const query = questionFor(this.#resolver.probeName(number), TYPE.A);
      const parsed = parseQuery(query);
      // What it answers is of no interest.
      if (parsed !== undefined && 'question' in parsed)
        void this.#forwarder.ask(query, parsed.question, 'udp', [upstream], 'probe');
    }
  }

  #loops(upstream: Upstream | undefined): void {
    if (upstream === undefined || upstream.loops) return;
    upstream.loops = true;
    this.#parts.log.warn(
      { server: upstream.address },
      'this DNS server asks us what we ask it; it is left out',
    );
  }

  names(network?: string): readonly NameView[] {
    return this.#zone
      .networks()
      .filter(({ id }) => network === undefined || id === network)
      .flatMap(({ id, network: { name }, members }) =>
        [...members.values()].map(({ host }) => ({
          network: id,
          ...(name !== undefined && { networkName: name }),
          endpoint: host.id,
          owner: host.owner,
          names: host.names,
          addresses: host.addresses,
          ports: host.ports.map(({ port, proto }) => `${port}/${proto}`),
        })),
      );
  }

  doors(): readonly DoorView[] {
    return this.#doors.views();
  }

  upstreams(): readonly UpstreamView[] {
    return this.#known.all().map((one) => ({
      address: one.address,
      port: one.port,
      state: one.loops ? 'loop' : one.isDown() ? 'down' : 'up',
      ...(one.roundTrip !== undefined && { roundTrip: Math.round(one.roundTrip * 10) / 10 }),
      ...one.counts,
    }));
  }

  counts(): readonly CountView[] {
    return this.#log.counts().map((one) => {
      const networkName = this.#zone.network(one.network)?.network.name;
      return { ...one, ...(networkName !== undefined && { networkName }) };
    });
  }

  load(): Forwarder['load'] {
    return this.#forwarder.load;
  }

  listen(listener: (event: QueryEvent) => void): () => void {
    return this.#log.listen(listener);
  }

  async ask(name: string, type: string, owner?: string): Promise<AskView> {
    const view = owner === undefined ? this.#zone.hostView() : this.#zone.viewOf(owner);
    const number = typeNumber(type);
    if (number === undefined)
      throw new CnmError(
        'request-invalid',
        `"${type}" is no type of DNS records; A, AAAA, PTR and SRV are some`,
      );
    if (name !== '.' && nameKey(name) === undefined)
      throw new CnmError('request-invalid', `"${name}" cannot be a domain name`);
    return this.#exchange(questionFor(name, number), view);
  }

  #exchange(query: Buffer, view: View): Promise<AskView> {
    const door = { name: 'cnm dns query', view: () => view, owner: () => 'cnm dns query' };
    return new Promise((resolve) => {
      this.#resolver.handle(query, 'tcp', door, 'cnm', (reply, handled) => {
        resolve({ ...eventOf(handled), records: recordTexts(reply) });
      });
    });
  }

  async close(): Promise<void> {
    for (const stop of this.#stops) stop();
    this.#host?.close();
    await this.#doors.close();
    this.#forwarder.close();
  }
}

/** The root for what is no name. */
function questionFor(name: string, type: number): Buffer {
  const header = Buffer.alloc(HEADER);
  header.writeUInt16BE(FLAG.RD, 2);
  header.writeUInt16BE(1, 4);
  const tail = Buffer.alloc(4);
  tail.writeUInt16BE(type, 0);
  tail.writeUInt16BE(CLASS_IN, 2);
  return Buffer.concat([header, keyBytes(nameKey(name) ?? ''), tail]);
}

/** Of all sections but the question and OPT: `web.demo 10 A 10.88.0.2`. */
function recordTexts(reply: Buffer): readonly string[] {
  const { answers = [], authorities = [], additionals = [] } = packet.decode(reply);
  return [...answers, ...authorities, ...additionals].flatMap((record) =>
    record.type === 'OPT'
      ? []
      : [`${record.name} ${'ttl' in record ? (record.ttl ?? 0) : 0} ${record.type} ${dataText(record)}`],
  );
}

function dataText(record: packet.Answer): string {
  const data: unknown = 'data' in record ? record.data : '';
  if (typeof data === 'string') return data;
  if (Buffer.isBuffer(data)) return `\\# ${data.length} ${data.toString('hex')}`;
  if (Array.isArray(data)) return data.map((one) => JSON.stringify(String(one))).join(' ');
  return typeof data === 'object' && data !== null ? Object.values(data).map(String).join(' ') : String(data);
}
