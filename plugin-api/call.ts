/** One call of Docker's protocol: from an HTTP request to an operation, and back to JSON, with one line in the log. */
import { Router } from 'express';
import type { NextFunction, Request, RequestHandler, Response } from 'express';
import type { Log } from '../cnm/log.ts';
import { parseJson, readBody } from './body.ts';
import { failureOf, Refusal } from './refusal.ts';

/**
 * `change`: makes, alters or removes something. `question`: has arguments, changes nothing. `greeting`: has no arguments.
 * Replies must be objects: dockerd takes an empty body for the error "EOF".
 */
export interface Call {
  readonly kind: 'change' | 'question' | 'greeting';
  readonly answer: (body: unknown) => object | Promise<object>;
}

/** What the calls of both families share. */
export interface Edge {
  readonly log: Log;
  /** Bytes of a request's body. Default 8 MiB. */
  readonly bodyLimit?: number;
  /**
   * A change was asked for and its arguments are lost: what it had begun when the connection broke may be half made, and
   * Docker may never speak of it again.
   */
  readonly onLostRequest?: ((method: string) => void) | undefined;
  /** dockerd introduces itself: it has just started, or has just loaded this plugin. */
  readonly onEngineStart?: (() => void) | undefined;
}

/** Docker names each published port in the request for its endpoint and again in the one that publishes it: all ports there are make 7 MiB. */
const BODY_LIMIT = 8 * 2 ** 20;

/** The type that pkg/plugins asks for in its Accept header. */
const CONTENT_TYPE = 'application/vnd.docker.plugins.v1.2+json';

/** `calls`: name of the call, as in `NetworkDriver.Join`, to what answers it. */
export function callRouter(calls: Readonly<Record<string, Call>>, edge: Edge): Router {
  const router = Router({ strict: true, caseSensitive: true });
  for (const [method, call] of Object.entries(calls)) {
    router.post(`/${method}`, handler(method, call, edge));
    router.all(`/${method}`, wrongVerb(method));
  }
  return router;
}

export function reply(response: Response, status: number, body: object): void {
  // The connection is gone when a client was timed out or hung up: there is nobody to tell.
  if (response.headersSent || response.destroyed) return;
  const text = JSON.stringify(body);
  response.writeHead(status, { 'Content-Type': CONTENT_TYPE, 'Content-Length': Buffer.byteLength(text) });
  response.end(text);
}

function handler(method: string, call: Call, edge: Edge): RequestHandler {
  return async (request, response) => {
    const started = performance.now();
    let body: unknown;
    const fields = (): object => ({ ...subjects(body), ms: milliseconds(started) });
    try {
      body = await argumentsOf(request, method, call, edge);
      const answer = await call.answer(body);
      reply(response, 200, answer);
      edge.log.debug(fields(), `${method}: ${call.kind === 'question' ? 'answered' : outcome(answer)}`);
    } catch (error) {
      const failure = failureOf(error);
      reply(response, failure.status, failure.body);
      record(edge.log, error, failure.status, fields(), `${method}: ${failure.body.Err}`);
    }
  };
}

/** Our own failures with the stack that finds them; what a caller did wrong, or the kernel refused, as a warning. */
function record(log: Log, error: unknown, status: number, fields: object, message: string): void {
  if (status === 500) log.error({ ...fields, status, err: error }, message);
  else log.warn({ ...fields, status }, message);
}

async function argumentsOf(request: Request, method: string, call: Call, edge: Edge): Promise<unknown> {
  const bytes = await readBody(request, edge.bodyLimit ?? BODY_LIMIT);
  if (call.kind === 'greeting') return undefined;
  if (bytes.length === 0) {
    if (call.kind === 'change') edge.onLostRequest?.(method);
    throw new Refusal(
      400,
      // dockerd's retry sends the drained buffer of the first attempt again (moby issue 35459).
      `The request came without its arguments: Docker repeats a call whose connection broke with an empty body. ` +
        `This repetition changed nothing; run the command again`,
    );
  }
  return parseJson(bytes);
}

function wrongVerb(method: string): RequestHandler {
  return (request, response) => {
    response.setHeader('Allow', 'POST');
    const refusal = failureOf(new Refusal(405, `${method} is called with POST, not ${request.method}`));
    reply(response, refusal.status, refusal.body);
  };
}

/** 404 and nothing else tells dockerd that a call is not implemented (moby remote.md, Errors). */
export function unknownCall(request: Request, response: Response): void {
  const failure = failureOf(new Refusal(404, `${request.path.slice(0, 100)} is not a call of this plugin`));
  reply(response, failure.status, failure.body);
}

/** What express itself refuses, for example a path that is not valid percent-encoding. The four parameters are its sign. */
export function refused(error: unknown, _request: Request, response: Response, next: NextFunction): void {
  if (response.headersSent) {
    next(error);
    return;
  }
  const status = typeof error === 'object' && error !== null && 'status' in error ? error.status : undefined;
  const failure = failureOf(status === 400 ? new Refusal(400, 'The request is malformed') : error);
  reply(response, failure.status, failure.body);
}

const SUBJECTS = {
  NetworkID: 'network',
  EndpointID: 'endpoint',
  SandboxKey: 'sandbox',
  PoolID: 'pool',
  Pool: 'pool',
  Address: 'address',
  AddressIPv6: 'address6',
} as const;

/** What a call is about, for the log: ids as short as `docker network ls` shows them; of CreateEndpoint the addresses, too. */
function subjects(body: unknown): Record<string, string> {
  const found: Record<string, string> = {};
  if (typeof body !== 'object' || body === null) return found;
  for (const [name, value] of Object.entries(body) as [string, unknown][]) {
    if (name === 'Interface') Object.assign(found, subjects(value));
    if (typeof value !== 'string' || value === '' || !Object.hasOwn(SUBJECTS, name)) continue;
    const shown = name === 'NetworkID' || name === 'EndpointID' ? 12 : 128;
    found[SUBJECTS[name as keyof typeof SUBJECTS]] = value.slice(0, shown);
  }
  return found;
}

/** A reply in words: `SrcName veth0c, DstPrefix eth, Gateway 10.1.0.1`; an empty one is `done`. */
function outcome(answer: object): string {
  return [...leaves(answer)].join(', ') || 'done';
}

function* leaves(value: object): Generator<string> {
  for (const [name, leaf] of Object.entries(value) as [string, unknown][]) {
    if (isTexts(leaf)) yield `${name} ${leaf.join(' ')}`;
    else if (typeof leaf === 'object' && leaf !== null) yield* leaves(leaf);
    else if (leaf !== false) yield `${name} ${String(leaf)}`;
  }
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === 'string');
}

function milliseconds(started: number): number {
  return Math.round((performance.now() - started) * 100) / 100;
}
