/**
 * The names of Docker's containers and networks, followed by its events. Docker tells a driver no names, and what it is told of an
 * endpoint comes before the container has its network: names arrive a moment after the container has started.
 */
import { get } from 'node:http';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import type { EngineContainer, EngineNames, EngineNews } from '../cnm/cnm.ts';
import { apiBase, type EngineOptions, fetchJson, isWanted } from './engine-client.ts';

/** Milliseconds between attempts while the Engine is away. */
const PAUSE = 1_000;
/** Of one event; Docker's have a few hundred bytes, and more where somebody has many labels. */
const LINE_MAX = 2 ** 20;

export function engineNames(options: EngineOptions): EngineNames {
  return {
    follow(listener) {
      const ended = new AbortController();
      void keepFollowing(options, listener, ended.signal);
      return () => {
        ended.abort();
      };
    },
  };
}

async function keepFollowing(
  options: EngineOptions,
  listener: (news: EngineNews) => void,
  signal: AbortSignal,
): Promise<void> {
  const over = () => signal.aborted;
  let told = '';
  while (!over()) {
    try {
      await new Follower(options, listener, signal).run();
      told = '';
    } catch (error) {
      // Where there is no Engine, once is enough.
      if (!over() && told !== String(error))
        options.log.debug({ err: error }, 'no names from the Docker Engine');
      told = String(error);
    }
    await sleep(PAUSE, undefined, { signal, ref: false }).catch(() => undefined);
  }
}

const event = z.object({
  Type: z.string().optional(),
  Action: z.string().optional(),
  Actor: z
    .object({ ID: z.string().optional(), Attributes: z.record(z.string(), z.string()).nullish() })
    .optional(),
});
type Event = z.infer<typeof event>;

const EVENTS = encodeURIComponent(JSON.stringify({ type: ['container', 'network'] }));

/** One connection. */
class Follower {
  readonly #options: EngineOptions;
  readonly #listener: (news: EngineNews) => void;
  readonly #signal: AbortSignal;
  /** By container, in numbers, as events have them: what `docker stop` sends it where its image says so (SIGQUIT to nginx). */
  readonly #stopSignals = new Map<string, string>();
  /** One look after the other, so that a late answer does not take the place of a later one's. */
  #looks: Promise<void> = Promise.resolve();
  /** The next connection begins with a look at all. */
  #isOver = false;

  constructor(options: EngineOptions, listener: (news: EngineNews) => void, signal: AbortSignal) {
    this.#options = options;
    this.#listener = listener;
    this.#signal = signal;
  }

  /** Resolves when the connection is over. @throws when there is none, or the Engine does not say what there is. */
  async run(): Promise<void> {
    const base = await apiBase(this.#options);
    const over = new AbortController();
    try {
      // Listening first: what happens while the list is read is heard of, and looked at once more.
      const signal = AbortSignal.any([this.#signal, over.signal]);
      const stream = await this.#open(`${base}/events?filters=${EVENTS}`, signal);
      await Promise.all([this.#read(stream, base), this.#in(() => this.#all(base))]);
    } finally {
      this.#isOver = true;
      over.abort();
    }
  }

  #open(path: string, signal: AbortSignal): Promise<AsyncIterable<string>> {
    return new Promise((resolve, reject) => {
      const { socket: socketPath } = this.#options;
      const request = get({ socketPath, path, agent: false, signal }, (response) => {
        if (response.statusCode === 200) resolve(response.setEncoding('utf8') as AsyncIterable<string>);
        else reject(new Error(`GET ${path}: the Engine answered ${response.statusCode ?? 0}`));
      });
      request.on('error', reject);
    });
  }

  async #read(stream: AsyncIterable<string>, base: string): Promise<void> {
    let held = '';
    for await (const part of stream) {
      held += part;
      const lines = held.split('\n');
      held = lines.pop() ?? '';
      if (held.length > LINE_MAX) throw new Error('an event without end');
      for (const line of lines) if (line.trim() !== '') this.#hear(event.parse(JSON.parse(line)), base);
    }
  }

  #hear({ Type, Action = '', Actor }: Event, base: string): void {
    const attributes = Actor?.Attributes ?? {};
    const id = Actor?.ID ?? '';
    if (Type === 'network') {
      if (Action === 'create') this.#listener({ what: 'network', id, name: attributes['name'] ?? '' });
      const container = attributes['container'];
      if ((Action === 'connect' || Action === 'disconnect') && container !== undefined)
        this.#look(base, container);
    } else if (Action === 'kill') {
      const signal = attributes['signal'] ?? '';
      if (ENDING.has(signal) || signal === this.#stopSignals.get(id)) this.#stopping(base, id);
    } else if (Action === 'die' || Action === 'destroy') {
      this.#stopSignals.delete(id);
      // Behind the looks that are under way: they saw it alive.
      const told = this.#in(() => {
        this.#listener({ what: 'gone', id, ...(Action === 'destroy' && { removed: true }) });
      });
      told.catch((error: unknown) => {
        this.#options.log.debug({ err: error }, 'the end of a container could not be told');
      });
    } else if (['start', 'rename', 'update', 'unpause'].includes(Action)) this.#look(base, id);
  }

  /** It leaves the answers before it is gone; should it live on, it comes back. */
  #stopping(base: string, id: string): void {
    this.#listener({ what: 'stopping', id });
    this.#lookLater(base, id, AFTER_STOP);
  }

  #look(base: string, id: string): void {
    const look = this.#in(async () => {
      const container = await this.#inspect(base, id);
      this.#listener(container === undefined ? { what: 'gone', id } : { what: 'container', container });
    });
    look.catch((error: unknown) => {
      // One that is busy; nothing else may happen to the container that would make us look.
      this.#options.log.debug({ err: error }, 'a container could not be looked at; tried again');
      this.#lookLater(base, id, PAUSE);
    });
  }

  #lookLater(base: string, id: string, after: number): void {
    const timer = setTimeout(() => {
      if (!this.#signal.aborted && !this.#isOver) this.#look(base, id);
    }, after);
    timer.unref();
  }

  /** Undefined: it does not run, or is gone. */
  async #inspect(base: string, id: string): Promise<EngineContainer | undefined> {
    const reply = await fetchJson(this.#options, `${base}/containers/${encodeURIComponent(id)}/json`);
    if (reply === undefined) return undefined;
    const read = inspected.parse(reply);
    const signal = signalNumber(read.Config.StopSignal ?? '');
    if (read.State.Running && signal !== undefined) this.#stopSignals.set(id, signal);
    return containerOf(read);
  }

  #in(work: () => Promise<void> | void): Promise<void> {
    const next = this.#looks.then(work);
    this.#looks = next.catch(() => undefined);
    return next;
  }

  async #all(base: string): Promise<void> {
    const networks = networkList.parse(await fetchJson(this.#options, `${base}/networks`));
    const ours = networks.filter((network) => isWanted(network.Driver, this.#options.drivers));
    const listed = containerList.parse(await fetchJson(this.#options, `${base}/containers/json`));
    const containers: EngineContainer[] = [];
    for (const { Id } of listed) {
      const container = await this.#inspect(base, Id);
      if (container !== undefined) containers.push(container);
    }
    this.#listener({
      what: 'all',
      networks: ours.map(({ Id, Name }) => ({ id: Id, name: Name })),
      containers,
    });
  }
}

/** SIGTERM and SIGKILL. */
const ENDING = new Set(['15', '9']);
/** Docker kills what has not ended 10 s after it was told to. */
const AFTER_STOP = 12_000;

const networkList = z.array(z.object({ Id: z.string(), Name: z.string(), Driver: z.string() }));
const containerList = z.array(z.object({ Id: z.string() }));

const inspected = z.object({
  Id: z.string(),
  Name: z.string(),
  State: z.object({ Running: z.boolean() }),
  Config: z.object({
    Hostname: z.string().optional(),
    StopSignal: z.string().optional(),
    ExposedPorts: z.record(z.string(), z.unknown()).nullish(),
  }),
  NetworkSettings: z.object({
    Networks: z
      .record(
        z.string(),
        z.object({
          NetworkID: z.string(),
          EndpointID: z.string(),
          Aliases: z.array(z.string()).nullish(),
          DNSNames: z.array(z.string()).nullish(),
        }),
      )
      .nullish(),
    Ports: z.record(z.string(), z.unknown()).nullish(),
  }),
});

/** `SIGQUIT`, `QUIT` or `3`, as in an image's STOPSIGNAL. */
function signalNumber(text: string): string | undefined {
  if (/^\d+$/.test(text)) return text;
  const known = Object.entries(constants.signals).find(([name]) => name === text || name === `SIG${text}`);
  return known === undefined ? undefined : String(known[1]);
}

/** Undefined: it does not run. */
function containerOf({
  Id,
  Name,
  State,
  Config,
  NetworkSettings,
}: z.infer<typeof inspected>): EngineContainer | undefined {
  if (!State.Running) return undefined;
  const networks = Object.values(NetworkSettings.Networks ?? {});
  return {
    id: Id,
    name: Name.replace(/^\//, ''),
    hostname: Config.Hostname ?? '',
    endpoints: networks
      .filter(({ EndpointID }) => EndpointID !== '')
      .map(({ EndpointID, NetworkID, Aliases, DNSNames }) => ({
        id: EndpointID,
        network: NetworkID,
        aliases: [...(Aliases ?? []), ...(DNSNames ?? [])],
      })),
    ports: [
      ...new Set([...Object.keys(Config.ExposedPorts ?? {}), ...Object.keys(NetworkSettings.Ports ?? {})]),
    ],
  };
}
