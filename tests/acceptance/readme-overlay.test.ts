/*
 * drivers/overlay/README.md as a stranger reads it: every example typed on the host that its prompt names, in order, then every
 * command of its table for debugging, then its last example, which takes all away. The image alpine is the lab's here.
 *
 *   uplink ──┬── 198.51.100.10 h1 (dockerd 20.10, cnmd)
 *            ├── 198.51.100.11 h2 (dockerd 20.10, cnmd)
 *            └── 198.51.100.12 store (etcd)
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { REPOSITORY } from '../lab/host.ts';
import { IMAGE } from '../lab/image.ts';
import { EtcdHost } from '../cluster/etcd-host.ts';
import { openLab } from '../lab/lab.ts';
import { assertAllRestored, snapshots } from '../lab/snapshot.ts';
import { installCommand } from './observe.ts';

interface Line {
  readonly host: string;
  readonly command: string;
}

const text = await readFile(join(REPOSITORY, 'drivers/overlay/README.md'), 'utf8');
const examples = [...text.matchAll(/^```console\n([^]*?)^```$/gm)].map(([, block = '']): readonly Line[] =>
  [...block.matchAll(/^(h\d)# (.*)$/gm)].map(([, host = '', command = '']) => ({ host, command })),
);
const [, table = ''] = /^## How to debug it\n([^]*?)^## /m.exec(text) ?? [];
const questions = [...table.matchAll(/^\| (.*?\?) \| `([^`]+)`.*\|$/gm)];

t.test('the README of cnm-overlay', async (t) => {
  const lab = await openLab(t);
  // One after the other: the examples count on their addresses.
  const settings = {
    plugin: 'sockets' as const,
    drivers: ['bridge', 'overlay'],
    arguments: ['--cluster', 'etcd://198.51.100.12'],
  };
  const h1 = await lab.dockerHost({ ...settings, name: 'h1' });
  const h2 = await lab.dockerHost({ ...settings, name: 'h2' });
  await new EtcdHost(await lab.peer({ name: 'store' })).start();
  for (const h of [h1, h2])
    await until(
      'it to be in the cluster',
      30_000,
      async () =>
        (/this host/.test(await h.cnm('ipam', 'hosts')) && / there /.test(await h.cnm('ipam', 'hosts'))) ||
        undefined,
    );
  const hosts = [h1, h2];
  t.same(
    hosts.map(({ name, address }) => [name, address]),
    [
      ['h1', '198.51.100.10'],
      ['h2', '198.51.100.11'],
    ],
    'the addresses of the examples',
  );
  for (const h of hosts) {
    await installCommand(h);
    // What Docker makes with the first container of an overlay network, and keeps; and the folder for our namespaces.
    await h.docker(
      'network',
      'create',
      '-d',
      'bridge',
      '-o',
      'com.docker.network.bridge.name=docker_gwbridge',
      'docker_gwbridge',
    );
    await h.makeSandboxFolder();
  }
  const before = await snapshots(hosts);
  const outputs: string[] = [];
  const type = async (t: Test, { host, command }: Line): Promise<void> => {
    const h = hosts.find(({ name }) => name === host);
    const { code, stdout, stderr } = (await h?.trySh(command.replace(' alpine ', ` ${IMAGE} `))) ?? {};
    outputs.push(`${host}# ${command}\n${stdout ?? ''}`);
    t.equal(code, 0, `${host}# ${command}\n${stderr ?? ''}`);
  };
  const said = (start: string) => outputs.filter((one) => one.startsWith(start)).join('\n');

  await t.test('the examples show what they say', async (t) => {
    t.equal(examples.length, 7);
    for (const line of examples.slice(0, -1).flat()) {
      // Docker tells of a container's name when it has started it.
      if (/ping -c1 b2/.test(line.command))
        await until(
          'its name',
          30_000,
          async () => /(^|[ ,])b2\b/m.test(await h1.cnm('dns', 'ls', 'big-net')) || undefined,
        );
      await type(t, line);
    }
    for (const ping of [
      'h1# docker exec c1',
      'h1# docker exec p1',
      'h1# docker exec b1',
      'h1# docker exec o1',
      'h2# cnm sandbox exec client',
    ])
      t.match(said(ping), '1 packets transmitted, 1 ', ping);
    const drawing = said('h1# cnm network inspect uber-net');
    t.match(drawing, /namespace \/run\/cnm\/netns\/ov-[0-9a-f]{12}\n/);
    t.match(drawing, 'vni 4097, udp 4789, from 198.51.100.10 to 198.51.100.11');
    t.match(
      said('h1# cnm network inspect big-net'),
      /on other hosts\n +host h2 +198\.51\.100\.11 [^]*b2 +10\.5\.0\.\d+\/24/,
    );
    t.match(said('h1# cnm port o1'), '80/tcp -> 0.0.0.0:8080');
    t.match(await h1.inContainer('c1', 'ip', 'link', 'show', 'eth0'), 'mtu 1450');
  });

  await t.test('8 the way of a packet is seen on each link', (t) => {
    const [, vni = '?'] = /vni (\d+)/.exec(said('h1# cnm network inspect big-net')) ?? [];
    const [, b2 = '?'] = /(10\.5\.0\.\d+) dev br0 lladdr \S+ PERMANENT/.exec(said('h1# nsenter --net')) ?? [];
    const inside = new RegExp(`> ${b2.replaceAll('.', '\\.')}: ICMP echo request`);
    const links = outputs.filter((one) => /tcpdump -nei/.test(one));
    t.equal(links.length, 6, 'each link');
    for (const one of links) {
      t.match(one, inside);
      if (one.includes('udp port'))
        t.match(one, new RegExp(`198\\.51\\.100\\.11\\.4789: VXLAN, flags \\[I\\][^]*vni ${vni}`));
    }
    t.end();
  });

  await t.test('the table for debugging answers its questions', (t) => debug(t, h1));

  await t.test('the last example takes all away', async (t) => {
    for (const line of examples.at(-1) ?? []) await type(t, line);
    await assertAllRestored(t, hosts, before);
  });
});

async function debug(t: Test, h: DockerHost): Promise<void> {
  const idOf = (name: string) => h.docker('network', 'inspect', '--format', '{{.Id}}', name);
  const answers: Readonly<Record<string, RegExp>> = {
    'What does this host hold of it?': /bridge br0 [^]*vxlan vx0 /,
    'Does the kernel hold what we stored?': /./,
    'Where does the tunnel think a container is?': /02:42:0a:01:00:c8 dst 198\.51\.100\.11 /,
    'What goes to the other hosts, and what comes?':
      /VXLAN, flags \[I\][^]*vni 4097[^]*10\.1\.0\.200: ICMP echo request/,
    'Does the packet reach the bridge?': /> 10\.1\.0\.200: ICMP echo request/,
    'Who has the UDP port?': /:4789/,
    'By which way and address does it go to a peer?': /198\.51\.100\.11 dev eth0 src 198\.51\.100\.10/,
    'By what does the host know its containers?': /10\.7\.0\.0\/24 is 2\d+\.\d+\.\d+\.0\/24 on this host/,
    'Who may come in by its uplink, and how do containers go out?':
      /o1 +10\.7\.0\.11:80\/tcp +0\.0\.0\.0:8080/,
    'What does its namespace translate?': /snat ip prefix to ip saddr map \{ 10\.7\.0\.0\/24 : 2/,
    'What is wrong between the hosts?': /198\.51\.100\.11 {2}ok {2}/,
    'Does a full packet pass between the hosts?': /1 received/,
  };
  t.same(questions.map(([, question]) => question).sort(), Object.keys(answers).sort(), 'every question');
  for (const [row, question = '', command = ''] of questions) {
    const network = row.includes('egress=gateway') ? 'out-net' : 'uber-net';
    const id = await idOf(network);
    const line = command.replace('NAME', network).replace('0123456789ab', id.slice(0, 12));
    t.match(
      await shown(h, line, answers[question] ?? /^$/),
      answers[question] ?? '',
      `${question} # ${line}`,
    );
  }
}

/** What a command prints; one that waits for packets gets some, until it shows what it is asked for. */
async function shown(h: DockerHost, line: string, wanted: RegExp): Promise<string> {
  if (!line.includes('tcpdump')) return h.sh(line);
  const running = h.spawn(['bash', '-c', `exec ${line.replace('tcpdump ', 'tcpdump --immediate-mode ')}`]);
  const seen = await until('a packet to be shown', 20_000, async () => {
    await h.containerPings('c1', '10.1.0.200', 1);
    return wanted.test(running.stdout) ? running.stdout : undefined;
  });
  await running.kill('SIGINT');
  return seen;
}
