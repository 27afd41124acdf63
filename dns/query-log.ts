/** What was asked and answered: counted, and told to whoever listens. */
import { nameText } from './name.ts';
import type { Rule } from './answer.ts';
import type { Question } from './question.ts';
import { rcodeName, typeName } from './wire.ts';
import type { Member } from './zone.ts';

/** One query and its answer, for people. */
export interface QueryEvent {
  readonly at: string;
  /** The server that it came to: `sandbox web`, `gateway of demo`, `host`. */
  readonly door: string;
  readonly client: string;
  readonly transport: 'udp' | 'tcp';
  readonly name: string;
  readonly type: string;
  readonly rcode: string;
  /** Why; absent for what could not be read. */
  readonly rule?: Rule | 'loop';
  /** The network whose name it is. */
  readonly network?: string;
  readonly endpoints?: readonly string[];
  /** The server that answered; `cache`; or `stale`, a cached answer that has expired. */
  readonly upstream?: string;
  readonly answers: number;
  readonly ms: number;
}

export interface Handled {
  readonly door: string;
  readonly client: string;
  readonly transport: 'udp' | 'tcp';
  readonly question?: Question | undefined;
  readonly rule?: Rule | 'loop' | undefined;
  readonly network?: string | undefined;
  readonly members?: readonly Member[] | undefined;
  readonly upstream?: string | undefined;
  readonly reply: Buffer;
  readonly ms: number;
}

export interface AnswerCount {
  /** Empty: of none. */
  readonly network: string;
  readonly rcode: string;
  readonly count: number;
}

type Listener = (event: QueryEvent) => void;

/** How many codes are counted apart; those above are rare and counted together. */
const RCODES = 11;

export class QueryLog {
  readonly #listeners = new Set<Listener>();
  /** Answers by network (empty: of none), by code. */
  readonly #counts = new Map<string, Uint32Array>();

  note(handled: Handled): void {
    const rcode = Math.min(RCODES, rcodeOf(handled.reply));
    const network = handled.network ?? '';
    let counts = this.#counts.get(network);
    if (counts === undefined) this.#counts.set(network, (counts = new Uint32Array(RCODES + 1)));
    counts[rcode] = (counts[rcode] ?? 0) + 1;
    // Text is made only where somebody reads it.
    if (this.#listeners.size > 0) this.#tell(eventOf(handled));
  }

  #tell(event: QueryEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  /** @returns The way to stop. */
  listen(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  counts(): readonly AnswerCount[] {
    return [...this.#counts].flatMap(([network, counts]) =>
      [...counts].flatMap((count, rcode) =>
        count === 0 ? [] : [{ network, rcode: rcode === RCODES ? 'other' : rcodeName(rcode), count }],
      ),
    );
  }

  /** A network that is gone. */
  drop(network: string): void {
    this.#counts.delete(network);
  }
}

function rcodeOf(reply: Buffer): number {
  return (reply[3] ?? 0) & 15;
}

/** For people. */
export function eventOf(handled: Handled): QueryEvent {
  const { question, reply, rule, network, members, upstream } = handled;
  return {
    at: new Date().toISOString(),
    door: handled.door,
    client: handled.client,
    transport: handled.transport,
    name: question === undefined ? '?' : nameText(question.name),
    type: question === undefined ? '?' : typeName(question.type),
    rcode: rcodeName(rcodeOf(reply)),
    ...(rule !== undefined && { rule }),
    ...(network !== undefined && { network }),
    ...(members !== undefined && { endpoints: members.map(({ host }) => host.id) }),
    ...(upstream !== undefined && { upstream }),
    answers: reply.readUInt16BE(6),
    ms: Math.round(handled.ms * 100) / 100,
  };
}
