/**
 * What one other host answers to the questions of a test, gathered. Each question goes out until it is answered or there is no more
 * patience; what each answer proves stands beside the question.
 */
import type { Ip } from '../../../address/ip.ts';
import type { Unreachable } from './icmp.ts';
import type { Answer, Ask, Side, Way } from './message.ts';
import type { Tunnel, TunnelHere } from './tunnels.ts';

/** Number of the question, and of those about a size: SIZES + its length. */
export const QUESTION = {
  there: 1,
  back: 2,
  fullThere: 3,
  fullBack: 4,
  offloadThere: 5,
  offloadBack: 6,
  entries: 7,
} as const;
const THERE_SIZES = 1000;
const BACK_SIZES = 2000;

/** What is known of the way to one host and back. */
export interface Evidence {
  readonly peer: Ip;
  /** Its kernel answered an echo request. */
  readonly pong: boolean;
  /** Its daemon answered, by whatever way. */
  readonly answered: boolean;
  /** Something that went through the tunnel arrived there; here. */
  readonly there: boolean;
  readonly back: boolean;
  /** The same of a datagram as large as the network's links take. */
  readonly fullThere: boolean;
  readonly fullBack: boolean;
  /** The same of one whose checksum a device had to compute. */
  readonly offloadThere: boolean;
  readonly offloadBack: boolean;
  /** The longest packet inside the tunnel that arrived, looked for where the full one did not. */
  readonly longestThere?: number;
  readonly longestBack?: number;
  /** What routers and the host said of datagrams to the tunnel's port, each once, with who said it. */
  readonly unreachable: readonly (Unreachable & { readonly by: Ip })[];
  /** Why this host's kernel, or the other's, refused to send: errno by question. */
  readonly refused: ReadonlyMap<number, string>;
  readonly side?: Side;
  readonly others: readonly string[];
  readonly entries: readonly (readonly [string, string])[];
  /** Milliseconds that its clock is ahead. */
  readonly clockAhead?: number;
}

export type Heard =
  | {
      readonly kind: 'answer';
      readonly answer: Answer;
      readonly way: 'icmp' | 'tunnel';
      /** This host's clock when it came in, in milliseconds since 1970. */
      readonly at: number;
    }
  /** The kernel of that host answered an echo request of ours. */
  | { readonly kind: 'pong'; readonly from: Ip; readonly id: string }
  | { readonly kind: 'unreachable'; readonly what: Unreachable; readonly by: Ip };

/** By which messages come and go: daemon/overlay-check/station.ts. */
export interface Line {
  send(tunnel: Tunnel, to: Ip, way: Way, message: Ask, size?: number): string | undefined;
  listen(listener: (heard: Heard) => void): () => void;
}

export interface Pace {
  /** Milliseconds between two attempts, and how many. */
  readonly interval: number;
  readonly attempts: number;
  readonly wait: (milliseconds: number) => Promise<void>;
  /** Milliseconds since whenever, by a clock that nobody sets. */
  readonly elapsed: () => number;
}

interface Question {
  readonly question: number;
  readonly ways: readonly Way[];
  readonly by: readonly Way[];
  /** Of what goes through the tunnel there, and back. */
  readonly size?: number;
  readonly sizeBack?: number;
  readonly entries?: true;
  /** What it wants to know. */
  readonly settledBy: (answer: Answer, way: 'icmp' | 'tunnel') => boolean;
}

const CONTROL: readonly Way[] = ['icmp', 'tunnel'];
const anyAnswer = () => true;

function questions(mtu: number): readonly Question[] {
  const there = { by: CONTROL, settledBy: (answer: Answer) => answer.heard !== 'icmp' };
  const back = (way: Way) => ({
    ways: CONTROL,
    settledBy: (answer: Answer, by: Way) => by === 'tunnel' && answer.way === way,
  });
  return [
    { question: QUESTION.there, ways: ['tunnel'], ...there },
    { question: QUESTION.back, by: ['icmp', 'tunnel'], ...back('tunnel') },
    { question: QUESTION.fullThere, ways: ['tunnel'], size: mtu, ...there },
    { question: QUESTION.fullBack, by: ['tunnel', 'icmp'], sizeBack: mtu, ...back('tunnel') },
    { question: QUESTION.offloadThere, ways: ['offload'], ...there },
    { question: QUESTION.offloadBack, by: ['offload'], ...back('offload') },
    { question: QUESTION.entries, ways: CONTROL, by: ['tunnel'], entries: true, settledBy: anyAnswer },
  ];
}

export class Survey {
  readonly #line: Line;
  readonly #tunnel: Tunnel;
  readonly #here: TunnelHere;
  readonly #peer: Ip;
  readonly #id: string;
  readonly #settled = new Set<number>();
  readonly #refused = new Map<number, string>();
  readonly #unreachable = new Map<string, Unreachable & { readonly by: Ip }>();
  readonly #told = new Set<string>();
  #pong = false;
  #answered = false;
  #side: Side | undefined;
  #others: readonly string[] = [];
  #entries: readonly (readonly [string, string])[] = [];
  #clockAhead: number | undefined;

  constructor(line: Line, tunnel: Tunnel, here: TunnelHere, peer: Ip, id: string) {
    this.#line = line;
    this.#tunnel = tunnel;
    this.#here = here;
    this.#peer = peer;
    this.#id = id;
  }

  async run(pace: Pace): Promise<Evidence> {
    const stop = this.#line.listen((heard) => {
      this.#hear(heard);
    });
    try {
      const { mtu } = this.#here;
      await this.#ask(questions(mtu), pace);
      const [there, back] = [this.#has('there'), this.#has('back')];
      const longestThere =
        there && !this.#has('fullThere') ? await this.#longest(THERE_SIZES, pace) : undefined;
      const longestBack = back && !this.#has('fullBack') ? await this.#longest(BACK_SIZES, pace) : undefined;
      return {
        ...this.#evidence(),
        ...(longestThere && { longestThere }),
        ...(longestBack && { longestBack }),
      };
    } finally {
      stop();
    }
  }

  #evidence(): Evidence {
    const flags = Object.fromEntries(
      (Object.keys(QUESTION) as (keyof typeof QUESTION)[]).map((name) => [name, this.#has(name)]),
    ) as Record<Exclude<keyof typeof QUESTION, 'entries'>, boolean>;
    return {
      ...flags,
      peer: this.#peer,
      pong: this.#pong,
      answered: this.#answered,
      unreachable: [...this.#unreachable.values()],
      refused: this.#refused,
      others: this.#others,
      entries: this.#entries,
      ...(this.#side && { side: this.#side }),
      ...(this.#clockAhead !== undefined && { clockAhead: this.#clockAhead }),
    };
  }

  #has(name: keyof typeof QUESTION): boolean {
    return this.#settled.has(QUESTION[name]);
  }

  /** Those of the questions that have no answer, again and again. */
  async #ask(wanted: readonly Question[], { interval, attempts, wait, elapsed }: Pace): Promise<void> {
    const asked = new Map(wanted.map((one) => [one.question, one]));
    this.#asked = asked;
    for (let attempt = 0; attempt < attempts; attempt += 1) {
      const open = wanted.filter(({ question }) => !this.#settled.has(question));
      if (open.length === 0) return;
      for (const one of open) this.#send(one);
      const end = elapsed() + interval;
      while (elapsed() < end && open.some(({ question }) => !this.#settled.has(question))) await wait(10);
    }
  }

  #asked: ReadonlyMap<number, Question> = new Map();

  #send({ question, ways, by, size = 0, sizeBack = 0, entries }: Question): void {
    const { vni, port } = this.#tunnel;
    for (const way of ways) {
      const ask: Ask = {
        say: 'ask',
        id: this.#id,
        question,
        from: this.#here.local,
        vni,
        port,
        way,
        by: [...by],
        size: sizeBack,
        ...(entries && { entries }),
      };
      const errno = this.#line.send(this.#tunnel, this.#peer, way, ask, size);
      if (errno !== undefined && way !== 'icmp') this.#refused.set(question, errno);
    }
  }

  #hear(heard: Heard): void {
    if (heard.kind === 'pong') {
      if (heard.id === this.#id && heard.from === this.#peer) this.#pong = true;
    } else if (heard.kind === 'answer') this.#take(heard);
    else if (heard.what.to === this.#peer && heard.what.port === this.#tunnel.port)
      this.#unreachable.set(`${heard.what.why} ${heard.by} ${heard.what.mtu ?? ''}`, {
        ...heard.what,
        by: heard.by,
      });
  }

  #take({ answer, way, at }: Extract<Heard, { kind: 'answer' }>): void {
    if (answer.id !== this.#id) return;
    const asked = this.#asked.get(answer.question);
    if (asked === undefined) return;
    this.#answered = true;
    this.#side = answer.side ?? this.#side;
    this.#others = answer.others ?? this.#others;
    this.#entries = answer.entries ?? this.#entries;
    this.#clockAhead ??= answer.clock - at;
    if (answer.failed !== undefined) this.#refused.set(answer.question, answer.failed);
    // Whatever has come out of the tunnel proves both of its directions, if it was asked through it.
    if (answer.heard === 'tunnel') this.#settled.add(QUESTION.there);
    if (way === 'tunnel') this.#settled.add(QUESTION.back);
    if (asked.settledBy(answer, way)) this.#settled.add(answer.question);
  }

  /** Thirty-two lengths at once, then thirty-two between the two that it lies between. */
  async #longest(base: number, pace: Pace): Promise<number | undefined> {
    let [low, high] = [LEAST, this.#here.mtu - 1];
    for (let round = 0; round < ROUNDS && low < high; round += 1) {
      const lengths = spread(low, high);
      await this.#ask(
        lengths.map((size, index) => sized(base, round * AT_ONCE + index, size)),
        { ...pace, attempts: 2 },
      );
      const passed = lengths.filter((_, index) => this.#settled.has(base + round * AT_ONCE + index));
      const best = passed.at(-1);
      if (best === undefined) return undefined;
      [low, high] = [best, (lengths.find((size) => size > best) ?? high + 1) - 1];
    }
    return low;
  }
}

/** A message with nothing added to it fits. */
const LEAST = 480;
const AT_ONCE = 32;
const ROUNDS = 3;

function spread(low: number, high: number): readonly number[] {
  const steps = Math.min(AT_ONCE - 1, high - low);
  return Array.from({ length: steps + 1 }, (_, index) => low + Math.floor(((high - low) * index) / steps));
}

function sized(base: number, number: number, size: number): Question {
  const question = base + number;
  if (base === THERE_SIZES)
    return {
      question,
      ways: ['tunnel'],
      by: CONTROL,
      size,
      settledBy: (answer) => answer.heard === 'tunnel',
    };
  return { question, ways: CONTROL, by: ['tunnel'], sizeBack: size, settledBy: (_, way) => way === 'tunnel' };
}
