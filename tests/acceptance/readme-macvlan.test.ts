/*
 * drivers/macvlan/README.md as a stranger reads it: every example but those with VLANs (macvlan-vlan.test.ts types those, where the kernel has 8021q) typed on a host
 * with Docker 20.10, in order, the commands of its table for debugging, then its last example, which takes all away.
 *
 *   h: dockerd + cnm-macvlan ── eth1 ══ eth1 r, the router and DHCP server of 10.20.0.0/24
 */
import t from 'tap';
import { until } from '../lab/command.ts';
import { DhcpServer } from '../lab/dhcp-server.ts';
import { IMAGE } from '../lab/image.ts';
import { openLab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { installCommand } from './observe.ts';
import { readme } from './readme-macvlan.ts';

t.test('the README of cnm-macvlan', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets', drivers: ['macvlan'] });
  const r = await lab.peer({ name: 'r', uplink: false });
  await lab.link({ host: h, link: 'eth1' }, { host: r, link: 'eth1', addresses: ['10.20.0.9/24'] });
  const server = new DhcpServer(
    r,
    'eth1',
    'dhcp',
    '--dhcp-range=10.20.0.100,10.20.0.120,255.255.255.0,1h',
    '--no-ping',
  );
  await server.start();
  await installCommand(h);
  await h.makeSandboxFolder();
  const before = await snapshot(h);
  const { examples, questions } = await readme();
  t.equal(examples.length, 4, 'beside the one with VLANs');

  const said = new Map<string, string>();
  for (const line of examples.slice(0, -1).flat()) {
    const { code, stdout, stderr } = await h.trySh(line.replace(' alpine ', ` ${IMAGE} `));
    t.equal(code, 0, `# ${line}\n${stderr}`);
    said.set(line.split(' ').slice(0, 3).join(' '), stdout);
  }
  t.match(said.get('docker exec c1'), 'default via 10.20.0.9 dev eth0');
  t.match(said.get('cnm sandbox exec'), /inet 10\.21\.0\.\d+\/24 .* eth0/);
  t.match(said.get('docker inspect --format'), /^10\.20\.0\.1[012]\d\n/);
  t.match(said.get('cnm network inspect'), /parent +eth1\n/);

  await t.test('the table for debugging answers its questions', async (t) => {
    const pid = await h.docker('inspect', '--format', '{{.State.Pid}}', 'c1');
    const answers: Readonly<Record<string, RegExp>> = {
      'Which container is on which wire?': /parent +eth1\n[^]*mode +bridge\n[^]*container c1/,
      'Does the kernel hold what we stored?': /./,
      'Whose is a VLAN interface?': /^/,
      'What is it in the container?': /macvlan mode bridge [^]*alias cnm [0-9a-f]{64} [0-9a-f]{64}/,
      'Does the parent lead anywhere?': /parent +eth1\n/,
      'Does the LAN talk to containers?':
        /ok +frames +a frame with a container's MAC left by eth1, and 10\.20\.0\.9 /,
      'Do its frames reach the wire?': /> 10\.20\.0\.9: ICMP echo request/,
    };
    t.same([...questions.keys()].sort(), Object.keys(answers).sort(), 'every question');
    for (const [question, [command = '']] of questions) {
      const line = command.replace('NAME', 'lan').replace('PID', pid);
      const running = h.spawn(['bash', '-c', `exec ${line}`]);
      const seen = await until(question, 20_000, async () => {
        if (line.startsWith('tcpdump')) await h.containerPings('c1', '10.20.0.9', 1);
        else if (running.alive) return undefined;
        return answers[question]?.test(running.stdout) === true ? running.stdout : undefined;
      });
      await running.kill('SIGINT');
      t.match(seen, answers[question] ?? /$^/, `${question} # ${line}`);
    }
  });

  await t.test('the last example takes all away', async (t) => {
    for (const line of examples.at(-1) ?? []) {
      const { code, stderr } = await h.trySh(line);
      t.equal(code, 0, `# ${line}\n${stderr}`);
    }
    await assertRestored(t, h, before);
    await server.stop();
  });
});
