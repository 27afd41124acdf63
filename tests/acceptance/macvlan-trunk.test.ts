// lab: vm 8021q
// lab: timeout 1200
/*
 * Scenario 4 word for word, as the README of cnm-macvlan has it: two VLANs of one interface at the same time, each container on its own.
 *
 *   h: dockerd 20.10 + cnm-macvlan                       trunk
 *     eth1.100 ── mactainer1 ─┐                   ┌─ eth0.100  10.0.0.1
 *     eth1.200 ── mactainer2 ─┴─ eth1 ══ eth0 p ──┴─ eth0.200  192.168.3.1
 */
import t from 'tap';
import { IMAGE } from '../lab/image.ts';
import { openLab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { trunkPeer } from '../lab/vlan.ts';
import { attached, capture, installCommand } from './observe.ts';
import { readme } from './readme-macvlan.ts';

t.test('scenario 4: macvlan100, and a second VLAN at the same time', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets', drivers: ['macvlan'] });
  const p = await trunkPeer(
    lab,
    { host: h, link: 'eth1' },
    { tags: [100], addresses: ['10.0.0.1/24'] },
    { tags: [200], addresses: ['192.168.3.1/24'] },
  );
  const before = await snapshot(h);
  await installCommand(h);
  const lines = (await readme()).vlans;
  const end = lines.findIndex((line) => line.startsWith('docker rm'));
  t.ok(end > 0);
  const type = async (line: string) => {
    const { code, stderr, stdout } = await h.trySh(line.replace(' alpine ', ` ${IMAGE} `));
    t.equal(code, 0, `# ${line}\n${stderr}`);
    return stdout;
  };
  const said = [];
  for (const line of lines.slice(0, end)) said.push(await type(line));
  t.match(said.at(-1), /vlan protocol 802\.1Q id 100 [^]*alias cnm shared/);
  const one = await attached(h, 'mactainer1', 'macvlan100');
  t.match(one.v4, /^10\.0\.0\.(\d|[1-9]\d|1[01]\d|12[0-7])$/, 'an address of the range');
  for (const [container, vlan, to] of [
    ['mactainer1', 100, '10.0.0.1'],
    ['mactainer2', 200, '192.168.3.1'],
  ] as const) {
    const { mac } = await attached(h, container, `macvlan${vlan}`);
    const seen = await capture(
      (argv) => p.spawnNet(argv),
      '-e -i eth0 icmp',
      async () => {
        t.ok(await h.containerPings(container, to, 5), `${container} reaches ${to}`);
      },
    );
    t.match(
      seen,
      new RegExp(`${mac} > .* vlan ${vlan}, .*> ${to.replaceAll('.', '\\.')}: ICMP echo request`),
    );
  }
  // By its id: where all is slow the Engine does not tell names in time.
  const id = await h.docker('network', 'inspect', '--format', '{{.Id}}', 'macvlan100');
  const drawn = await h.cnm('network', 'inspect', id);
  t.match(drawn, /parent +eth1\.100\n +vlan +100 \(802\.1q\) on eth1\n +mode +bridge\n/);
  for (const line of lines.slice(end)) await type(line);
  await assertRestored(t, h, before);
});
