/** From a query to its answer: ours at once, others' when they have come. Knows no sockets of askers. */
import { randomBytes } from 'node:crypto';
import { decide } from './answer.ts';
import type { Forwarded, Forwarder } from './forwarder.ts';
import { keyOf, type NameKey } from './name.ts';
import { parseQuery, type Question, sizeLimit } from './question.ts';
import type { Handled, QueryLog } from './query-log.ts';
import { encodeFailure, encodeRefusal, encodeReply, truncated } from './reply.ts';
import type { Upstream } from './upstream.ts';
import { HEADER, RCODE } from './wire.ts';
import type { View, Zone } from './zone.ts';

/** Where queries come in. */
export interface Door {
  /** For people: `sandbox web`. */
  readonly name: string;
  /** What whoever has this address may see. */
  view(client: string): View;
  /** Who it is that asks, for sharing what there is room for: a sandbox, or an address. */
  owner(client: string): string;
}

export interface ResolverParts {
  readonly zone: Zone;
  readonly forwarder: Forwarder;
  readonly log: QueryLog;
  /** The servers that queries from this view go to. */
  readonly upstreams: (view: View) => readonly Upstream[];
  /** A query of ours has come back to us: this number went to the server that leads here. */
  readonly onLoop?: (probe: number) => void;
  readonly onFault?: (error: unknown) => void;
  readonly now?: () => number;
}

type About = Partial<Pick<Handled, 'question' | 'rule' | 'network' | 'members' | 'upstream'>>;

/** Names that only we ask for, to see whether they come back. */
const PROBES: NameKey = keyOf('loop.cnm.internal');

export class Resolver {
  readonly #parts: ResolverParts;
  readonly #now: () => number;
  readonly #secret = randomBytes(8).toString('hex');

  constructor(parts: ResolverParts) {
    this.#parts = parts;
    this.#now = parts.now ?? (() => performance.now());
  }

  /** The name to ask a server for, to learn whether it leads back to us. */
  probeName(number: number): string {
    return `${this.#secret}-${number}.loop.cnm.internal`;
  }

  /**
   * Calls `send` once: at once for what we know ourselves. Never throws, whatever the bytes.
   * @returns false for what is no query, and gets no answer
   */
  handle(
    query: Buffer,
    transport: 'udp' | 'tcp',
    door: Door,
    client: string,
    send: (reply: Buffer, about: Handled) => void,
  ): boolean {
    const began = this.#now();
    const parsed = parseQuery(query);
    if (parsed === undefined) return false;
    let finished = false;
    const finish = (reply: Buffer, { question, rule, network, members, upstream }: About) => {
      finished = true;
      const ms = this.#now() - began;
      // Field by field: this is made for every query, and a spread takes its time.
      const handled = {
        door: door.name,
        client,
        transport,
        reply,
        ms,
        question,
        rule,
        network,
        members,
        upstream,
      };
      send(reply, handled);
      this.#parts.log.note(handled);
    };
    if ('refused' in parsed) {
      finish(encodeRefusal(parsed.id, parsed.flags, parsed.refused), {});
      return true;
    }
    const { question } = parsed;
    // Nothing that somebody sends may end the process, nor go unanswered. That it could is a fault of ours.
    const fail = (error: unknown) => {
      this.#parts.onFault?.(error);
      if (!finished) finish(encodeFailure(query, question, RCODE.SERVFAIL), { question });
    };
    try {
      this.#decide(query, question, transport, door, client, finish)?.catch(fail);
    } catch (error) {
      fail(error);
    }
    return true;
  }

  /** @returns a promise of what is forwarded */
  #decide(
    query: Buffer,
    question: Question,
    transport: 'udp' | 'tcp',
    door: Door,
    client: string,
    finish: (reply: Buffer, more: About) => void,
  ): Promise<void> | undefined {
    const view = door.view(client);
    const decision = decide(this.#parts.zone, view, question);
    const { rule, network, members } = decision;
    const about: About = { question, rule, network, members };
    const limit = sizeLimit(question, transport);
    if (decision.answer !== undefined) finish(encodeReply(query, question, decision.answer, limit), about);
    else if (decision.refuse !== undefined) finish(encodeFailure(query, question, decision.refuse), about);
    else if (question.name.endsWith(PROBES) && this.#comesBack(question))
      finish(encodeFailure(query, question, RCODE.REFUSED), { ...about, rule: 'loop' });
    else {
      const upstreams = this.#parts.upstreams(view);
      const forwarded = (result: Forwarded) => {
        handOn(result, query, question, limit, about, finish);
      };
      const kept = this.#parts.forwarder.recall(question, upstreams);
      // The query is kept meanwhile: a datagram's buffer is its own, and so is a TCP message's.
      if (kept === undefined)
        return this.#parts.forwarder
          .ask(query, question, transport, upstreams, door.owner(client))
          .then(forwarded);
      forwarded(kept);
    }
    return undefined;
  }

  #comesBack({ name }: Question): boolean {
    const [, number] = new RegExp(`^.${this.#secret}-(\\d+)`, 's').exec(name) ?? [];
    if (number === undefined) return false;
    this.#parts.onLoop?.(Number(number));
    return true;
  }
}

function handOn(
  result: Forwarded,
  query: Buffer,
  question: Question,
  limit: number,
  about: About,
  finish: (reply: Buffer, more: About) => void,
): void {
  if ('failed' in result) {
    finish(encodeFailure(query, question, RCODE.SERVFAIL), { ...about, upstream: result.failed });
    return;
  }
  // One that came just now may be many askers'; the cache gives copies.
  const reply = addressed(result.cached ? result.reply : Buffer.from(result.reply), query, question);
  const fitting = reply.length <= limit ? reply : truncated(reply, question, limit);
  finish(fitting, { ...about, upstream: result.upstream });
}

/** Makes of a reply to somebody's question the reply to this one: its number, and its letters (RFC 4343: others may have asked in capitals). */
function addressed(own: Buffer, query: Buffer, { id, end }: Question): Buffer {
  own.writeUInt16BE(id, 0);
  if (own.length >= end) query.copy(own, HEADER, HEADER, end);
  return own;
}
