/** A host of the lab whose daemon can be told to die at a point, and what that host then holds. */
import { connect } from 'node:net';
import { join } from 'node:path';
import { GATEWAY_DNS_PORT } from '../../address/dns-port.ts';
import { openReader } from '../../store/reader.ts';
import { Service } from '../lab/cnmd.ts';
import { Hopeless, type Running, until } from '../lab/command.ts';
import type { CnmHost } from '../lab/docker-host.ts';
import { type Reply, unixHttp } from '../lab/unix-http.ts';

const CRASH_DAEMON = join(import.meta.dirname, 'crash-daemon.ts');
const CONTROL = '/run/cnm-crash.sock';

type Environment = Readonly<Record<string, string>>;

export class CrashDaemon {
  readonly #host: CnmHost;
  readonly #env: Environment;
  readonly #drivers: readonly string[];
  #running: Running | undefined;
  #log = '';

  constructor(host: CnmHost, env: Environment = {}, drivers: readonly string[] = ['bridge']) {
    this.#host = host;
    this.#env = env;
    this.#drivers = drivers;
  }

  /** Waits until it is ready: its control socket listens after the first reconcile is over. */
  async start(env: Environment = {}): Promise<void> {
    this.#keepLog();
    const [node = '', , ...rest] = new Service(this.#host, { drivers: this.#drivers }).argv();
    await this.#host.sh(`rm -f ${CONTROL}`);
    const running = this.#host.spawn([node, CRASH_DAEMON, ...rest], {
      env: { CNM_CRASH_CONTROL: CONTROL, ...this.#env, ...env },
    });
    this.#running = running;
    await until('the daemon to be ready', 60_000, async () => {
      if (!running.alive) throw new Hopeless(`it ended: ${running.stdout}${running.stderr}`);
      await this.#ask('points');
      return true;
    });
  }

  /** Die at the `at`-th point from now; never, when it is not given. */
  async arm(at?: number): Promise<void> {
    await this.#ask(at === undefined ? 'arm' : `arm ${at}`);
  }

  /** Since it was armed. */
  async points(): Promise<readonly string[]> {
    return JSON.parse(await this.#ask('points')) as readonly string[];
  }

  /** Resolves when it has died by its own hand. */
  async dead(): Promise<void> {
    const running = this.#running;
    await until('the daemon to kill itself', 60_000, () => running?.alive === false || undefined);
  }

  get alive(): boolean {
    return this.#running?.alive ?? false;
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.#running?.kill(signal);
  }

  #ask(line: string): Promise<string> {
    return new Promise((resolve, reject) => {
      let answer = '';
      const socket = connect(this.#host.outside(CONTROL), () => socket.write(`${line}\n`));
      socket.on('data', (chunk) => (answer += chunk.toString('utf8')));
      socket.once('error', reject);
      socket.once('close', () => {
        if (answer === '') reject(new Error('the daemon hung up'));
        else resolve(answer);
      });
    });
  }

  #keepLog(): void {
    if (this.#running !== undefined) this.#log += this.#running.stdout + this.#running.stderr;
  }

  /** Of all its lives. */
  get log(): string {
    return this.#log + (this.#running?.stdout ?? '') + (this.#running?.stderr ?? '');
  }
}

/** Everything about networks that a host holds: in the kernel, in the store, and what the daemon answers about it. */
export interface Holdings {
  /** Links, addresses, routes, rules, namespaces and ports that somebody has, one a line, sorted. */
  readonly kernel: readonly string[];
  readonly records: readonly string[];
  readonly answers: readonly string[];
  /** What `cnm doctor` finds wrong. */
  readonly wrong: readonly string[];
}

/** One process for all of it: this is asked hundreds of times. Each line: what, in which namespace, JSON or text. */
const DUMP = `
shopt -s nullglob
dump() {
  echo "links $1 $(ip -j -d link show)"
  echo "addresses $1 $(ip -j address show)"
  echo "routes $1 $(ip -j route show table main)"
  echo "routes $1 $(ip -j -6 route show table main)"
}
dump host
for file in /run/cnm/netns/* /run/netns/*; do
  echo "namespace $file"
  nsenter --net="$file" bash -c "$(declare -f dump); dump $file"
done
echo "nft host $(nft -j list table inet cnm 2>/dev/null)"
{ iptables-save -t filter; ip6tables-save -t filter; } | grep cnm | sed 's/^/text iptables /'
# The resolver opens its own after the daemon says that it is ready.
ss -Hlntu | grep -v ':${GATEWAY_DNS_PORT} ' | while read -r proto _ _ _ address _; do echo "text held $proto $address"; done
true`;

export async function holdings(host: CnmHost): Promise<Holdings> {
  // A daemon that has just started answers when it has compared its records with the kernel: not before is it all there.
  await admin(host, 'GET', '/v1/networks');
  const [text, ...views] = await Promise.all([
    host.sh(DUMP),
    ...['networks', 'endpoints', 'sandboxes', 'drift'].map((what) => admin(host, 'GET', `/v1/${what}`)),
  ]);
  const [networks, endpoints, sandboxes, doctor] = views.map(({ body }) => body);
  return {
    kernel: text.split('\n').flatMap(kernelLines).sort(),
    records: records(host.cnmd.stateFolder),
    answers: [networks, endpoints, sandboxes].flatMap((list) => (list as unknown[]).map(timeless)),
    wrong: wrong(doctor),
  };
}

/** Only what is the same each time: no interface indexes, addresses that the kernel drew, timers or carrier. */
function kernelLines(line: string): readonly string[] {
  const [what = '', where = '', ...rest] = line.split(' ');
  const text = rest.join(' ');
  if (what === 'namespace') return [line];
  if (what === 'text') return [`${where}: ${text.trim()}`];
  if (what === 'nft') return text === '' ? [] : nft(JSON.parse(text) as NftListing);
  const list = (text === '' ? [] : JSON.parse(text)) as readonly Record<string, unknown>[];
  if (what === 'links') return list.filter((one) => one['ifname'] !== 'lo').map((one) => link(where, one));
  if (what === 'addresses') return list.flatMap((one) => addresses(where, one));
  if (what === 'routes') return list.filter(isLasting).map((one) => route(where, one));
  return [];
}

interface NftListing {
  readonly nftables: readonly Readonly<Record<string, Readonly<Record<string, unknown>>>>[];
}

/** Handles count up; elements come in no order of ours. */
function nft({ nftables }: NftListing): readonly string[] {
  return nftables.flatMap(({ set, rule, chain }) => [
    ...((set?.['elem'] ?? []) as readonly unknown[]).map(
      (element) => `nft: ${String(set?.['name'])} ${JSON.stringify(element)}`,
    ),
    ...[set, chain, rule].flatMap((one) =>
      one === undefined ? [] : `nft: ${JSON.stringify({ ...one, elem: undefined, handle: undefined })}`,
    ),
  ]);
}

function link(where: string, one: Record<string, unknown>): string {
  const { ifname, mtu, master, ifalias, group, flags, linkinfo } = one;
  const up = (flags as readonly string[]).includes('UP');
  const kind = (linkinfo as { readonly info_kind?: string } | undefined)?.info_kind;
  return `${where}: link ${JSON.stringify({ ifname, kind, mtu, master, ifalias, group, up })}`;
}

function addresses(where: string, one: Record<string, unknown>): readonly string[] {
  const list = one['addr_info'] as readonly { readonly local: string; readonly prefixlen: number }[];
  return list
    .filter(({ local }) => !local.startsWith('fe80:'))
    .map(({ local, prefixlen }) => `${where}: address ${String(one['ifname'])} ${local}/${prefixlen}`);
}

function route(where: string, one: Record<string, unknown>): string {
  const { dst, gateway, dev, protocol, prefsrc } = one;
  return `${where}: route ${JSON.stringify({ dst, gateway, dev, protocol, prefsrc })}`;
}

/** Link-local and multicast routes come and go with a link's carrier. */
function isLasting({ dst }: Record<string, unknown>): boolean {
  return !/^(fe80|ff00):/.test(String(dst));
}

function records(folder: string): readonly string[] {
  return recordsOf(folder)
    .filter(([key]) => !key.startsWith(MEMORY))
    .map(([key, value]) => `${key} ${timeless(value)}`);
}

/** Who had an address last: it goes with its pool, and is no lease. */
const MEMORY = 'ipam/former/';

/** As they are on disk, beside the running daemon. */
export function recordsOf(folder: string): readonly (readonly [key: string, value: unknown])[] {
  const reader = openReader(folder);
  try {
    return reader.list('');
  } finally {
    reader.close();
  }
}

/** Times differ from run to run. */
function timeless(value: unknown): string {
  return JSON.stringify(value, (key, inner: unknown) => (/At$|^since$/.test(key) ? undefined : inner));
}

function wrong(doctor: unknown): readonly string[] {
  const { healthy, differences, orphans, leaks, rulesetCurrent } = doctor as Record<string, unknown>;
  return healthy === true ? [] : [JSON.stringify({ differences, orphans, leaks, rulesetCurrent })];
}

export function admin(host: CnmHost, method: string, path: string, body?: unknown): Promise<Reply> {
  return unixHttp(host.outside('/run/cnm/cnm.sock'), method, path, body);
}
