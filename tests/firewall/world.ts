/**
 * The world of the firewall tests. The test process is the host, in a network namespace of its own; every other machine is a
 * named namespace beside it, which `close` takes away.
 */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promisify } from 'node:util';
import { enterFreshNetns } from '../kernel/namespace.ts';
import { openFirewall } from '../../kernel/nftables.ts';
import type { Firewall } from '../../kernel/nftables.ts';
import { SET_NAMES } from '../../kernel/sets.ts';
import type { NftElement, NftSetName } from '../../kernel/step.ts';
import type { Syscalls } from '../../kernel/syscall.ts';

export interface World {
  readonly sys: Syscalls;
  readonly firewall: Firewall;
  /** A machine on a bridge of the host (`bridge` given) or at the other end of a link of the host's. */
  readonly machine: (name: string, options: MachineOptions) => Machine;
  /** A machine on a segment of its own beyond the host: the host is .1 and ::1 there, the machine .2 and ::2. */
  readonly peer: (name: string, v4: string, v6: string) => Machine;
  close(): void;
}

export interface MachineOptions {
  readonly bridge?: string;
  /** The host's end: a port of the bridge, or an interface with these addresses. Default: `h-NAME`. */
  readonly hostLink?: string;
  readonly hostAddresses?: readonly string[];
  readonly addresses: readonly string[];
  /** Default routes. */
  readonly via?: readonly string[];
}

export interface Machine {
  readonly netns: string;
  run(command: string): string;
  /** Whether one echo is answered within a second. */
  reaches(address: string): boolean;
  /** What the server at `tcp:ADDRESS:PORT` or `udp:…` answers within a second (an IPv6 address in brackets); 'nothing' if nothing. */
  ask(server: string, options?: string): string;
}

/** @param part Prefix of the namespaces' names, so that one file's cannot meet another's. */
export async function openWorld(part: string): Promise<World> {
  const sys = await enterFreshNetns();
  const firewall = openFirewall(sys);
  const made: string[] = [];
  const machine: World['machine'] = (name, options) => {
    const netns = `nft-${part}-${process.pid}-${name}`;
    made.push(netns);
    return addMachine(netns, name, options);
  };
  return {
    sys,
    firewall,
    machine,
    peer: (name, v4, v6) =>
      machine(name, {
        hostLink: `${name}0`,
        hostAddresses: [`${v4}.1/24`, `${v6}::1/64`],
        addresses: [`${v4}.2/24`, `${v6}::2/64`],
        via: [`${v4}.1`, `${v6}::1`],
      }),
    close: () => {
      for (const netns of made) sh(`ip netns del ${netns}`);
      firewall.close();
    },
  };
}

function addMachine(netns: string, name: string, options: MachineOptions): Machine {
  const { bridge, hostLink = `h-${name}`, hostAddresses = [], addresses, via = [] } = options;
  const inside = `ip netns exec ${netns}`;
  sh(`
    ip netns add ${netns}
    ip link add ${hostLink} type veth peer name eth0 netns ${netns}
    ${bridge === undefined ? '' : `ip link set ${hostLink} master ${bridge}`}
    ${hostAddresses.map((address) => `ip addr add ${address} dev ${hostLink} nodad`).join('\n')}
    ip link set ${hostLink} up
    ${inside} ip link set lo up
    ${inside} ip link set eth0 up
    ${addresses.map((address) => `${inside} ip addr add ${address} dev eth0 nodad`).join('\n')}
    ${via.map((gateway) => `${inside} ip route add default via ${gateway}`).join('\n')}
  `);
  return {
    netns,
    run: (command) => sh(`exec ${inside} ${command}`),
    reaches: (address) => pings(`${inside} `, address),
    ask: (server, options) => ask(`${inside} `, server, options),
  };
}

/** An element as its fields are written in a ruleset, joined with ' . '. */
export function element(set: NftSetName, key: string, data?: string): NftElement {
  return {
    do: 'nft.element',
    set,
    key: key.split(' . '),
    ...(data !== undefined && { data: data.split(' . ') }),
  };
}

/** Whether the host itself reaches the address. */
export function hostReaches(address: string): boolean {
  return pings('', address);
}

/** Asks up to five times, for an answer that is to come: the first may take longer than it is waited for on a busy machine. */
export function patiently(ask: () => string): string {
  for (let tries = 5; ; tries -= 1) {
    const answer = ask();
    if (answer !== 'nothing' || tries === 1) return answer;
  }
}

/** What a server answers the host itself. */
export function hostAsks(server: string): string {
  return ask('', server);
}

function ask(inside: string, server: string, options?: string): string {
  try {
    return answered(sh(asking(inside, server, options)));
  } catch {
    return 'nothing';
  }
}

/** The same while others ask. `netns` undefined: the host. */
export async function answerTo(netns: string | undefined, server: string): Promise<string> {
  const inside = netns === undefined ? '' : `ip netns exec ${netns} `;
  const run = promisify(execFile);
  return run('/bin/sh', ['-ec', asking(inside, server)]).then(
    ({ stdout }) => answered(stdout),
    () => 'nothing',
  );
}

/** @param options Of socat's address, for example `,bind=192.0.2.2`. */
function asking(inside: string, server: string, options = ''): string {
  const [, proto = '', address = ''] = /^(tcp|udp):(.+)$/.exec(server) ?? [];
  const family = address.startsWith('[') ? '6' : '4';
  const timeout = proto === 'tcp' ? ',connect-timeout=1' : '';
  const target = `${proto.toUpperCase()}${family}:${address}${timeout}${options}`;
  // What it waits for an answer once its input has ended, which is at once: without -t half a second. A server of TCP ends that itself.
  const patience = proto === 'tcp' ? 5 : 1;
  return `echo | ${inside}timeout 8 socat -t ${patience} -T 5 - ${target}`;
}

function answered(text: string): string {
  return text.trim() === '' ? 'nothing' : text.trim();
}

/** Starts answerer.ts, in a machine or on the host. Returns what ends it. */
export async function serve(
  netns: string | undefined,
  name: string,
  ports: readonly string[],
): Promise<() => void> {
  const [command, ...prefix] =
    netns === undefined ? [process.execPath] : ['ip', 'netns', 'exec', netns, process.execPath];
  const script = new URL('answerer.ts', import.meta.url).pathname;
  const child = spawn(command, [...prefix, script, name, ...ports], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return () => {
    child.kill();
  };
}

function pings(inside: string, address: string): boolean {
  try {
    sh(`exec ${inside}ping -n -c 1 -W 1 ${address}`);
    return true;
  } catch {
    return false;
  }
}

/** A bridge of the host with its gateway addresses, up, and its spanning tree off, so that ports forward at once. */
export function addBridge(name: string, addresses: readonly string[]): void {
  sh(`
    ip link add ${name} type bridge
    ${addresses.map((address) => `ip addr add ${address} dev ${name} nodad`).join('\n')}
    ip link set ${name} up
  `);
}

export interface ThreeBridges {
  readonly a1: Machine;
  readonly a2: Machine;
  readonly b1: Machine;
  readonly r1: Machine;
  readonly lan: Machine;
  readonly lan2: Machine;
}

/**
 * cnm-a, cnm-b and cnm-r with 10.N.0.0/24 and fd00:N::/64 for N = 1, 2, 3; two machines on the first, one on each of the others, two beyond the
 * host, which forwards.
 */
export function threeBridges(world: World): ThreeBridges {
  for (const [n, bridge] of ['cnm-a', 'cnm-b', 'cnm-r'].entries())
    addBridge(bridge, [`10.${n + 1}.0.1/24`, `fd00:${n + 1}::1/64`]);
  const on = (bridge: string, name: string, n: number, host: number): Machine =>
    world.machine(name, {
      bridge,
      addresses: [`10.${n}.0.${host}/24`, `fd00:${n}::${host}/64`],
      via: [`10.${n}.0.1`, `fd00:${n}::1`],
    });
  const machines = {
    a1: on('cnm-a', 'a1', 1, 11),
    a2: on('cnm-a', 'a2', 1, 12),
    b1: on('cnm-b', 'b1', 2, 11),
    r1: on('cnm-r', 'r1', 3, 11),
    lan: world.peer('lan', '192.0.2', '2001:db8:1'),
    lan2: world.peer('lan2', '198.51.100', '2001:db8:2'),
  };
  sh(`
    sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
    for bridge in cnm-a cnm-b; do sysctl -q -w net.ipv4.conf.$bridge.route_localnet=1; done
  `);
  return machines;
}

/** The elements that the bridge driver asks for. */
export function networkElements(
  bridge: string,
  sets: readonly NftSetName[] = ['bridges', 'masquerade4', 'masquerade6'],
): { readonly set: NftSetName; readonly key: readonly string[] }[] {
  return [
    ...sets.map((set) => ({ set, key: [bridge] })),
    { set: 'same_bridge' as const, key: [bridge, bridge] },
  ];
}

/** The first packet that fits `filter` while `act` goes on, as tcpdump prints it; '' when there is none in so many seconds. */
export async function capture(
  machine: Machine,
  filter: string,
  act: () => void,
  seconds = 20,
): Promise<string> {
  const child = spawn('ip', [
    ...['netns', 'exec', machine.netns, 'timeout', String(seconds)],
    ...['tcpdump', '-lnn', '--immediate-mode', '-c', '1', '-i', 'eth0', filter],
  ]);
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  const ended = new Promise<void>((resolve) => child.on('close', resolve));
  await new Promise<void>((resolve) => {
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (text.includes('listening on')) resolve();
    });
  });
  act();
  await ended;
  return out.trim();
}

/** Our table's elements as `nft` sees them, by set, `key : data` for a map: the other end of our own encoder. */
export function nftElements(): Record<string, readonly string[]> {
  const { nftables } = JSON.parse(sh('nft -j list table inet cnm')) as {
    nftables: { set?: NftSet; map?: NftSet }[];
  };
  return Object.fromEntries(
    nftables.flatMap(({ set, map }) => {
      const one = set ?? map;
      if (one === undefined || !(SET_NAMES as readonly string[]).includes(one.name)) return [];
      return [[one.name, (one.elem ?? []).map(map === undefined ? nftText : pairText).sort()]];
    }),
  );
}

interface NftSet {
  readonly name: string;
  readonly elem?: readonly unknown[];
}

function pairText(element: unknown): string {
  const [key, data] = element as readonly [unknown, unknown];
  return `${nftText(key)} : ${nftText(data)}`;
}

/** libnftables-json(5). */
function nftText(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value);
  const { concat, range, prefix, elem } = value as {
    concat?: readonly unknown[];
    range?: readonly unknown[];
    prefix?: { readonly addr: string; readonly len: number };
    elem?: { readonly val: unknown };
  };
  // An element with a counter.
  if (elem !== undefined) return nftText(elem.val);
  if (prefix !== undefined) return `${prefix.addr}/${prefix.len}`;
  return concat?.map(nftText).join(' . ') ?? range?.map(nftText).join('-') ?? JSON.stringify(value);
}

/** What `nftElements` answers when nothing is in our sets. */
export const NO_ELEMENTS: Record<string, readonly string[]> = Object.fromEntries(
  SET_NAMES.map((name) => [name, []]),
);

export function sh(command: string): string {
  return execFileSync('/bin/sh', ['-ec', command], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
  });
}

/** Namespaces of ours that are still there. */
export function leftovers(part: string): readonly string[] {
  return sh('ip netns list')
    .split('\n')
    .filter((line) => line.startsWith(`nft-${part}-${process.pid}-`));
}
