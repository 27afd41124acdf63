import { isDeepStrictEqual } from 'node:util';
import { readdir, readlink } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { PATIENCE, until } from './command.ts';
import { CnmHost } from './docker-host.ts';
import type { Host } from './host.ts';
import { type Reply, unixHttp } from './unix-http.ts';

/**
 * What a host's kernel and our daemon hold, in a form in which two equal states are deeply equal: only what
 * somebody set, without counters and handles, sorted where the kernel's order means nothing. One section a subject.
 */
export type Snapshot = Readonly<Record<string, unknown>>;

interface Asserts {
  same(found: unknown, wanted: unknown, message: string): boolean;
}

type Json = Readonly<Record<string, unknown>>;

function pick(from: unknown, ...names: string[]): Json {
  const found = typeof from === 'object' && from !== null ? Object.entries(from) : [];
  return Object.fromEntries(found.filter(([name]) => names.includes(name)));
}

/** What somebody set of a link. Its index, carrier, timers and the names of the states of STP are the kernel's. */
function link(item: Json): Json {
  const { linkinfo = {}, flags = [] } = item as { linkinfo?: Json; flags?: readonly string[] };
  const set = ['UP', 'PROMISC', 'ALLMULTI', 'NOARP'].filter((flag) => flags.includes(flag));
  const vxlan = ['id', 'port', 'learning', 'local', 'ttl', 'link'];
  const bridge = ['vlan_filtering', 'nf_call_iptables', 'nf_call_ip6tables', 'mcast_snooping', 'ageing_time'];
  return {
    ...pick(item, 'ifname', 'mtu', 'master', 'address', 'ifalias', 'group', 'inet6_addr_gen_mode'),
    flags: set,
    kind: linkinfo['info_kind'],
    data: pick(linkinfo['info_data'], 'mode', ...vxlan, ...bridge),
    port: pick(
      linkinfo['info_slave_data'],
      'hairpin',
      'isolated',
      'neigh_suppress',
      'learning',
      'flood',
      'guard',
    ),
  };
}

/** But link-local addresses made from the MAC (RFC 4291, appendix A): they appear some time after the link is up. */
function addresses(item: Json): Json[] {
  const { addr_info: own = [] } = item as { addr_info?: readonly Json[] };
  return own
    .filter((address) => !/^fe80:.*ff:fe/.test(String(address['local'])))
    .map((address) => ({
      ifname: item['ifname'],
      ...pick(address, 'family', 'local', 'prefixlen', 'broadcast', 'scope', 'label'),
    }));
}

/** But those that the kernel derives from addresses. */
function route(item: Json): Json[] {
  if (item['protocol'] === 'kernel') return [];
  return [
    pick(
      item,
      'type',
      'dst',
      'gateway',
      'via',
      'dev',
      'table',
      'protocol',
      'scope',
      'metric',
      'prefsrc',
      'nexthops',
    ),
  ];
}

/** What of the output of `ip -j …` is kept, and the section that it fills. */
const TABLES: Readonly<
  Record<string, readonly [argv: readonly string[], keep: (item: Json) => Json | Json[]]>
> = {
  links: [['ip', '-j', '-d', 'link', 'show'], link],
  addresses: [['ip', '-j', 'address', 'show'], addresses],
  routes: [['ip', '-j', '-4', 'route', 'show', 'table', 'all'], route],
  'routes v6': [['ip', '-j', '-6', 'route', 'show', 'table', 'all'], route],
  rules: [['ip', '-j', 'rule', 'show'], (item) => item],
  neighbours: [['ip', '-j', 'neigh', 'show', 'nud', 'permanent'], (item) => item],
  // Entries that somebody set: what a bridge learned, and each port's own and multicast addresses, come and go.
  'forwarding entries': [
    ['bridge', '-j', 'fdb', 'show'],
    (item) =>
      'dst' in item || item['state'] === 'static'
        ? pick(item, 'mac', 'ifname', 'dst', 'vni', 'via', 'state')
        : [],
  ],
};

/** Lines of JSON, sorted: a difference then shows as a line. */
function table(json: string, keep: (item: Json) => Json | Json[]): string[] {
  const items = (json.trim() === '' ? [] : JSON.parse(json)) as readonly Json[];
  return items
    .flatMap(keep)
    .map((item) => JSON.stringify(item))
    .sort();
}

/** Between the outputs of the commands of one shell. */
const END = '\u001e';

/** One shell for many commands: to enter a host takes longer than most of them. */
async function outputs(
  shell: (...argv: string[]) => Promise<string>,
  commands: readonly string[],
): Promise<readonly string[]> {
  const lines = commands.map((command) => `${command}\nprintf '${END}'`);
  return (await shell('sh', '-ec', lines.join('\n'))).split(END);
}

/** Without what counts or numbers. */
function calm(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(calm);
  if (typeof value !== 'object' || value === null) return value;
  const restless = ['handle', 'index', 'packets', 'bytes', 'metainfo', 'expires'];
  const kept = Object.entries(value).filter(([name]) => !restless.includes(name));
  return Object.fromEntries(kept.map(([name, inner]) => [name, calm(inner)]));
}

const SYSCTLS = [
  'net.ipv4.ip_forward',
  'net.ipv4.conf.all.forwarding',
  'net.ipv6.conf.all.forwarding',
  'net.ipv6.conf.all.disable_ipv6',
  'net.bridge.bridge-nf-call-iptables',
  'net.bridge.bridge-nf-call-ip6tables',
];

function nftables(json: string): string[] {
  const { nftables: items = [] } = JSON.parse(json) as {
    nftables?: readonly Readonly<Record<string, NftObject>>[];
  };
  // Rules keep their order, which means something; that of the tables only tells which was made first.
  return items
    .map((item) => ({ table: tableOf(Object.values(item)[0]), line: JSON.stringify(calm(item)) }))
    .filter(({ line }) => line !== '{}')
    .sort((a, b) => a.table.localeCompare(b.table))
    .map(({ line }) => line);
}

/** A table, or what is in one. */
interface NftObject {
  readonly family?: string;
  readonly table?: string;
  readonly name?: string;
}

function tableOf({ family, table, name }: NftObject = {}): string {
  return `${family ?? ''} ${table ?? name ?? ''}`;
}

/** Both back ends, as far as the host has them. */
const IPTABLES = ['iptables', 'ip6tables', 'iptables-legacy', 'ip6tables-legacy'];

function iptables(command: string, saved: string): string[] {
  const rules = saved.split('\n').filter((line) => !line.startsWith('#'));
  return rules.map((line) => `${command}: ${line.replace(/\[\d+:\d+\]/, '')}`);
}

/**
 * Bound network namespaces, and files in our folder and Docker's plugin folder. Docker leaves the files of namespaces
 * that it has unbound for up to a minute: only what is mounted counts.
 */
const FILES = `findmnt --noheadings --raw --types nsfs --output TARGET || true
  find /run/cnm /run/docker/plugins 2>/dev/null || true`;

function files(found: string): string[] {
  return found
    .split('\n')
    .filter((line) => line !== '')
    .sort();
}

const DESCRIPTORS = 'descriptors of cnmd';

/** Open files of cnmd but sockets: Docker keeps connections to a plugin open as it likes. */
async function descriptors(host: CnmHost): Promise<string[]> {
  const pid = await host.cnmd.pid();
  const links = await readdir(`/proc/${pid}/fd`).then((names) =>
    Promise.all(names.map((name) => readlink(`/proc/${pid}/fd/${name}`).catch(() => ''))),
  );
  return links
    .filter((link) => link !== '' && !link.startsWith('socket:'))
    .map((link) => link.replace(/:\[\d+\]$/, ''))
    .sort();
}

function list(host: CnmHost, subject: string): Promise<Reply> {
  return unixHttp(host.outside(host.cnmd.adminSocket), 'GET', `/v1/${subject}`);
}

/** What it makes for itself is there only then. */
async function ready(host: CnmHost): Promise<void> {
  const answers = async () => (await list(host, 'networks')).status === 200 || undefined;
  await until('the daemon to be ready', 60_000, answers);
}

async function records(host: CnmHost, subject: string): Promise<unknown> {
  const { status, body, text } = await list(host, subject);
  if (status !== 200) throw new Error(`the admin API does not list ${subject}: ${status} ${text}`);
  // Without names: those of Docker's objects are there when its Engine answers in time.
  return JSON.parse(JSON.stringify(body, (key, value: unknown) => (key === 'name' ? undefined : value)));
}

/** What the kernel has, by this machine's programs. */
async function ofKernel(host: Host): Promise<Record<string, unknown>> {
  const tables = Object.entries(TABLES);
  const commands = tables.map(([, [argv]]) => argv.join(' '));
  const texts = await outputs(host.net.bind(host), [...commands, 'ip xfrm state; ip xfrm policy']);
  return {
    ...Object.fromEntries(tables.map(([section, [, keep]], at) => [section, table(texts[at] ?? '', keep)])),
    xfrm: (texts[tables.length] ?? '').split('\n'),
  };
}

/** What only the host's own programs and files tell. */
async function ofHost(host: Host): Promise<Record<string, unknown>> {
  const saves = IPTABLES.map((command) => `${command}-save 2>/dev/null || true`);
  const shell = (...argv: string[]) => host.run(argv);
  const commands = ['nft -j list ruleset', `sysctl ${SYSCTLS.join(' ')} || true`, FILES, ...saves];
  const [rules = '', set = '', found = '', ...saved] = await outputs(shell, commands);
  return {
    nftables: nftables(rules),
    iptables: IPTABLES.flatMap((command, at) => iptables(command, saved[at] ?? '')),
    sysctls: set.trim().split('\n'),
    files: files(found),
  };
}

/** The host's state now. Of our daemon only where it runs. */
export async function snapshot(host: Host): Promise<Snapshot> {
  if (host instanceof CnmHost && host.cnmd.alive) await ready(host);
  const state: Record<string, unknown> = { ...(await ofKernel(host)), ...(await ofHost(host)) };
  if (!(host instanceof CnmHost) || !host.cnmd.alive) return state;
  state[DESCRIPTORS] = await descriptors(host);
  for (const subject of ['networks', 'endpoints', 'sandboxes']) state[subject] = await records(host, subject);
  return state;
}

/** Of several, in their order: see `assertAllRestored`. */
export function snapshots(hosts: readonly Host[]): Promise<readonly Snapshot[]> {
  return Promise.all(hosts.map((host) => snapshot(host)));
}

/** What came and what went, as far as a section is a list. */
function difference(before: unknown, after: unknown): unknown {
  if (!Array.isArray(before) || !Array.isArray(after)) return { before, after };
  const [old, now]: [unknown[], unknown[]] = [before, after];
  return { came: without(now, old), went: without(old, now) };
}

/** Each as often as it is there more often: two pipes and one pipe differ by a pipe. */
function without(list: readonly unknown[], others: readonly unknown[]): readonly unknown[] {
  const rest = [...others];
  return list.filter((item) => {
    const at = rest.findIndex((other) => isDeepStrictEqual(other, item));
    if (at >= 0) rest.splice(at, 1);
    return at < 0;
  });
}

/** What the daemon had open for a moment when `before` was taken, as the pipe of a program that it ran, is not missed. */
function isRestored(section: string, before: unknown, after: unknown): boolean {
  if (section === DESCRIPTORS && Array.isArray(before) && Array.isArray(after))
    return without(after, before).length === 0;
  return isDeepStrictEqual(before, after);
}

function differing(before: Snapshot, after: Snapshot): readonly string[] {
  const sections = Object.keys({ ...before, ...after });
  return sections.filter((section) => !isRestored(section, before[section], after[section]));
}

/** One assertion; it shows what differs, by section. */
export function assertSame(t: Asserts, before: Snapshot, after: Snapshot): boolean {
  const differences = differing(before, after).map((section) => [
    section,
    difference(before[section], after[section]),
  ]);
  return t.same(Object.fromEntries(differences), {}, 'the host is as before');
}

/** That the host comes back to `before` within `limit` milliseconds: the kernel frees namespaces a little later, and the daemon what it had in them. */
export async function assertRestored(
  t: Asserts,
  host: Host,
  before: Snapshot,
  limit = 60_000,
  look: (host: Host) => Promise<Snapshot> = snapshot,
): Promise<boolean> {
  const deadline = performance.now() + limit * PATIENCE;
  let after = await look(host);
  while (differing(before, after).length > 0 && performance.now() < deadline) {
    await sleep(100);
    after = await look(host);
  }
  return assertSame(t, before, after);
}

/** @param before As `snapshots` gave it of these hosts. */
export async function assertAllRestored(
  t: Asserts,
  hosts: readonly Host[],
  before: readonly Snapshot[],
  limit?: number,
): Promise<void> {
  for (const [number, host] of hosts.entries()) await assertRestored(t, host, before[number] ?? {}, limit);
}
