/** Three hosts of overlay networks that share an etcd, what they hold, and what runs between them while something happens. */
import { join } from 'node:path';
import type { Test } from 'tap';
import { attached } from '../acceptance/observe.ts';
import type { DoctorView, EndpointView, SandboxView } from '../../inspect/views.ts';
import { tryRun, until } from '../lab/command.ts';
import type { Running } from '../lab/command.ts';
import type { CnmHost, DockerHost } from '../lab/docker-host.ts';
import { type Host, NODE, REPOSITORY } from '../lab/host.ts';
import type { Lab } from '../lab/lab.ts';
import { endPing } from '../lab/pinging.ts';
import { EtcdHost } from './etcd-host.ts';

export interface World {
  readonly lab: Lab;
  readonly etcd: EtcdHost;
  readonly store: Host;
  readonly h1: DockerHost;
  readonly h2: DockerHost;
  readonly h3: CnmHost;
  readonly hosts: readonly CnmHost[];
}

/** Seconds; shorter than anybody has it, so that a test need not wait for it as long. */
export const LEASE = 5;
/** Seconds by which the clocks of h2 and h3 are wrong. */
const CLOCKS = { h2: 3600, h3: -7200 } as const;

export async function openWorld(lab: Lab): Promise<World> {
  const store = await lab.peer({ name: 'store' });
  const etcd = new EtcdHost(store);
  await etcd.start();
  const drivers = ['bridge', 'overlay'];
  const members = `etcd://${store.address}:2379`;
  const settings = { drivers, arguments: ['--cluster', members, '--cluster-lease', String(LEASE)] };
  const clock = (seconds: number) => ({
    NODE_OPTIONS: `--import=${join(REPOSITORY, 'tests/lab/other-clock.ts')}`,
    CNM_LAB_CLOCK: String(seconds),
  });
  const [h1, h2, h3] = await Promise.all([
    lab.dockerHost({ ...settings, name: 'h1', plugin: 'sockets' }),
    lab.dockerHost({ ...settings, name: 'h2', plugin: 'sockets', engine: '28.5', env: clock(CLOCKS.h2) }),
    lab.bareHost({ ...settings, name: 'h3', env: clock(CLOCKS.h3) }),
  ]);
  const hosts = [h1, h2, h3];
  await etcd.hasHosts(hosts.length);
  // A veth pair is a wire that needs no checksums: the kernel's tunnel would leave those of what is inside to it, and a program reads them.
  for (const h of hosts) await h.net('ethtool', '-K', 'eth0', 'tx', 'off');
  await Promise.all([...[h1, h2].map(makeGwbridge), ...hosts.map((h) => h.makeSandboxFolder())]);
  return { lab, etcd, store, h1, h2, h3, hosts };
}

/** What Docker makes once and keeps: docker_gwbridge, and its rules. */
async function makeGwbridge(h: DockerHost): Promise<void> {
  const named = ['-o', 'com.docker.network.bridge.name=docker_gwbridge'];
  await h.docker('network', 'create', '-d', 'bridge', ...named, 'docker_gwbridge');
  await h.docker('run', '--rm', '--network', 'docker_gwbridge', '-p', '9999:9', 'cnm-lab', 'true');
}

/** Its packets to the store are dropped, and only these. */
export async function cutFrom(h: Host, store: Host): Promise<void> {
  const rule = `ip daddr ${store.address} tcp dport 2379 drop`;
  await h.net('nft', `table ip cut { chain out { type filter hook output priority 0; ${rule}; }; }`);
}

export async function rejoin(h: Host): Promise<void> {
  await h.net('nft', 'delete table ip cut');
}

export function addressOf({ addresses }: Pick<EndpointView, 'addresses'>): string {
  return (addresses[0] ?? '').replace(/\/.*/, '');
}

/** Gives its address. */
export async function joinBox(
  h: CnmHost,
  box: string,
  network: string,
  aliases: readonly string[] = [],
): Promise<string> {
  return addressOf(await h.admin<EndpointView>('POST', `/v1/sandboxes/${box}/join`, { network, aliases }));
}

export async function newBox(
  h: CnmHost,
  box: string,
  network: string,
  aliases: readonly string[] = [],
): Promise<string> {
  await h.admin('POST', '/v1/sandboxes', { name: box });
  return joinBox(h, box, network, aliases);
}

/** Its namespace as a path that this machine can open. */
export async function boxNetns(h: CnmHost, box: string): Promise<string> {
  return h.outside((await h.admin<SandboxView>('GET', `/v1/sandboxes/${box}`)).path);
}

export async function boxPings(h: CnmHost, box: string, to: string, seconds = 2): Promise<boolean> {
  const netns = await boxNetns(h, box);
  return (await tryRun(['nsenter', `--net=${netns}`, 'ping', '-n', '-c1', `-W${seconds}`, to])).code === 0;
}

export async function boxAddress(h: CnmHost): Promise<string> {
  const { members } = await h.admin<SandboxView>('GET', '/v1/sandboxes/box');
  return addressOf(members[0] ?? { addresses: [] });
}

/** What of another host's records must be in the tables of a host, and nothing else: made from the records in etcd alone. */
async function wantedOf(etcd: EtcdHost, me: CnmHost): Promise<readonly string[]> {
  const wanted: string[] = [];
  for (const { key, value } of await etcd.entries('/cnm/overlay/on/')) {
    const record = value as { at: string; mac?: string; addresses?: string[]; name?: string };
    if (record.at === me.address) continue;
    if (key.split('/').length === 6) wanted.push(`to 00:00:00:00:00:00 ${record.at}`);
    else {
      wanted.push(`to ${record.mac ?? ''} ${record.at}`, `port ${record.mac ?? ''}`);
      for (const address of record.addresses ?? [])
        wanted.push(`neighbour ${address.replace(/\/.*/, '')} ${record.mac ?? ''}`);
    }
  }
  return wanted.sort();
}

/** What is in the tables, as ip(8) and bridge(8) say; of a tunnel in user space, as the daemon says that its thread has it. */
export async function heldBy(h: CnmHost): Promise<readonly string[]> {
  const all = async (line: string) =>
    JSON.parse(
      await h.sh(`n=$(ls -d /run/cnm/netns/ov-* 2>/dev/null) && nsenter --net=$n ${line} || echo '[]'`),
    ) as { mac?: string; ifname?: string; dst?: string; state?: string; master?: string; lladdr?: string }[];
  const fdb = (await all('bridge -j fdb show')).filter(({ ifname }) => ifname === 'vx0');
  const neighbours = await all('ip -j neigh show nud permanent');
  return [
    ...fdb.flatMap(({ mac = '', dst }) => (dst === undefined ? [] : [`to ${mac} ${dst}`])),
    ...fdb.flatMap(({ mac = '', state, master }) =>
      state === 'static' && master !== undefined ? [`port ${mac}`] : [],
    ),
    ...neighbours.map(({ dst = '', lladdr = '' }) => `neighbour ${dst} ${lladdr}`),
  ].sort();
}

/** On every host what the records say, and the daemon thinks so too. */
export async function agree(t: Test, { etcd, hosts }: World, when: string): Promise<void> {
  await Promise.all(hosts.map((h) => agrees(t, etcd, h, when)));
}

async function agrees(t: Test, etcd: EtcdHost, h: CnmHost, when: string): Promise<void> {
  const inUser = h.name === 'h3';
  const visible = (entries: readonly string[]) =>
    inUser ? entries.filter((entry) => !entry.startsWith('to ')) : entries;
  let [held, wanted]: [readonly string[], readonly string[]] = [[], []];
  await until(`${h.name} to agree with the records`, 60_000, async () => {
    [held, wanted] = await Promise.all([heldBy(h), wantedOf(etcd, h)]);
    return JSON.stringify(visible(held)) === JSON.stringify(visible(wanted)) || undefined;
  }).catch(() => undefined);
  t.same(visible(held), visible(wanted), `${when}: the entries of ${h.name} are those of the records`);
  await until('no trouble', 60_000, async () => {
    const { differences, orphans } = await h.admin<DoctorView>('GET', '/v1/drift');
    return (differences.length === 0 && orphans.length === 0) || undefined;
  });
}

/** What went between two containers, each way, while something happened. */
export interface Passed {
  readonly sent: number;
  readonly lost: number;
  /** Lines of a TCP stream, all of which came back in order. */
  readonly lines: number;
}

/** A ping ten times a second and a TCP stream to c1, out of c3 and out of the box, until it is stopped. */
export async function traffic({ h1, h2, h3 }: World): Promise<() => Promise<{ c3: Passed; box: Passed }>> {
  const { v4 } = await attached(h1, 'c1', 'uber-net');
  const server = stream(h1, await h1.sandbox('c1'), 'serve', v4);
  await until('the echo', 60_000, () => server.stdout.includes('ready') || undefined);
  const [c3, box] = await Promise.all([
    h2.sandbox('c3').then((netns) => flow(h2, netns, v4)),
    boxNetns(h3, 'box').then((netns) => flow(h3, netns, v4)),
  ]);
  return async () => {
    const passed = { c3: await c3(), box: await box() };
    await server.kill('SIGKILL');
    return passed;
  };
}

function stream(h: Host, netns: string, ...words: string[]): Running {
  return h.spawnNet(['nsenter', `--net=${netns}`, NODE, join(REPOSITORY, 'tests/lab/stream.ts'), ...words]);
}

async function flow(h: Host, netns: string, to: string): Promise<() => Promise<Passed>> {
  const ping = h.spawnNet(['nsenter', `--net=${netns}`, 'ping', '-n', '-i', '0.1', to]);
  const talk = stream(h, netns, 'talk', to);
  await until('both to flow', 60_000, () =>
    ping.stdout.includes('icmp_seq') && talk.stdout.includes('flows') ? true : undefined,
  );
  return async () => {
    const { sent, lost } = await endPing(ping);
    // It ends when the last line is back: what was lost on the way is sent again by TCP, after a while that grows with the silence.
    const ended = talk.kill('SIGINT');
    await until('every line to be back', 180_000, () => (talk.alive ? undefined : true));
    await ended;
    const { code, stdout, stderr } = await talk.exited;
    const [, lines = '0'] = /sent (\d+) back \1\n/.exec(stdout) ?? [];
    if (code !== 0 || lines === '0') throw new Error(`the stream from ${h.name} broke: ${stderr}`);
    return { sent, lost: lost.length, lines: Number(lines) };
  };
}
