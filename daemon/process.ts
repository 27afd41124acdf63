/** The life of the daemon as a process: from its start to a signal, with exit statuses that systemd and Docker act on. */
import { execFile } from 'node:child_process';
import type { Log } from '../cnm/log.ts';

export interface Daemon {
  /** Resolves when records and kernel agree and requests are answered; rejects when the kernel refuses us. */
  readonly ready: Promise<void>;
  /** Lets what is under way finish and removes the sockets. Networks stay as they are: their traffic must not notice. */
  close(): Promise<void>;
}

export interface ProcessLog extends Log {
  fatal(fields: object, message: string): void;
}

/** Docker kills a plugin 10 s after the signal. */
const STOP_BOUND_MS = 9_000;

/** Exits with 0 after SIGTERM or SIGINT, with 1 after what nobody foresaw. Returns once the daemon is ready. */
export async function runUntilSignal(log: ProcessLog, open: () => Promise<Daemon>): Promise<void> {
  const die = (message: string) => (error: unknown) => {
    log.fatal({ err: error }, message);
    process.exit(1);
  };
  // The state is safe at every point, and a process that goes on after what nobody foresaw is not.
  process.on('uncaughtException', die('an error that nothing handles'));
  process.on('unhandledRejection', die('a promise that nothing handles'));
  const daemon = await open();
  const stop = (signal: string) => {
    log.info({ signal }, 'stopping; networks stay as they are');
    setTimeout(die('could not stop in time'), STOP_BOUND_MS, signal).unref();
    daemon.close().then(() => process.exit(0), die('could not stop in order'));
  };
  for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, stop);
  await daemon.ready;
  notifySystemd(log);
}

/** Type=notify. Node has no datagram sockets in the unix domain, so systemd's own tool says it. */
function notifySystemd(log: Log): void {
  if (process.env['NOTIFY_SOCKET'] === undefined) return;
  execFile('systemd-notify', ['--ready'], (error) => {
    if (error !== null) log.warn({ err: error }, 'systemd could not be told that the daemon is ready');
  });
}
