/** Our accept rules in Docker's chain for users: found, put in, taken out. What they say stands in accept-rules.ts. */
import { readFileSync } from 'node:fs';
import { checked, CHAIN, completeIn, edit, parseListing } from './accept-rules.ts';
import type { Accept, Listing } from './accept-rules.ts';
import { chainRequest, NFPROTO_IPV4, NFPROTO_IPV6 } from './element-batch.ts';
import type { AcceptRule, Facts } from './facts.ts';
import { KernelError } from './kernel.ts';
import { NETLINK_NETFILTER, openNetlinkSocket } from './netlink.ts';
import type { NetlinkSocket } from './netlink.ts';
import { OwnPorts } from './own-ports.ts';
import { run } from './run.ts';
import type { ForwardAccept } from './step.ts';
import type { Syscalls } from './syscall.ts';

export interface AcceptFacts extends Pick<Facts, 'accepts' | 'acceptChain'> {
  /** What keeps us from looking or acting, in words: Docker's chain is there, but not the program that changes it. */
  readonly problems: readonly string[];
}

/**
 * All of them look at the chain anew: Docker, its users and firewall tools change it at any time.
 * Calls that come while one runs are done together, in one transaction per family.
 */
export interface ForwardAccepts {
  /**
   * Success with nothing done where there is no DOCKER-USER chain.
   * @throws KernelError with iptables' own message; then nothing has changed.
   */
  apply(accept: ForwardAccept): Promise<void>;
  /** Takes away exactly the rules with this network's comment and this bridge, however many there are. */
  revert(accept: Pick<ForwardAccept, 'bridge' | 'mark'>): Promise<void>;
  dump(): Promise<AcceptFacts>;
  close(): void;
}

/** In the network namespace of the process. */
export function openForwardAccepts(sys: Syscalls, own: OwnPorts = new OwnPorts()): ForwardAccepts {
  return new DockerUserChain(openNetlinkSocket(sys, NETLINK_NETFILTER), own);
}

/**
 * The two forms of iptables hold separate tables, and packets pass both. Docker uses the one that `iptables` was when it
 * started, so that after a change of alternatives both may have its chain.
 */
interface Backend {
  readonly family: 4 | 6;
  readonly form: 'nft' | 'legacy';
}

const BACKENDS: readonly Backend[] = [
  { family: 4, form: 'nft' },
  { family: 6, form: 'nft' },
  { family: 4, form: 'legacy' },
  { family: 6, form: 'legacy' },
];

/** How often to look again when someone else changed the chain between our look and our change. */
const ATTEMPTS = 3;
/** Seconds to wait for another iptables that holds the lock of the legacy form. */
const WAIT = '5';

interface Change extends Accept {
  readonly remove: boolean;
}

class DockerUserChain implements ForwardAccepts {
  readonly #socket: NetlinkSocket;
  readonly #own: OwnPorts;
  #waiting: Change[] = [];
  #next: Promise<void> | undefined;
  #running: Promise<unknown> = Promise.resolve();

  constructor(socket: NetlinkSocket, own: OwnPorts) {
    this.#socket = socket;
    this.#own = own;
  }

  apply(accept: ForwardAccept): Promise<void> {
    return this.#change(accept, false);
  }

  revert(accept: Pick<ForwardAccept, 'bridge' | 'mark'>): Promise<void> {
    return this.#change(accept, true);
  }

  async #change({ bridge, mark }: Pick<ForwardAccept, 'bridge' | 'mark'>, remove: boolean): Promise<void> {
    const accept = { bridge, network: mark.network.slice(0, 12) };
    // For a name that is refused there are no rules; taking them away must succeed, or its plan could never be undone.
    this.#waiting.push({ ...(remove ? accept : checked(accept)), remove });
    this.#next ??= this.#running.then(() => {
      const changes = this.#waiting;
      this.#waiting = [];
      this.#next = undefined;
      const done = this.#perform(changes);
      this.#running = done.catch(() => undefined);
      return done;
    });
    await this.#next;
  }

  async #perform(changes: readonly Change[]): Promise<void> {
    const last = [
      ...new Map(changes.map((change) => [`${change.bridge} ${change.network}`, change])).values(),
    ];
    const adds = last.filter(({ remove }) => !remove);
    const removes = last.filter(({ remove }) => remove);
    const backends = this.#present();
    const outcomes = await Promise.allSettled(
      backends.map((backend) => bring(backend, adds, removes, this.#own)),
    );
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed === undefined) return;
    // Each family is a transaction of its own: what one took in is taken out again when another refused.
    await Promise.allSettled(
      backends.map(async (backend, i) => {
        const outcome = outcomes[i];
        if (outcome?.status === 'fulfilled') await bring(backend, [], outcome.value, this.#own);
      }),
    );
    throw failed.reason;
  }

  async dump(): Promise<AcceptFacts> {
    const problems: string[] = [];
    const listed = await Promise.all(
      this.#present().map(async (backend) => {
        const listing = await list(backend).catch((error: unknown) => {
          problems.push(`${CHAIN} (IPv${backend.family}, ${backend.form}): ${String(error)}`);
          return undefined;
        });
        return { family: backend.family, listing };
      }),
    );
    const holding = (family: 4 | 6): readonly Listing[] =>
      listed.flatMap(({ family: own, listing }) =>
        own === family && listing?.rules !== undefined ? [listing] : [],
      );
    return {
      accepts: [...inAll(4, holding(4)), ...inAll(6, holding(6))],
      acceptChain: { v4: holding(4).length > 0, v6: holding(6).length > 0 },
      problems,
    };
  }

  /** Where Docker's chain may be, told without running anything and without making a table by looking. */
  #present(): readonly Backend[] {
    const nft = BACKENDS.filter(({ form }) => form === 'nft');
    const { replies } = this.#socket.transact(
      nft.map(({ family }) => chainRequest(family === 4 ? NFPROTO_IPV4 : NFPROTO_IPV6, 'filter', CHAIN)),
    );
    return [
      ...nft.filter((_, i) => replies.has(i)),
      ...BACKENDS.filter(({ form, family }) => form === 'legacy' && hasLegacyFilter(family)),
    ];
  }

  close(): void {
    this.#socket.close();
  }
}

/** The legacy tables that exist in this namespace: `iptables-legacy -S` would make one. */
export function hasLegacyFilter(family: 4 | 6): boolean {
  try {
    const names = readFileSync(`/proc/net/ip${family === 4 ? '' : '6'}_tables_names`, 'utf8');
    return names.split('\n').includes('filter');
  } catch {
    // The kernel has no legacy iptables.
    return false;
  }
}

/** What Docker's chain holds in the legacy form, to be compared with what it held before. */
export async function listLegacy(): Promise<string> {
  const legacy = BACKENDS.filter(({ form, family }) => form === 'legacy' && hasLegacyFilter(family));
  const listings = await Promise.all(
    legacy.map((backend) => list(backend).catch((error: unknown) => String(error))),
  );
  return JSON.stringify(listings);
}

/** @throws KernelError */
async function list(backend: Backend): Promise<Listing> {
  return parseListing(await run(program(backend), ['-w', WAIT, '-S']));
}

/**
 * Make the chain of one backend as it should be; answers which groups were put in. A missing program is nothing to do:
 * `dump` reports it.
 */
async function bring(
  backend: Backend,
  adds: readonly Accept[],
  removes: readonly Accept[],
  own: OwnPorts,
): Promise<readonly Accept[]> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const { rules, guards } = await list(backend);
      const change = rules && edit({ rules, guards }, adds, removes);
      if (change === undefined) return [];
      await run(`${program(backend)}-restore`, ['--noflush', '-w', WAIT], change.input, own);
      return change.added;
    } catch (error) {
      if (error instanceof KernelError && error.errno === 'ENOENT') return [];
      if (attempt === ATTEMPTS) throw error;
    }
  }
}

function program({ family, form }: Backend): string {
  return `ip${family === 4 ? '' : '6'}tables-${form}`;
}

/** The groups that every one of the listings has: a packet must be accepted in each. */
function inAll(family: 4 | 6, listings: readonly Listing[]): readonly AcceptRule[] {
  const [first = [], ...others] = listings.map(completeIn);
  return first
    .filter((accept) =>
      others.every((other) =>
        other.some(({ bridge, network }) => bridge === accept.bridge && network === accept.network),
      ),
    )
    .map((accept) => ({ family, ...accept }));
}
