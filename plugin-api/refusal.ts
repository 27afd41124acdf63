/** What an error looks like on the wire: a status, and a sentence under the key that Docker reads. */
import { CnmError, messageOf } from '../cnm/errors.ts';

/** A request refused by HTTP itself, before any operation of ours. */
export class Refusal extends Error {
  override readonly name = 'Refusal';
  readonly status: number;
  constructor(status: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.status = status;
  }
}

export interface Failure {
  readonly status: number;
  readonly body: { readonly Err: string; readonly Error: string };
}

/**
 * Every failure is an HTTP error status with `{"Err": sentence}`. dockerd then shows "NetworkDriver.CreateNetwork:
 * sentence" (moby pkg/plugins/client.go), which names the call that failed; with status 200 it would show "remote:
 * sentence". It is the one form that both families understand: of an IPAM driver dockerd reads `Error` when the status is
 * 200, but `Err` when it is not. `Error` goes along for readers of ipam.md who look for it.
 *
 * 404 is kept for calls that do not exist. dockerd takes it for "not implemented" and, for the two calls of external
 * connectivity, goes on as if all were well (drivers/remote/driver.go), so an unknown endpoint must not answer it.
 */
export function failureOf(error: unknown): Failure {
  const message = messageOf(error);
  return { status: statusOf(error), body: { Err: message, Error: message } };
}

function statusOf(error: unknown): number {
  if (error instanceof Refusal) return error.status;
  if (error instanceof CnmError) return error.status === 404 ? 400 : error.status;
  return 500;
}
