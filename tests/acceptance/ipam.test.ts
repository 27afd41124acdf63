/*
 * Addresses as the user of Docker 20.10 sees them, with Docker's own IPAM driver and with ours, on our bridge.
 *
 *   h1 (198.51.100.10 on the uplink, docker0 172.17.0.1)
 *    ├── n  10.50.0.0/24, range 10.50.0.64/26, gateway .254, set aside .65 and .9 ── c1, c2, …
 *    └── d  10.51.0.0/24 and fd00:51::/64 ── c1
 */
import t from 'tap';
import type { Test } from 'tap';
import type { DockerHost } from '../lab/docker-host.ts';
import { openLab, WORLD } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';

const CREATE = ['network', 'create', '--driver', 'cnm-bridge', '--ipam-driver'];

const addressOf = (h: DockerHost, container: string): Promise<string> => {
  const format = '{{range .NetworkSettings.Networks}}{{.IPAddress}}/{{.IPPrefixLen}}{{end}}';
  return h.docker('inspect', '--format', format, container);
};

/** What `docker run` with these options says in the end, without Docker's beginning. The container is removed. */
async function refusal(h: DockerHost, network: string, ...options: string[]): Promise<string> {
  const run = ['run', '--name', 'refused', '--network', network, ...options, 'cnm-lab', 'true'];
  const { code, stderr } = await h.tryDocker(...run);
  await h.docker('rm', '--force', 'refused');
  return code === 0 ? 'it was accepted' : stderr;
}

interface Sentences {
  readonly taken: (address: string) => RegExp;
  readonly reserved: (address: string, what: string) => RegExp;
  readonly overlap: (wanted: string, held: string) => RegExp;
}

const literal = (text: string): string => text.replaceAll('.', '\\.');

/** Docker's own name no address (acceptance.md, 1.12). */
const DRIVERS: Readonly<Record<'default' | 'cnm-ipam', Sentences>> = {
  default: {
    taken: () => /Address already in use/,
    reserved: () => /Address already in use/,
    overlap: () => /Pool overlaps with other one on this address space/,
  },
  'cnm-ipam': {
    taken: (address) =>
      new RegExp(
        `Address already in use: ${literal(address)} of 10\\.50\\.0\\.0/24 is held by (the gateway|an endpoint or set aside)`,
      ),
    reserved: (address, what) =>
      new RegExp(`${literal(address)} cannot be used, it is the ${what} address of`),
    overlap: (wanted, held) =>
      new RegExp(
        `Pool overlaps with other one on this address space: ${literal(wanted)} meets ${literal(held)}`,
      ),
  },
};

t.test('addresses with Docker 20.10', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({ plugin: 'sockets' });
  // Left on by the first IPv6 network, as Docker's own driver leaves it.
  await h.sh('sysctl -qw net.ipv6.conf.all.forwarding=1');
  for (const [driver, sentences] of Object.entries(DRIVERS)) {
    t.test(`the IPAM driver ${driver}`, (t) => addresses(t, h, driver, sentences));
  }
  t.test('cnm-ipam chooses subnets that are free', (t) => chosenSubnets(t, h));
});

async function addresses(t: Test, h: DockerHost, driver: string, says: Sentences): Promise<void> {
  const before = await snapshot(h);
  const subnet = ['--subnet', '10.50.0.0/24', '--gateway', '10.50.0.254', '--ip-range', '10.50.0.64/26'];
  const aside = ['--aux-address', 'printer=10.50.0.65', '--aux-address', 'nas=10.50.0.9'];
  const network = [...CREATE, driver, ...subnet, ...aside, 'n'];
  await h.docker(...network);

  t.test('I08, I11: addresses come from the range, the gateway from outside of it', async (t) => {
    await h.container('c1', 'n');
    await h.container('c2', 'n');
    t.equal(
      await addressOf(h, 'c1'),
      '10.50.0.64/24',
      'the first of the range, with the length of the subnet',
    );
    t.equal(await addressOf(h, 'c2'), '10.50.0.66/24', 'not the one that was set aside');
    t.match(await h.inContainer('c1', 'ip', '-o', 'address', 'show', 'eth0'), ' 10.50.0.64/24 ');
    t.match(await h.inContainer('c1', 'ip', 'route'), 'default via 10.50.0.254 ');
    t.ok(await h.containerPings('c1', '10.50.0.66'));
    t.ok(await h.containerPings('c1', '10.50.0.254'), 'the gateway');
    t.ok(await h.containerPings('c2', WORLD));
  });

  t.test('I09: an address of the user’s may lie outside of the range', async (t) => {
    await h.container('c3', 'n', '--ip', '10.50.0.200');
    t.equal(await addressOf(h, 'c3'), '10.50.0.200/24');
    t.ok(await h.containerPings('c3', '10.50.0.64'));
  });

  t.test('I10: addresses that cannot be had', async (t) => {
    const rows = [
      ['10.50.0.200', says.taken],
      ['10.50.0.254', says.taken],
      ['10.50.0.65', says.taken],
      ['10.50.0.9', says.taken],
      ['10.50.0.0', (address: string) => says.reserved(address, 'network')],
      ['10.50.0.255', (address: string) => says.reserved(address, 'broadcast')],
      [
        '10.50.1.7',
        () => /Invalid address 10\.50\.1\.7: It does not belong to any of this network's subnets/,
      ],
    ] as const;
    const held = await snapshot(h);
    for (const [address, wanted] of rows) {
      t.match(await refusal(h, 'n', '--ip', address), wanted(address), address);
    }
    t.equal(await h.docker('network', 'inspect', '-f', '{{len .Containers}}', 'n'), '3');
    await assertRestored(t, h, held);
  });

  t.test('a released address is given again: named at once, chosen when its turn comes', async (t) => {
    await h.docker('rm', '--force', 'c1', 'c3');
    await h.container('c4', 'n');
    // Docker's own gives the lowest that is free.
    t.equal(await addressOf(h, 'c4'), driver === 'default' ? '10.50.0.64/24' : '10.50.0.67/24');
    await h.container('c5', 'n', '--ip', '10.50.0.200');
    t.equal(await addressOf(h, 'c5'), '10.50.0.200/24');
    await h.docker('restart', 'c5');
    t.equal(await addressOf(h, 'c5'), '10.50.0.200/24', 'kept by its container');
  });

  t.test('I13: subnets, gateways and ranges that cannot be', (t) => impossible(t, h, driver, says));

  t.test('a network with containers is not removed; without, its subnet is free at once', async (t) => {
    t.match(await h.tryDocker('network', 'rm', 'n'), { code: 1, stderr: /has active endpoints/ });
    await h.docker('rm', '--force', 'c2', 'c4', 'c5');
    await h.docker('network', 'rm', 'n');
    await assertRestored(t, h, before);
    await h.docker(...network);
    await h.container('c1', 'n', '--ip', '10.50.0.200');
    await h.docker('rm', '--force', 'c1');
    await h.docker('network', 'rm', 'n');
    await h.docker(...CREATE, driver, '--subnet', '10.50.0.0/16', 'n');
    await h.docker('network', 'rm', 'n');
  });

  t.test('I21: a network that its driver refuses gives its subnet back', async (t) => {
    for (const attempt of [1, 2]) {
      const bad = [...CREATE, driver, '--subnet', '10.50.0.0/24', '-o', 'opt1=drv1', 'n'];
      t.match(await h.tryDocker(...bad), { code: 1, stderr: /"opt1"/ }, `attempt ${attempt}`);
    }
    await h.docker(...CREATE, driver, '--subnet', '10.50.0.0/24', 'n');
    await h.docker('network', 'rm', 'n');
  });

  t.test('both families', async (t) => {
    const both = ['--ipv6', '--subnet', '10.51.0.0/24', '--subnet', 'fd00:51::/64'];
    await h.docker(...CREATE, driver, ...both, 'd');
    await h.container('c1', 'd', '--ip6', 'fd00:51::abcd');
    await h.container('c2', 'd');
    t.match(await h.inContainer('c1', 'ip', '-6', '-o', 'address', 'show', 'eth0'), 'fd00:51::abcd/64');
    t.ok(await h.containerPings('c2', 'fd00:51::abcd'));
    t.match(await refusal(h, 'd', '--ip6', 'fd00:51::abcd'), /Address already in use/);
    await h.docker('rm', '--force', 'c1', 'c2');
    await h.docker('network', 'rm', 'd');
    await assertRestored(t, h, before);
  });
}

/** Beside the network n. What the docker command itself refuses never comes to a driver. */
async function impossible(t: Test, h: DockerHost, driver: string, says: Sentences): Promise<void> {
  const wide = ['--subnet', '10.52.0.0/24'];
  const rows: readonly (readonly [options: readonly string[], says: RegExp])[] = [
    [['--subnet', '10.50.0.0/24'], says.overlap('10.50.0.0/24', '10.50.0.0/24')],
    [['--subnet', '10.50.0.128/25'], says.overlap('10.50.0.128/25', '10.50.0.0/24')],
    [['--subnet', '10.0.0.0/9'], says.overlap('10.0.0.0/9', '10.50.0.0/24')],
    [[...wide, '--subnet', '10.52.0.0/25'], /multiple overlapping subnet configuration is not supported/],
    [
      [...wide, '--subnet', '10.53.0.0/24'],
      /one IPv4 subnet, not 2 \(10\.5[23]\.0\.0\/24, 10\.5[23]\.0\.0\/24\)/,
    ],
    [[...wide, '--gateway', '10.54.0.1'], /no matching subnet for gateway 10\.54\.0\.1/],
    [[...wide, '--ip-range', '10.54.0.0/25'], /no matching subnet for range 10\.54\.0\.0\/25/],
    [[...wide, '--aux-address', 'x=10.54.0.1'], /no matching subnet for aux-address 10\.54\.0\.1/],
    [
      [...wide, '--gateway', '10.52.0.7', '--aux-address', 'x=10.52.0.7'],
      /x:10\.52\.0\.7.*Address already in use/,
    ],
    [['--ip-range', '10.52.0.0/24'], /every ip-range or gateway must have a corresponding subnet/],
    [['--subnet', '224.0.0.0/24'], /224\.0\.0\.0\/24 is a multicast (block|range)/],
  ];
  const before = await snapshot(h);
  for (const [options, wanted] of rows) {
    const { code, stderr } = await h.tryDocker(...CREATE, driver, ...options, 'bad');
    t.equal(code, 1, options.join(' '));
    t.match(stderr, wanted, options.join(' '));
  }
  await assertRestored(t, h, before);
  await h.docker(...CREATE, driver, ...wide, 'freed');
  await h.docker('network', 'rm', 'freed');
}

async function chosenSubnets(t: Test, h: DockerHost): Promise<void> {
  const before = await snapshot(h);
  await h.sh('ip link add lab0 type bridge && ip address add 172.18.0.1/24 dev lab0 && ip link set lab0 up');
  const names = ['a', 'b', 'c'].map((name) => `auto-${name}`);
  for (const name of names) await h.docker(...CREATE, 'cnm-ipam', name);
  const format = '{{range .IPAM.Config}}{{.Subnet}}{{end}}';
  const subnets = (await h.docker('network', 'inspect', '-f', format, ...names)).split('\n');
  t.same(
    subnets,
    ['172.18.1.0/24', '172.18.2.0/24', '172.18.3.0/24'],
    'clear of docker0, of lab0 and of each other',
  );
  await h.docker('network', 'rm', ...names);
  await h.sh('ip link del lab0');
  await assertRestored(t, h, before);
}
