/** Hosts of encrypted networks: their daemons by the admin API, what passes by below, and what IPsec holds. */
import { join } from 'node:path';
import type { EndpointView } from '../../inspect/views.ts';
import { Hopeless, run, type Running, until } from '../lab/command.ts';
import type { CnmHost } from '../lab/docker-host.ts';
import type { Host } from '../lab/host.ts';
import { unixHttp } from '../lab/unix-http.ts';
import { stopCapture } from './observe.ts';

/** By the admin API: in an emulated machine each start of the command takes seconds. */
export async function ask(h: CnmHost, method: string, path: string, body?: object) {
  return unixHttp(h.outside(h.cnmd.adminSocket), method, `/v1${path}`, body);
}

/** @throws what the daemon says against it */
export async function call(h: CnmHost, method: string, path: string, body?: object): Promise<unknown> {
  const reply = await ask(h, method, path, body);
  if (reply.status >= 400) throw new Error(`${method} ${path}: ${reply.text}`);
  return reply.body;
}

/** On a loaded machine the daemon answers before it has compared its records with the kernel, that it is not ready. */
export async function ready(h: CnmHost): Promise<void> {
  await until('the daemon to be ready', 120_000, () => call(h, 'GET', '/networks').catch(() => undefined));
}

/** A sandbox `box` on the network `net`. */
export async function start(h: CnmHost, ip?: string): Promise<EndpointView> {
  const { path } = (await call(h, 'POST', '/sandboxes', { name: 'box' })) as { path: string };
  await h.sh(`ln -sfn ${path} ${h.dir}/box`);
  const wanted = { network: 'net', ...(ip !== undefined && { ip }) };
  return until('the box to join', 60_000, async () => {
    const reply = await ask(h, 'POST', '/sandboxes/box/join', wanted);
    if (reply.status < 400) return reply.body as EndpointView;
    const refusal = new Error(`join: ${reply.text}`);
    // What a daemon says that has no answer of etcd within its 5 s, which are short here: to be tried again.
    throw reply.status === 503 ? refusal : new Hopeless(refusal.message);
  });
}

/** A ping from the box, twenty times a second, that is answered. */
export async function pingFromBox(h: CnmHost, to: string): Promise<Running> {
  const ping = h.spawn(['bash', '-c', `exec ${inBox(h, `ping -n -i 0.05 ${to}`)}`]);
  await until('the ping to run', 15_000, () => ping.stdout.includes('icmp_seq=2 ') || undefined);
  return ping;
}

/** A line that runs in it. */
export function inBox(h: CnmHost, line: string): string {
  return `nsenter --net=$(readlink ${h.dir}/box) ${line}`;
}

/** Every packet that comes by on a host's uplink, until its text is asked for: a line each, with its bytes in hex. */
export async function capture(h: Host, name: string, filter: string): Promise<() => Promise<string>> {
  const file = join(h.dir, name);
  const tcpdump = h.spawnNet(['tcpdump', '--immediate-mode', '-U', '-i', 'eth0', '-w', file, filter]);
  await until('tcpdump to listen', 30_000, () => tcpdump.stderr.includes('listening on') || undefined);
  return async () => {
    await stopCapture(tcpdump);
    const text = await run(['tcpdump', '-nn', '-x', '-r', file]);
    await h.sh(`rm ${file}`);
    return inOneLine(text);
  };
}

/** tcpdump writes 16 bytes a line, two by two. */
function inOneLine(text: string): string {
  const lines = text.replace(/\n\s+0x0000:\s+/g, ' = ').replace(/\n\s+0x[0-9a-f]+:\s+/g, '');
  return lines.replace(/(?<= = .*[0-9a-f]{4}) (?=[0-9a-f]{2})/g, '');
}

/** VNIs of datagrams in the clear: behind the headers of IPv4 and UDP, and VXLAN's flags. */
export function vnisIn(text: string): ReadonlySet<number> {
  const packets = text.matchAll(/ = (45[0-9a-f]{68})/g);
  return new Set([...packets].map(([, packet = '']) => Number.parseInt(packet.slice(64, 70), 16)));
}

/** Seconds of a period, near a week, in whose middle it is now: none begins by itself while a test runs, on whichever day. */
export function middleOfPeriod(): number {
  const [now, week] = [Date.now() / 1000, 7 * 24 * 3600];
  return Math.floor(now / (Math.floor(now / week) + 0.5));
}

/** SPIs. */
export async function states(h: Host): Promise<readonly string[]> {
  const text = await h.net('ip', 'xfrm', 'state');
  return [...text.matchAll(/spi (0x[0-9a-f]+)/g)].map(([, spi = '']) => spi);
}

/** Packets that IPsec refused, by the reason (Documentation/networking/xfrm_proc.rst). */
export async function refused(h: Host): Promise<string> {
  const text = await h.net('cat', '/proc/net/xfrm_stat');
  return text.replace(/^.*\s0\n/gm, '');
}

export async function macOf(h: Host): Promise<string> {
  return /ether ([0-9a-f:]{17})/.exec(await h.net('ip', 'link', 'show', 'eth0'))?.[1] ?? '';
}
