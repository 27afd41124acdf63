/** The servers of the host's resolv.conf, followed as it changes: a VPN that comes up, a laptop that is carried elsewhere. */
import { readFileSync } from 'node:fs';
import { parseResolvConf, type ResolvConf } from './resolv-conf.ts';

/** Milliseconds. Reading a file of some hundred bytes costs less than finding out through which symbolic links it may be replaced. */
const LOOK_EVERY = 1_000;

export interface HostServers {
  readonly conf: ResolvConf;
  close(): void;
}

/** Calls `changed` when the file says something else. A file that is not there says nothing. */
export function followResolvConf(path: string, changed: () => void): HostServers {
  let text = read(path);
  const servers = {
    conf: parseResolvConf(text),
    close() {
      clearInterval(timer);
    },
  };
  const timer = setInterval(() => {
    const now = read(path);
    if (now === text) return;
    text = now;
    servers.conf = parseResolvConf(now);
    changed();
  }, LOOK_EVERY);
  timer.unref();
  return servers;
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
