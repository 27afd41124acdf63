/** Scenario 8: what a ping between containers of two hosts looks like on each hop, by captures that tshark decodes. */
import { join } from 'node:path';
import type { Test } from 'tap';
import { attached } from '../acceptance/observe.ts';
import { run, until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { drained } from '../lab/drained.ts';

/** A link, in the namespace of a file as it is seen from outside the hosts; `netns` absent: the host's own. */
interface Hop {
  readonly name: string;
  readonly host: DockerHost;
  readonly netns?: string;
  readonly link: string;
  readonly filter: string;
}

/** What went by on each hop while `act` ran, a line for each packet: the fields that are there, between spaces. */
async function captured(
  hops: readonly Hop[],
  fields: readonly string[],
  act: () => Promise<unknown>,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const captures = hops.map(({ name, host, netns, link, filter }) => {
    const file = join(host.dir, `${name.replaceAll(/\W+/g, '-')}.pcap`);
    const inside = netns === undefined ? [] : ['nsenter', `--net=${netns}`];
    const tcpdump = ['tcpdump', '--immediate-mode', '-U', '-i', link, '-w', file, ...filter.split(' ')];
    return { name, file, running: host.spawnNet([...inside, ...tcpdump]) };
  });
  for (const { name, running } of captures)
    await until(`tcpdump on ${name}`, 20_000, () => running.stderr.includes('listening on') || undefined);
  await act();
  await Promise.all(
    captures.map(async ({ running }) => {
      await drained(running);
      await running.kill('SIGINT');
    }),
  );
  // In one file, where each is an interface: one tshark reads them all.
  const files = captures.map(({ file }) => file);
  const all = `${files[0] ?? ''}.all`;
  await run(['mergecap', '-I', 'none', '-w', all, ...files]);
  const asked = ['frame.interface_id', ...fields].flatMap((field) => ['-e', field]);
  const text = await run(['tshark', '-r', all, '-T', 'fields', '-E', 'separator=/s', ...asked]);
  await run(['rm', all, ...files]);
  const lines = text.split('\n').map((line) => /^(\d+) +(.*)$/.exec(line.replaceAll(/ +/g, ' ').trim()));
  return new Map(
    captures.map(({ name }, id) => [
      name,
      lines.flatMap((line) => (line?.[1] === `${id}` ? [line[2] ?? ''] : [])),
    ]),
  );
}

async function networkNetns(h: DockerHost, network: string): Promise<string> {
  const id = await h.docker('network', 'inspect', '--format', '{{.Id}}', network);
  return h.outside(`/run/cnm/netns/ov-${id.slice(0, 12)}`);
}

async function vniOf(h: DockerHost, network: string): Promise<string> {
  const [, vni = ''] = /vni (\d+)/.exec(await h.cnm('network', 'inspect', network)) ?? [];
  return vni;
}

async function macOf(h: DockerHost, container: string): Promise<string> {
  const [, mac = ''] = /ether (\S+)/.exec(await h.inContainer(container, 'ip', 'link', 'show', 'eth0')) ?? [];
  return mac;
}

/** The containers' neighbour caches are as when they had just started. */
export async function packetsWay(
  t: Test,
  network: string,
  [h1, c1]: readonly [DockerHost, string],
  [h2, c2]: readonly [DockerHost, string],
): Promise<void> {
  const [from, to] = await Promise.all([attached(h1, c1, network), attached(h2, c2, network)]);
  const [mac1, mac2] = [await macOf(h1, c1), await macOf(h2, c2)];
  const vni = await vniOf(h1, network);
  t.match(vni, /^\d+$/);
  t.equal(await vniOf(h2, network), vni, 'both hosts have the same VNI');
  for (const [h, c] of [
    [h1, c1],
    [h2, c2],
  ] as const)
    await h.inContainer(c, 'ip', 'neigh', 'flush', 'dev', 'eth0');
  const [ns1, ns2] = await Promise.all([networkNetns(h1, network), networkNetns(h2, network)]);
  const hop = (name: string, host: DockerHost, netns: string | undefined, link: string): Hop => ({
    ...{ name, host, link, filter: netns === undefined ? 'udp port 4789' : 'arp or icmp' },
    ...(netns !== undefined && { netns }),
  });
  const seen = await captured(
    [
      hop(`h1 ${c1} eth0`, h1, await h1.sandbox(c1), 'eth0'),
      hop('h1 br0', h1, ns1, 'br0'),
      hop('h1 vx0', h1, ns1, 'vx0'),
      hop('h1 eth0', h1, undefined, 'eth0'),
      hop('h2 eth0', h2, undefined, 'eth0'),
      hop('h2 vx0', h2, ns2, 'vx0'),
      hop('h2 br0', h2, ns2, 'br0'),
      hop(`h2 ${c2} eth0`, h2, await h2.sandbox(c2), 'eth0'),
    ],
    [
      'ip.src',
      'ip.dst',
      'udp.dstport',
      'vxlan.vni',
      'eth.src',
      'eth.dst',
      'arp.opcode',
      'arp.dst.proto_ipv4',
      'icmp.type',
    ],
    async () => {
      t.match(await h1.inContainer(c1, 'ping', '-n', '-c1', '-W10', to.v4), ' 0% packet loss');
    },
  );
  // Others on the network may have something to say as well.
  const ours = new RegExp(`[ ,](${from.v4}|${to.v4})( |$)|^(${from.v4}|${to.v4}) `.replaceAll('.', '\\.'));
  // So has the bridge, where the resolver is: whether a container that has asked it is still there (RFC 4861's unreachability, with ARP).
  const macs = [mac1, mac2, 'ff:ff:ff:ff:ff:ff'];
  const isOthers = (line: string) => {
    const [, src = '', dst = ''] = /^(\S+) (\S+) [12] \S+$/.exec(line) ?? [];
    return src !== '' && !(macs.includes(src) && macs.includes(dst));
  };
  const on = (name: string) => (seen.get(name) ?? []).filter((line) => ours.test(line) && !isOthers(line));
  const request = `${from.v4} ${to.v4} ${mac1} ${mac2} 8`;
  const reply = `${to.v4} ${from.v4} ${mac2} ${mac1} 0`;
  const asks = (mac: string, address: string) => `${mac} ff:ff:ff:ff:ff:ff 1 ${address}`;
  const tells = (mac: string, asker: string, address: string) => `${mac} ${asker} 2 ${address}`;

  t.same(
    on(`h1 ${c1} eth0`),
    [asks(mac1, to.v4), tells(mac2, mac1, from.v4), request, reply],
    'the container asks for the other one’s MAC, has it at once, and pings',
  );
  t.ok(on('h1 br0').includes(asks(mac1, to.v4)), 'the question comes to the bridge, which knows the answer');
  t.ok(on('h1 br0').includes(request));
  t.same(on('h1 vx0'), [request, reply], 'and goes no further: into the tunnel go the pings alone');
  const outer = (a: DockerHost, b: DockerHost, inner: string) => {
    const [src = '', dst = '', ...rest] = inner.split(' ');
    const [frame, type] = [rest.slice(0, 2), rest[2] ?? ''];
    return { text: `${a.address},${src} ${b.address},${dst} 4789 ${vni}`, frame, type };
  };
  for (const host of ['h1 eth0', 'h2 eth0']) {
    const lines = on(host);
    t.equal(lines.length, 2, `${host}: a datagram there and one back, and nothing asked`);
    for (const [number, { text, frame, type }] of [outer(h1, h2, request), outer(h2, h1, reply)].entries()) {
      const line = lines[number] ?? '';
      t.ok(line.startsWith(`${text} `), `${host}: VXLAN of VNI ${vni} on UDP 4789: ${line}`);
      for (const mac of frame) t.match(line, `,${mac}`, `${host}: the frame as it was`);
      t.ok(line.endsWith(` ${type}`));
    }
  }
  t.same(on('h2 vx0'), [request, reply], 'decapsulated');
  t.ok(on('h2 br0').includes(request));
  t.same(
    on(`h2 ${c2} eth0`).filter((line) => !/ [12] \S+$/.test(line)),
    [request, reply],
    'and delivered',
  );
  t.ok(
    on(`h2 ${c2} eth0`).includes(asks(mac2, from.v4)),
    'where the answer’s way is found in the same manner',
  );
}
