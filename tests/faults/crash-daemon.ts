/**
 * The real daemon, that can be told to die: `main.ts`'s own composition over the real kernel and the real store, with a
 * count of the points at which a crash makes a difference: before each step of the kernel, and before and after each
 * write of the store. Takes cnmd's arguments.
 *
 * `CNM_CRASH_AT=N` kills it with SIGKILL at the N-th point (from 0) of its start. `CNM_CRASH_CONTROL=PATH`: a socket
 * that answers `arm N` (forget what was counted, die at the N-th point from now; `arm` alone only counts) and `points`
 * (the names of the points since then, one line as JSON). `CNM_CRASH_PACE=quick`: reclaims without waiting.
 */
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { Log } from '../../cnm/log.ts';
import { type Configuration, parseConfiguration } from '../../daemon/configuration.ts';
import { drivers } from '../../drivers/index.ts';
import { openKernel } from '../../kernel/linux.ts';
import { compose } from '../../main.ts';
import { openStore } from '../../store/sqlite.ts';
import type { Change, Store } from '../../store/store.ts';

/** Dies at its `at`-th point; everything after is never reached. */
class Death {
  #at: number;
  #lived: string[] = [];

  constructor(at: number) {
    this.#at = at;
  }

  arm(at: number): void {
    this.#at = at;
    this.#lived = [];
  }

  get points(): readonly string[] {
    return this.#lived;
  }

  /** SIGKILL to oneself is delivered before kill(2) returns: not one instruction of ours is run after it. */
  point(what: string): void {
    if (this.#lived.length >= this.#at) process.kill(process.pid, 'SIGKILL');
    this.#lived.push(what);
  }
}

function mortal(store: Store, death: Death): Store {
  return {
    get: (key) => store.get(key),
    list: (prefix) => store.list(prefix),
    notices: store.notices,
    close: () => store.close(),
    async write(changes) {
      const what = changes.map(nameOf).join(', ');
      death.point(`before the write of ${what}`);
      await store.write(changes);
      death.point(`after the write of ${what}`);
    },
  };
}

function nameOf(change: Change): string {
  if ('delete' in change) return `-${change.delete}`;
  const value = change.value as { readonly state?: unknown } | null;
  return `+${change.put}${typeof value?.state === 'string' ? ` ${value.state}` : ''}`;
}

/** One line in, one line out. */
function listenControl(path: string, death: Death): Promise<void> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', (line) => {
      const [word, number] = line.toString('utf8').trim().split(' ');
      if (word === 'arm') death.arm(number === undefined ? Infinity : Number(number));
      socket.end(`${JSON.stringify(word === 'points' ? death.points : 'armed')}\n`);
    });
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, resolve);
  });
}

function textLog(): Log {
  const at = (level: string) => (fields: object, message: string) => {
    process.stderr.write(`${level} ${message} ${JSON.stringify(fields)}\n`);
  };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/** What Docker has forgotten is reclaimed at once: where nothing of Docker's is under way. */
const QUICK = {
  minimumAge: 100,
  interval: 50,
  leaseAge: 100,
  reclaimSoon: 60,
  reclaimEvery: 500,
  repairAfter: 100,
};

async function mortalDaemon(configuration: Configuration): Promise<void> {
  const death = new Death(Number(process.env['CNM_CRASH_AT'] ?? Infinity));
  const log = textLog();
  const pace = process.env['CNM_CRASH_PACE'] === 'quick' ? QUICK : {};
  const store = mortal(await openStore(configuration.stateDir), death);
  const kernel = await openKernel({
    netnsDir: join(configuration.runDir, 'netns'),
    log,
    beforeStep: (step, phase) => {
      death.point(`before ${phase} of ${step?.do ?? 'the end of the plan'}`);
    },
  });
  const daemon = await compose(configuration, log, { kernel, store, pace });
  await daemon.ready;
  // A start that has fewer points is survived; what upkeep does later is not part of it.
  death.arm(Infinity);
  const control = process.env['CNM_CRASH_CONTROL'];
  if (control !== undefined) await listenControl(control, death);
  process.once('SIGTERM', () => {
    void daemon.close().then(() => process.exit(0));
  });
}

const request = parseConfiguration(
  process.argv.slice(2),
  process.env,
  drivers.map(({ name }) => name.replace(/^cnm-/, '')),
);
if (request.do !== 'run') throw new Error('crash-daemon.ts takes the arguments of a cnmd that runs');
await mortalDaemon(request.configuration);
