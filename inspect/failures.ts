/** Every failure of the admin API as an answer: a code, a sentence, a status. The cause goes to the log, not to the user. */
import type { ErrorRequestHandler, RequestHandler, Response } from 'express';
import { CnmError, ERROR_CODES, type ErrorCode } from '../cnm/errors.ts';
import type { Log } from '../cnm/log.ts';
import { KernelError } from '../kernel/kernel.ts';
import type { ErrorView } from './views.ts';

export const answerUnknownPath: RequestHandler = (request, response) => {
  answer(response, 404, 'request-invalid', `There is no ${request.method} ${printable(request.path)} here`);
};

export function answerError(log: Log): ErrorRequestHandler {
  return (error: unknown, request, response, next) => {
    if (response.headersSent) {
      next(error);
      return;
    }
    if (error instanceof CnmError) {
      if (error.status >= 500) log.error({ err: error, path: request.path }, 'an admin request failed');
      answer(response, error.status, error.code, error.message);
    } else if (error instanceof KernelError) {
      log.error({ err: error, path: request.path }, 'the kernel refused what an admin request needs');
      answer(response, ERROR_CODES.kernel, 'kernel', error.message);
    } else if (isClientError(error)) {
      answer(response, error.status, 'request-invalid', refusal(error));
    } else {
      log.error({ err: error, path: request.path }, 'an admin request failed in a way that nobody foresaw');
      answer(
        response,
        500,
        'internal',
        "The daemon failed at this request; the cause is in the daemon's log",
      );
    }
  };
}

/** What express and its body parser throw for requests that cannot be read (http-errors). */
interface ClientError {
  readonly status: number;
  readonly type?: unknown;
  readonly message: string;
}

function isClientError(error: unknown): error is ClientError {
  if (!(error instanceof Error) || !('status' in error)) return false;
  return typeof error.status === 'number' && error.status >= 400 && error.status < 500;
}

function refusal(error: ClientError): string {
  switch (error.type) {
    case 'entity.too.large':
      return 'The request body is too large: at most 256 KiB';
    case 'entity.parse.failed':
      return 'The request body is not a JSON object';
    default:
      return `The request cannot be read: ${printable(error.message)}`;
  }
}

function printable(text: string): string {
  return JSON.stringify(text.slice(0, 200)).slice(1, -1);
}

function answer(response: Response, status: number, code: ErrorCode, message: string): void {
  const body: ErrorView = { error: { code, message } };
  response.status(status).json(body);
}
