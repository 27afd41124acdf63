/*
 * The walk-throughs by which people learn Docker networking, with our driver's name in place of Docker's: scenarios 1, 2 and 12.
 *
 *   uplink ──┬── eth0 h1 ── dockerd 20.10 + cnm-bridge
 *            │                ├── A ── box-a, box-b   one container with one endpoint, one with two
 *            │                ├── B ── box-b, box-c
 *            │                └── localnet ── c1, c2
 *            └── eth0 h2 ── dockerd 20.10 + cnm-bridge
 *                             └── localnet ── c3, c4, c5, c6
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { openLab } from '../lab/lab.ts';
import { attached, bridgeOf, capture, portsOf } from './observe.ts';

/** What a person types after `docker run -dit …`, with the lab's image in place of alpine. */
function run(h: DockerHost, name: string, network: string): Promise<string> {
  return h.docker('run', '-dit', '--name', name, '--network', network, 'cnm-lab', 'sleep', '1d');
}

t.test('scenarios', async (t) => {
  const lab = await openLab(t);
  const [h, other] = await Promise.all([
    lab.dockerHost({ plugin: 'sockets' }),
    lab.dockerHost({ plugin: 'sockets' }),
  ]);

  t.test('12 the log of one docker run is a page that tells the story', (t) => story(t, h));

  t.test('1 three objects: sandboxes, endpoints, networks', (t) => threeObjects(t, h));

  t.test('1 the same, without Docker', (t) => threeObjectsAlone(t, h));

  t.test('2 localnet', async (t) => {
    await h.docker('network', 'create', '-d', 'cnm-bridge', 'localnet');
    await run(h, 'c1', 'localnet');
    await run(h, 'c2', 'localnet');
    const c1 = await attached(h, 'c1', 'localnet');
    t.match(await h.docker('network', 'ls'), / localnet +cnm-bridge +local/);

    const bridge = await bridgeOf(h, 'localnet');
    const ports = await portsOf(h, bridge);
    t.equal(ports.length, 2, 'a veth for each container');
    const [, listed = ''] = (await h.net('brctl', 'show')).split(new RegExp(`^(?=${bridge}\\t)`, 'm'));
    for (const port of ports) t.match(listed, new RegExp(`\\t${port}$`, 'm'), 'brctl show lists it');
    const links = (await h.net('bridge', 'link')).split('\n');
    for (const port of ports) {
      const line = links.find((one) => one.includes(` ${port}@`));
      t.match(line, `master ${bridge} state forwarding`, 'bridge link lists it');
    }
    t.match(await h.exec('c2', 'ping', '-c1', '-W3', 'c1'), `(${c1.v4})`, 'c2 pings c1 by name');

    // Two hosts, two networks, one name, and the subnet that Docker chooses on both.
    await other.docker('network', 'create', '-d', 'cnm-bridge', 'localnet');
    for (const name of ['c3', 'c4', 'c5', 'c6']) await run(other, name, 'localnet');
    const c6 = await attached(other, 'c6', 'localnet');
    t.equal(c6.v4.replace(/\d+$/, ''), c1.v4.replace(/\d+$/, ''), 'an address of the same subnet');
    const seen = await capture(
      (argv) => other.spawnNet(argv),
      '-i any icmp or arp',
      async () => {
        t.notOk(await h.containerPings('c1', c6.v4, 1), 'a container of the other host is not reached');
        const query = ['dig', '+short', '+time=1', '+tries=1', '@127.0.0.11', 'c6'];
        t.notMatch((await h.tryInContainer('c1', {}, ...query)).stdout, c6.v4, 'nor is its name known');
      },
    );
    t.notMatch(seen, c6.v4, 'and nothing of it comes to the other host');
    t.match(await other.exec('c3', 'ping', '-c1', '-W3', 'c6'), `(${c6.v4})`, 'over there it is reached');
    await h.docker('rm', '--force', 'c1', 'c2');
    await h.docker('network', 'rm', 'localnet');
  });
});

/** The text of a drawing, with what differs from run to run named: a person reads it, so the test does. */
function calm(drawing: string, names: Readonly<Record<string, string>>): string {
  const known = Object.entries(names).reduce((text, [name, word]) => text.replaceAll(name, word), drawing);
  return known
    .replaceAll(/(?:[0-9a-f]{2}:){5}[0-9a-f]{2}/g, 'MAC')
    .replaceAll(/endpoint [0-9a-f]{12}/g, 'endpoint ID');
}

async function threeObjects(t: Test, h: DockerHost): Promise<void> {
  await h.docker('network', 'create', '-d', 'cnm-bridge', '--subnet', '10.10.0.0/24', 'A');
  await h.docker('network', 'create', '-d', 'cnm-bridge', '--subnet', '10.11.0.0/24', 'B');
  await Promise.all([run(h, 'box-a', 'A').then(() => run(h, 'box-b', 'A')), run(h, 'box-c', 'B')]);
  await h.docker('network', 'connect', 'B', 'box-b');
  const [a, b, bOnB, c] = await Promise.all([
    attached(h, 'box-a', 'A'),
    attached(h, 'box-b', 'A'),
    attached(h, 'box-b', 'B'),
    attached(h, 'box-c', 'B'),
  ]);
  t.match(await h.exec('box-a', 'ping', '-c1', '-W3', 'box-b'), `(${b.v4})`, 'a and b talk over A');
  t.match(await h.exec('box-b', 'ping', '-c1', '-W3', 'box-a'), `(${a.v4})`);
  t.match(await h.exec('box-b', 'ping', '-c1', '-W3', 'box-c'), `(${c.v4})`, 'b and c over B');
  for (const [from, to] of [
    ['box-a', bOnB.v4],
    ['box-a', c.v4],
    ['box-c', b.v4],
    ['box-c', a.v4],
  ] as const) {
    t.notOk(
      await h.containerPings(from, to, 1),
      `b's two endpoints do not join its networks: ${from} → ${to}`,
    );
  }

  const bridges = { [await bridgeOf(h, 'A')]: 'BRIDGE-A', [await bridgeOf(h, 'B')]: 'BRIDGE-B' };
  const drawn = async (network: string): Promise<string> => {
    // Names of containers are learned from Docker after the fact.
    const text = await until('containers by name', 5000, async () => {
      const drawing = await h.cnm('network', 'inspect', network);
      return drawing.includes('container box-b,') ? drawing : undefined;
    });
    const chain = /^ {2}bridge [^]*?(?=\n\n)/m.exec(text)?.[0] ?? text;
    return calm(chain, bridges).replaceAll(/veth\w{10}h/g, 'VETH');
  };
  t.equal(
    await drawn('A'),
    `  bridge BRIDGE-A  up  mtu 1500  mac MAC  10.10.0.1/24
  +-- veth VETH  up  mtu 1500  mac MAC
  |   \`-- eth0  up  mtu 1500  mac MAC  ${a.v4}/24
  |       container box-a, endpoint ID
  |       default via 10.10.0.1
  \`-- veth VETH  up  mtu 1500  mac MAC
      \`-- eth0  up  mtu 1500  mac MAC  ${b.v4}/24
          container box-b, endpoint ID
          default via 10.10.0.1`,
  );
  t.equal(
    await drawn('B'),
    `  bridge BRIDGE-B  up  mtu 1500  mac MAC  10.11.0.1/24
  +-- veth VETH  up  mtu 1500  mac MAC
  |   \`-- eth0  up  mtu 1500  mac MAC  ${c.v4}/24
  |       container box-c, endpoint ID
  |       default via 10.11.0.1
  \`-- veth VETH  up  mtu 1500  mac MAC
      \`-- eth1  up  mtu 1500  mac MAC  ${bOnB.v4}/24
          container box-b, endpoint ID`,
  );
  await h.docker('rm', '--force', 'box-a', 'box-b', 'box-c');
  await h.docker('network', 'rm', 'A', 'B');
}

async function threeObjectsAlone(t: Test, h: DockerHost): Promise<void> {
  for (const [name, subnet] of [
    ['A', '10.10.0.0/24'],
    ['B', '10.11.0.0/24'],
  ] as const) {
    await h.cnm('network', 'create', '--subnet', subnet, name);
  }
  for (const name of ['a', 'b']) await h.cnm('sandbox', 'create', name);
  for (const [name, network] of [
    ['a', 'A'],
    ['b', 'A'],
    ['b', 'B'],
  ] as const) {
    await h.cnm('sandbox', 'join', name, '--network', network);
  }
  t.equal((await h.tryCnm('sandbox', 'exec', 'a', '--', 'ping', '-c1', '-W3', '10.10.0.3')).code, 0);
  t.not((await h.tryCnm('sandbox', 'exec', 'a', '--', 'ping', '-c1', '-W1', '10.11.0.2')).code, 0);
  const drawing = await h.cnm('sandbox', 'inspect', 'b');
  const chain = /^ {2}namespace [^]*/m.exec(drawing)?.[0].trimEnd() ?? drawing;
  t.equal(
    calm(chain, {})
      .replaceAll(/cnm[0-9a-f]{12}/g, 'BRIDGE')
      .replaceAll(/veth\w{10}h/g, 'VETH')
      .replaceAll(/\([0-9a-f]{12}\)/g, '(ID)')
      .replace(/netns\/\w+/, 'netns/ID'),
    `  namespace /run/cnm/netns/ID
  +-- eth0  up  mtu 1500  mac MAC  10.10.0.3/24
  |   endpoint ID
  |   default via 10.10.0.1
  |   \`-- veth VETH  up  mtu 1500  mac MAC
  |       \`-- bridge BRIDGE  up  mtu 1500  mac MAC  10.10.0.1/24
  |           \`-- network A (ID)  cnm-bridge
  \`-- eth1  up  mtu 1500  mac MAC  10.11.0.2/24
      endpoint ID
      \`-- veth VETH  up  mtu 1500  mac MAC
          \`-- bridge BRIDGE  up  mtu 1500  mac MAC  10.11.0.1/24
              \`-- network B (ID)  cnm-bridge`,
  );
  await h.cnm('sandbox', 'rm', 'a', 'b');
  await h.cnm('network', 'rm', 'A', 'B');
}

/** The daemon's words about one container, from the first to the last; a line for each sentence that must be there, in order. */
async function story(t: Test, h: DockerHost): Promise<void> {
  await h.docker('network', 'create', '-d', 'cnm-bridge', '--subnet', '10.12.0.0/24', 'shop');
  const network = (await bridgeOf(h, 'shop')).slice(3);
  await quiet(h);
  const before = h.cnmd.log.length;
  await run(h, 'web', 'shop');
  await quiet(h);
  const page = h.cnmd.log.slice(before);
  const endpoint = (
    await h.docker('inspect', '-f', '{{.NetworkSettings.Networks.shop.EndpointID}}', 'web')
  ).slice(0, 12);
  const { v4, mac } = await attached(h, 'web', 'shop');
  const sandbox = await h.docker('inspect', '-f', '{{.NetworkSettings.SandboxKey}}', 'web');
  const [port = ''] = await portsOf(h, `cnm${network}`);

  const lines = page.trimEnd().split('\n');
  t.ok(lines.length <= 60, `a page: ${lines.length} lines`);
  t.same(
    lines.filter((line) => line.length > 220 || /[{}]/.test(line) || /[^\x20-\x7e]/.test(line)),
    [],
    'of lines that a person can read',
  );
  const sentences: readonly (readonly string[])[] = [
    ['DEBUG the plan of the endpoint', endpoint],
    [`ip link add ${port} type veth peer name ${port.slice(0, -1)}c`],
    [`ip link set ${port} master cnm${network}`],
    [`ip link set ${port} up`],
    ['NetworkDriver.CreateEndpoint', mac, `network=${network}`, `endpoint=${endpoint}`, `address=${v4}/24`],
    ['NetworkDriver.Join', `SrcName ${port.slice(0, -1)}c`, 'Gateway 10.12.0.1', `sandbox=${sandbox}`],
    ['NetworkDriver.ProgramExternalConnectivity: done', `endpoint=${endpoint}`],
  ];
  let at = -1;
  for (const words of sentences) {
    at = lines.findIndex((line, index) => index > at && words.every((word) => line.includes(word)));
    if (!t.ok(at >= 0, words.join(' … '))) break;
  }
  t.notMatch(page, /WARN|ERROR|repaired/, 'and no trouble where there is none');
  if (!t.passing()) t.comment(page);
  await h.docker('rm', '--force', 'web');
  await h.docker('network', 'rm', 'shop');
}

/** Until the daemon has said nothing for a second: what others change in the kernel it hears of some time later. */
async function quiet(h: DockerHost): Promise<void> {
  let length = -1;
  while (h.cnmd.log.length !== length) {
    length = h.cnmd.log.length;
    await sleep(1000);
  }
}
