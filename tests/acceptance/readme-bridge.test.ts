/*
 * drivers/bridge/README.md as a stranger reads it: every example typed on a host with Docker 20.10, in order, then every
 * command of its table for debugging, then its last example, which takes all away. The image alpine is the lab's here.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import { until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { REPOSITORY } from '../lab/host.ts';
import { IMAGE } from '../lab/image.ts';
import { openLab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { attached, bridgeOf, installCommand, linkField, portsOf } from './observe.ts';

interface Readme {
  /** The lines of each ```console block that follow a prompt. */
  readonly examples: readonly (readonly string[])[];
  /** The table for debugging: a question, and the commands that answer it. */
  readonly questions: ReadonlyMap<string, readonly string[]>;
}

async function readme(): Promise<Readme> {
  const text = await readFile(join(REPOSITORY, 'drivers/bridge/README.md'), 'utf8');
  const blocks = [...text.matchAll(/^```console\n([^]*?)^```$/gm)].map((match) => match[1] ?? '');
  const [, table = ''] = /^## How to debug it\n([^]*?)^## /m.exec(text) ?? [];
  const rows = [...table.matchAll(/^\| (.*?\?) \| (.*) \|$/gm)];
  return {
    examples: blocks.map((block) => [...block.matchAll(/^# (.*)$/gm)].map((match) => match[1] ?? '')),
    questions: new Map(
      rows.map(([, question = '', answer = '']) => [
        question,
        [...answer.matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? ''),
      ]),
    ),
  };
}

t.test('the README of cnm-bridge', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets' });
  await installCommand(h);
  await h.sh('sysctl -qw net.ipv6.conf.default.forwarding=1 net.ipv6.conf.all.forwarding=1');
  await h.makeSandboxFolder();
  const before = await snapshot(h);
  const { examples, questions } = await readme();
  const last = examples.length - 1;
  t.equal(last, 4, 'five examples');

  const outputs = new Map<string, string>();
  const type = async (line: string): Promise<void> => {
    const { code, stdout, stderr } = await h.trySh(line.replace(' alpine ', ` ${IMAGE} `));
    outputs.set(line, stdout);
    t.equal(code, 0, `# ${line}\n${stderr}`);
  };
  for (const line of examples.slice(0, last).flat()) await type(line);
  const said = (start: string) => [...outputs].find(([line]) => line.startsWith(start))?.[1] ?? '';

  t.test('the examples show what they say', async (t) => {
    const bridge = await bridgeOf(h, 'localnet');
    t.match(said('docker exec c2 ping'), '1 received');
    const ports = await portsOf(h, bridge);
    t.equal(ports.length, 2);
    for (const port of ports) t.match(said('bridge link'), new RegExp(`${port}@.* master ${bridge} `));
    t.equal(await linkField(h, await bridgeOf(h, 'dual'), 'mtu'), 1400);
    t.match(said('docker exec c3 ip route'), '10.9.0.0/16 via 10.1.0.7 dev eth0');
    t.match(said('tc -s qdisc'), /rate 100Mbit[^]* Sent \d+ bytes/);
    t.match(said('tc -s qdisc'), 'rate 20Mbit');
    t.match(said('cnm sandbox exec web'), /inet 10\.88\.0\.\d+\/24 .* eth0/);
    // What "What it builds" says of names: the id's 12 digits, and h and c at the ends.
    for (const port of ports) t.match(port, /^veth[0-9a-z]{10}h$/);
    t.match(await h.net('ip', '-d', 'link', 'show', bridge), /alias cnm [0-9a-f]{64}/);
  });

  t.test('the table for debugging answers its questions', (t) => debug(t, h, questions));

  t.test('a published port: seen where the text says, and gone with its container', async (t) => {
    await h.container('p1', 'localnet', '-p', '8080:80');
    t.match(await h.sh('nft list map inet cnm publish4_any'), /tcp \. 8080 : \S+ \. 80/);
    t.match(await h.sh('nft list set inet cnm open4'), /tcp \. 80 counter packets 0/);
    t.match(await h.net('ss', '-Hltn'), /:8080\b/, 'held by a socket');
    const again = ['run', '--rm', '--network', 'localnet', '-p', '8080:80', IMAGE, 'true'];
    t.match(await h.tryDocker(...again), { code: 125, stderr: /Port 8080\/tcp on 0\.0\.0\.0/ });
    await h.docker('rm', '--force', 'p1');
    t.notMatch(await h.net('ss', '-Hltn'), /:8080\b/);
    // A bridge's name or a counter may have these digits.
    t.notMatch(await h.sh('nft list table inet cnm'), /tcp \. 8080 /);
  });

  t.test('an unknown option is refused, never silently ignored', async (t) => {
    const { code, stderr } = await h.tryDocker(
      'network',
      'create',
      '-d',
      'cnm-bridge',
      '-o',
      'opt1=drv1',
      'no',
    );
    t.equal(code, 1);
    t.match(stderr, 'cnm-bridge does not know the option "opt1"');
  });

  t.test('the last example takes all away', async (t) => {
    for (const line of examples[last] ?? []) {
      const { code, stderr } = await h.trySh(line);
      t.equal(code, 0, `# ${line}\n${stderr}`);
    }
    await assertRestored(t, h, before);
  });
});

async function debug(t: Test, h: DockerHost, questions: Readme['questions']): Promise<void> {
  await h.container('stranger', 'dual');
  const bridge = await bridgeOf(h, 'localnet');
  const [port = ''] = await portsOf(h, bridge);
  const { v4 } = await attached(h, 'c1', 'localnet');
  const answers: Readonly<Record<string, readonly RegExp[]>> = {
    "Which interface is which container's?": [
      new RegExp(`bridge ${bridge} [^]*veth [^]* ${v4}/16\n[^]*container c1,`),
    ],
    'Does the kernel hold what we stored?': [/./],
    "Who is a link's owner?": [/alias cnm [0-9a-f]{64} [0-9a-f]{64}/],
    'What is a container limited to?': [/^qdisc /],
    'What does our firewall hold?': [new RegExp(`elements = \\{ [^}]*"${bridge}"`)],
    "Does Docker's firewall let it pass?": [
      new RegExp(`ACCEPT .* ${bridge} `),
      /Chain FORWARD \(policy DROP/,
    ],
    'Does the packet reach the bridge?': [new RegExp(`> ${v4}: ICMP echo request`)],
    'Which rule drops it?': [/^$/, new RegExp(`inet cnm into_bridge rule drop \\(verdict drop\\)`), /^$/],
  };
  t.same([...questions.keys()].sort(), Object.keys(answers).sort(), 'every question');
  for (const [question, commands] of questions) {
    const wanted = answers[question] ?? [];
    t.equal(commands.length, wanted.length, question);
    for (const [index, command] of commands.entries()) {
      const line = command
        .replace('NAME', 'localnet')
        .replace('vethXXXXXXXXXXh', port)
        .replace('cnm0123456789ab', bridge);
      t.match(await shown(h, line, v4), wanted[index] ?? '', `${question} # ${line}`);
    }
  }
  await h.docker('rm', '--force', 'stranger');
}

/** What a command prints; one that waits for packets gets some: from c2, and from the other network. */
async function shown(h: DockerHost, line: string, target: string): Promise<string> {
  if (!/^tcpdump|monitor/.test(line)) return h.sh(line);
  const running = h.spawn(['bash', '-c', `exec ${line}`]);
  const seen = await until('a packet to be shown', 10_000, async () => {
    await Promise.all([h.containerPings('c2', target, 1), h.containerPings('stranger', target, 1)]);
    return /drop|echo request/.test(running.stdout) ? running.stdout : undefined;
  });
  await running.kill('SIGINT');
  return seen;
}
