/** What the tests of published ports look at: who answers whom, and what the host then holds. */
import type { Test } from 'tap';
import { GATEWAY_DNS_PORT } from '../../address/dns-port.ts';
import { until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { Host, NODE, REPOSITORY } from '../lab/host.ts';
import { IMAGE } from '../lab/image.ts';
import { inContainer, onHost } from './asking.ts';
import { exchange } from './exchange.ts';

const ANSWERER = `${REPOSITORY}/tests/firewall/answerer.ts`;
/** What Node needs of the host, in the container's own places. */
const PROGRAMS = ['/usr', '/lib', '/lib64', REPOSITORY].flatMap((path) => ['--volume', `${path}:${path}:ro`]);

/** The words after `docker run -d` for a container whose every answer is its own name and the address of who asked. */
export function answering(name: string, listens: readonly string[], ...options: string[]): string[] {
  return ['--name', name, '--init=false', ...options, ...PROGRAMS, IMAGE, NODE, ANSWERER, name, ...listens];
}

/** Until the container says that it listens. */
export async function listening(h: DockerHost, ...names: string[]): Promise<void> {
  for (const name of names) {
    const starts = async () => (await h.docker('logs', name)).split('ready').length - 1;
    const started = async () =>
      (await h.docker('inspect', '-f', '{{.State.Running}}', name)) === 'true' && (await starts()) > 0;
    await until(`${name} to listen`, 20_000, async () => (await started()) || undefined);
  }
}

/** Runs one that answers, and waits until it does. Gives what `docker run` gives. */
export async function answer(
  h: DockerHost,
  name: string,
  listens: readonly string[],
  ...options: string[]
): Promise<void> {
  await h.docker('run', '-d', ...answering(name, listens, ...options));
  await listening(h, name);
}

/** Somebody who asks: the host or another machine, or a container. */
export type Client = Host | { readonly h: DockerHost; readonly container: string };

/**
 * What `tcp:198.51.100.10:8080` or `udp:[2001:db8::1]:53` answers: the server's name and the client that it saw; `refused` or `nothing`. Who
 * expects nothing, or asks again, says for how many `seconds` it is waited for. `options`: of socat's address.
 */
export async function ask(
  from: Client,
  server: string,
  { seconds = 20, options = '' }: { readonly seconds?: number; readonly options?: string } = {},
): Promise<string> {
  const { enter } = from instanceof Host ? onHost(from) : await inContainer(from.h, from.container);
  const { stdout, stderr } = await exchange(enter, server, seconds, options);
  if (stdout.trim() !== '') return stdout.trim();
  return stderr.includes('refused') ? 'refused' : 'nothing';
}

/** Who asks for what, and the answer. */
export type Row = readonly [who: string, from: Client, server: string, wanted: string | RegExp];

/** All at once: they are different connections. */
export async function check(t: Test, rows: readonly Row[]): Promise<void> {
  const answers = await Promise.all(
    rows.map(([, from, server, wanted]) => ask(from, server, wanted === 'nothing' ? { seconds: 1 } : {})),
  );
  for (const [n, [who, , server, wanted]] of rows.entries()) {
    const about = `${who} asks ${server}`;
    if (typeof wanted === 'string') t.equal(answers[n], wanted, about);
    else t.match(answers[n], wanted, about);
  }
}

/** Elements of the sets that lead to published ports, as `publish4_any tcp . 8080 : 10.1.0.2 . 80`, and open ones. */
export async function elements(h: DockerHost): Promise<readonly string[]> {
  const { nftables } = JSON.parse(await h.run(['nft', '-j', 'list', 'table', 'inet', 'cnm'])) as {
    nftables: { set?: NftSet; map?: NftSet }[];
  };
  return nftables
    .flatMap(({ set, map }) => {
      const one = set ?? map;
      if (one === undefined || !/^(publish|open|guarded)/.test(one.name)) return [];
      return (one.elem ?? []).map((element) => `${one.name} ${text(element)}`);
    })
    .sort();
}

interface NftSet {
  readonly name: string;
  readonly elem?: readonly unknown[];
}

interface Expression {
  readonly concat?: readonly unknown[];
  readonly range?: readonly unknown[];
  /** An element with its counter. */
  readonly elem?: { readonly val: unknown };
}

/** libnftables-json(5); a pair of key and data is a list. */
function text(value: unknown): string {
  if (Array.isArray(value)) return value.map(text).join(' : ');
  if (typeof value !== 'object' || value === null) return String(value);
  const { concat, range, elem } = value as Expression;
  if (elem !== undefined) return text(elem.val);
  return concat?.map(text).join(' . ') ?? range?.map(text).join('-') ?? JSON.stringify(value);
}

/** Ports that the daemon's sockets hold on the host, as `tcp 0.0.0.0:8080`; not the resolver's own. */
export async function held(h: DockerHost): Promise<readonly string[]> {
  const pid = await h.cnmd.pid();
  const lines = (await h.net('ss', '-Hlntup')).split('\n').filter((line) => line.includes(`pid=${pid},`));
  return lines
    .map((line) => {
      const [proto = '', , , , local = ''] = line.trim().split(/\s+/);
      return `${proto} ${local}`;
    })
    .filter((one) => !one.endsWith(`:${GATEWAY_DNS_PORT}`))
    .sort();
}

/** The number that the host has for a container's port. */
export async function hostPortOf(
  h: DockerHost,
  proto: string,
  address: string,
  port: number,
): Promise<number> {
  const to = ` : ${address} . ${port}`;
  const found = (await elements(h)).find((one) => one.includes(` ${proto} . `) && one.endsWith(to));
  return Number(/(\d+) : /.exec(found ?? '')?.[1] ?? NaN);
}
