/*
 * The policy of cnm-ipam as the user of Docker 28.5 sees it, and what Docker itself is told at the plugin's socket.
 *
 *   h1: dockerd 28.5 + cnm-bridge + cnm-ipam, subnets chosen from 10.96.0.0/21 as /24 and /26, fd96::/60 as /64
 *    ├── eth0 198.51.100.10/24, name server 10.96.0.53, route 10.96.1.0/24, Docker's own macvlan on 10.96.2.0/24
 *    ├── p   10.60.0.0/29, a few addresses that come and go ── c1, c2, …
 *    └── r   10.61.0.0/24 and fd61::/125, some reserved ── c1, c2
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import type { AddressView, AuditView, PoolSummary } from '../../inspect/views.ts';
import { until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { REPOSITORY } from '../lab/host.ts';
import { IMAGE } from '../lab/image.ts';
import { openLab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { attached, installCommand } from './observe.ts';

const POOLS = 'base=10.96.0.0/21,size=24;base=10.96.0.0/21,size=26;base=fd96::/60,size=64';

const create = (h: DockerHost, name: string, ...options: string[]): Promise<string> =>
  h.docker('network', 'create', '--driver', 'cnm-bridge', '--ipam-driver', 'cnm-ipam', ...options, name);

async function refusal(h: DockerHost, ...words: string[]): Promise<string> {
  const { code, stderr } = await h.tryDocker(...words);
  return code === 0 ? 'it was accepted' : stderr;
}

const refusedNetwork = (h: DockerHost, ...options: string[]): Promise<string> =>
  refusal(h, 'network', 'create', '--driver', 'cnm-bridge', '--ipam-driver', 'cnm-ipam', ...options, 'bad');

async function refusedContainer(h: DockerHost, network: string, ...options: string[]): Promise<string> {
  const said = await refusal(
    h,
    'run',
    '--name',
    'refused',
    ...options,
    '--network',
    network,
    'cnm-lab',
    'true',
  );
  await h.docker('rm', '--force', 'refused');
  return said;
}

const subnetOf = async (h: DockerHost, network: string): Promise<string> =>
  (await h.docker('network', 'inspect', '-f', '{{(index .IPAM.Config 0).Subnet}}', network)).trim();

const poolOf = async (h: DockerHost, subnet: string): Promise<PoolSummary | undefined> =>
  (JSON.parse(await h.cnm('ipam', 'ls', '--json')) as PoolSummary[]).find(({ pool }) => pool === subnet);

t.test('the policy with Docker 28.5', async (t) => {
  const lab = await openLab(t);
  const h = await lab.dockerHost({
    engine: '28.5',
    plugin: 'sockets',
    // So long that none is over while a loaded machine starts three containers.
    arguments: ['--default-address-pools', POOLS, '--address-rest', '600'],
  });
  await installCommand(h);
  await h.sh('sysctl -qw net.ipv6.conf.default.forwarding=1 net.ipv6.conf.all.forwarding=1');
  await h.makeSandboxFolder();
  await t.test('I03, I22: chosen subnets are clear of everything else', (t) => chosen(t, h));
  await t.test('a small pool', (t) => smallPool(t, h));
  await t.test('I12, V11: the smallest subnets', (t) => smallest(t, h));
  await t.test('reserved addresses, and options that cannot be', (t) => options(t, h));
  await t.test('the tools agree with Docker', (t) => tools(t, h));
  await t.test('at the socket', (t) => atTheSocket(t, h));
  await t.test('the README of cnm-ipam', (t) => readme(t, h));
});

async function chosen(t: Test, h: DockerHost): Promise<void> {
  await h.sh('echo nameserver 10.96.0.53 > /etc/resolv.conf; ip route add 10.96.1.0/24 via 198.51.100.1');
  // Docker's own network without any route on the host.
  await h.docker('network', 'create', '-d', 'macvlan', '-o', 'parent=eth0', '--subnet=10.96.2.0/24', 'lan');
  // What Docker has is looked at from time to time, once a minute at least, never while it waits for us.
  const first = await until('the macvlan to be known', 180_000, async () => {
    await create(h, 'first');
    const subnet = await subnetOf(h, 'first');
    if (subnet !== '10.96.2.0/24') return subnet;
    await h.docker('network', 'rm', 'first');
    return undefined;
  });
  t.equal(first, '10.96.3.0/24', 'neither the name server, nor the route, nor the other network');
  const names = ['n1', 'n2', 'n3', 'n4', 'n5', 'n6'];
  for (const name of names) await create(h, name);
  const subnets = await Promise.all(names.map((name) => subnetOf(h, name)));
  t.same(
    subnets,
    ['10.96.4.0/24', '10.96.5.0/24', '10.96.6.0/24', '10.96.7.0/24', '10.96.0.64/26', '10.96.0.128/26'],
    'then the smaller ones, around what is taken',
  );
  await h.docker('network', 'rm', 'n2', 'n5');
  await create(h, 'n7');
  await create(h, 'n8');
  t.same([await subnetOf(h, 'n7'), await subnetOf(h, 'n8')], ['10.96.5.0/24', '10.96.0.64/26']);
  await create(h, 'n9');
  t.equal(await subnetOf(h, 'n9'), '10.96.0.192/26');
  const began = performance.now();
  t.match(await refusedNetwork(h), /No IPv4 subnet is free in the default address pools \(10\.96\.0\.0\/21/);
  t.ok(performance.now() - began < 60_000, 'and Docker does not ask for ever');
  await h.docker('network', 'rm', 'first', 'lan', 'n1', 'n3', 'n4', 'n6', 'n7', 'n8', 'n9');
  await h.sh('ip route del 10.96.1.0/24 via 198.51.100.1');
}

async function smallPool(t: Test, h: DockerHost): Promise<void> {
  const before = await snapshot(h);
  await create(h, 'p', '--subnet', '10.60.0.0/29');
  const start = async (name: string) => {
    await h.container(name, 'p');
    return (await attached(h, name, 'p')).v4;
  };
  await t.test('I25: a freed address is not the next', async (t) => {
    t.same([await start('c1'), await start('c2')], ['10.60.0.2', '10.60.0.3']);
    await h.docker('rm', '--force', 'c1');
    t.same(
      [await start('c3'), await start('c4'), await start('c5')],
      ['10.60.0.4', '10.60.0.5', '10.60.0.6'],
    );
    t.same(
      await poolOf(h, '10.60.0.0/29').then((pool) => [pool?.used, pool?.free, pool?.resting]),
      [5, 1, 1],
    );
  });
  await t.test('I07: all of it, then a sentence; what is released is the next', async (t) => {
    t.equal(await start('c6'), '10.60.0.2', 'a full pool gives what it has');
    t.match(await refusedContainer(h, 'p'), /no available IPv4 addresses in 10\.60\.0\.0\/29/);
    await h.docker('rm', '--force', 'c4');
    t.equal(await start('c7'), '10.60.0.5');
  });
  await t.test('I21: what its driver refuses gives its address back', async (t) => {
    await h.docker('rm', '--force', 'c7');
    const used = (await poolOf(h, '10.60.0.0/29'))?.used;
    for (const attempt of [1, 2, 3]) {
      const bad = [
        'run',
        '--name',
        'refused',
        '--network',
        'name=p,driver-opt=nonsense=1',
        'cnm-lab',
        'true',
      ];
      t.match(await refusal(h, ...bad), /nonsense/, `attempt ${attempt}`);
      await h.docker('rm', '--force', 'refused');
    }
    t.equal((await poolOf(h, '10.60.0.0/29'))?.used, used);
    t.equal(await start('c8'), '10.60.0.5', 'there was one left, and it still is');
    t.match(await refusedNetwork(h, '--subnet=10.62.0.0/24', '-o', 'opt1=x'), /opt1/);
    t.equal(await poolOf(h, '10.62.0.0/24'), undefined);
  });
  await h.docker('rm', '--force', 'c2', 'c3', 'c5', 'c6', 'c8');
  await h.docker('network', 'rm', 'p');
  await assertRestored(t, h, before);
}

async function smallest(t: Test, h: DockerHost): Promise<void> {
  await create(h, 'two', '--subnet', '10.63.0.0/31');
  await h.container('c1', 'two');
  t.equal((await attached(h, 'c1', 'two')).v4, '10.63.0.1', 'both addresses of a /31: gateway and container');
  t.match(await refusedContainer(h, 'two'), /no available IPv4 addresses in 10\.63\.0\.0\/31/);
  await create(h, 'one', '--subnet', '10.63.1.7/32');
  t.match(await refusedContainer(h, 'one'), /no available IPv4 addresses in 10\.63\.1\.7\/32/);
  await create(h, 'v6', '--ipv4=false', '--ipv6', '--subnet', 'fd63::/126');
  await h.container('c2', 'v6');
  await h.container('c3', 'v6');
  t.same([(await attached(h, 'c2', 'v6')).v6, (await attached(h, 'c3', 'v6')).v6], ['fd63::2', 'fd63::3']);
  t.match(await refusedContainer(h, 'v6'), /no available IPv6 addresses in fd63::\/126/, 'never fd63::');
  const anycast = await refusedContainer(h, 'v6', '--ip6', 'fd63::');
  t.match(anycast, /fd63:: cannot be used, it is the subnet-router anycast address of fd63::\/126/);
  await h.docker('rm', '--force', 'c1', 'c2', 'c3');
  await h.docker('network', 'rm', 'one', 'two', 'v6');
}

async function options(t: Test, h: DockerHost): Promise<void> {
  const reserved = '--ipam-opt=reserved=10.61.0.0/25,fd61::1-fd61::2';
  await create(h, 'r', '--ipv6', '--subnet=10.61.0.0/24', '--subnet=fd61::/125', reserved);
  await h.container('c1', 'r');
  await h.container('c2', 'r', '--ip', '10.61.0.5', '--ip6', 'fd61::2');
  t.match(
    await attached(h, 'c1', 'r'),
    { v4: '10.61.0.129', v6: 'fd61::4' },
    'behind what is reserved and the gateway',
  );
  t.match(await attached(h, 'c2', 'r'), { v4: '10.61.0.5', v6: 'fd61::2' }, 'which is for who names it');
  await h.docker('rm', '--force', 'c1', 'c2');
  await h.docker('network', 'rm', 'r');
  const rows: readonly (readonly [options: readonly string[], says: RegExp])[] = [
    [
      ['--ipam-opt=reserved=10.62.0.0/24', '--subnet=10.61.0.0/24'],
      /10\.62\.0\.0\/24 are not inside the subnet 10\.61\.0\.0\/24/,
    ],
    [
      ['--ipam-opt=rest=soon', '--subnet=10.61.0.0/24'],
      /The IPAM option rest cannot be "soon": it must be a whole number/,
    ],
    [
      ['--ipam-opt=colour=red', '--subnet=10.61.0.0/24'],
      /The IPAM option "colour" is not known: it must be name, reserved, rest/,
    ],
    [['--subnet=224.0.0.0/24'], /multicast/],
  ];
  for (const [words, says] of rows) t.match(await refusedNetwork(h, ...words), says);
}

async function tools(t: Test, h: DockerHost): Promise<void> {
  await create(h, 'p', '--subnet', '10.60.0.0/24', '--aux-address', 'nas=10.60.0.9');
  await h.docker(
    'network',
    'create',
    '-d',
    'bridge',
    '--ipam-driver',
    'cnm-ipam',
    '--subnet=10.64.0.0/24',
    'own',
  );
  await Promise.all([h.container('c1', 'p'), h.container('c2', 'own')]);
  const show = async (address: string) =>
    (JSON.parse(await h.cnm('ipam', 'show', address, '--json')) as AddressView[])[0];
  t.match(await show('10.60.0.2'), { state: 'endpoint', network: { name: 'p' }, holder: { name: 'c1' } });
  t.match(
    await show('10.64.0.2'),
    { network: { name: 'own' }, holder: { name: 'c2' } },
    "Docker's own driver",
  );
  t.match((await show('10.64.0.2'))?.seenIn, [/^\/run\/docker\/netns\//]);
  t.match((await show('10.60.0.1'))?.seenIn, ['host']);
  const report = JSON.parse(await h.cnm('ipam', 'check', '--json')) as AuditView;
  t.same([report.findings, report.notes], [[], []], 'and nothing is found where nothing is wrong');
  await h.sh('ip route add 10.60.0.0/16 via 198.51.100.1');
  const { code, stdout } = await h.tryCnm('ipam', 'check');
  t.equal(code, 3);
  t.match(stdout, /overlap +cnm-local\/10\.60\.0\.0\/24: .* 10\.60\.0\.0\/16 via 198\.51\.100\.1/);
  await h.sh('ip route del 10.60.0.0/16');
  await h.docker('rm', '--force', 'c1', 'c2');
  await h.docker('network', 'rm', 'p', 'own');
}

/** As Docker speaks, beside it: what its command line cannot ask for. */
async function atTheSocket(t: Test, h: DockerHost): Promise<void> {
  const call = async (method: string, body: unknown) => {
    const { status, text } = await h.plugin('cnm-ipam', `IpamDriver.${method}`, body);
    return { status, ...(JSON.parse(text) as Readonly<Record<string, string>>) } as {
      readonly status: number;
    } & Readonly<Record<string, string>>;
  };
  const pool = (Pool: string, SubPool = '', AddressSpace = 'cnm-local') =>
    call('RequestPool', { AddressSpace, Pool, SubPool, Options: null, V6: Pool.includes(':') });
  const address = (PoolID: string, name?: string, Address = '') =>
    call('RequestAddress', {
      PoolID,
      Address,
      Options: name === undefined ? null : { 'com.docker.network.endpoint.name': name },
    });
  const release = (PoolID: string, Address: string) => call('ReleaseAddress', { PoolID, Address });

  await t.test('I23, I26: nothing is to be replayed, and no MAC is needed', async (t) => {
    t.match(await call('GetCapabilities', {}), { RequiresMACAddress: false, RequiresRequestReplay: false });
    const { PoolID = '' } = await pool('10.70.0.0/24');
    await address(PoolID, 'web');
    await h.killPlugin();
    await h.startPlugin();
    t.equal((await address(PoolID)).Address, '10.70.0.2/24', 'pools and leases are as they were');
    await call('ReleasePool', { PoolID });
  });

  await t.test('I01, I02, I04: overlaps, and both names in the sentence', async (t) => {
    const held = await pool('10.64.0.0/10');
    const global = await pool('10.64.0.0/10', '', 'cnm-global');
    t.same([held.PoolID, global.PoolID], ['cnm-local/10.64.0.0/10', 'cnm-global/10.64.0.0/10']);
    for (const other of ['10.64.0.0/10', '10.96.0.0/11', '10.0.0.0/8', '10.127.255.255/32'])
      t.match(await pool(other), { Error: /Pool overlaps with other one/ }, other);
    const above = await pool('10.128.0.0/9');
    t.equal(above.status, 200);
    const range = await pool('10.0.0.0/12', '10.0.0.0/24');
    t.match(await pool('10.0.0.0/12', '10.0.0.0/24'), { Error: /10\.0\.0\.0\/24/ });
    const second = await pool('10.0.0.0/12', '10.0.1.0/24');
    t.not(range.PoolID, second.PoolID);
    for (const { PoolID } of [held, global, above, range, second]) await call('ReleasePool', { PoolID });
  });

  await t.test('I05, I06: what makes no sense, and what is released twice', async (t) => {
    t.match(await pool('', '10.0.0.0/24'), { Error: /SubPool/ });
    t.match(await pool('0.0.0.0/AB'), { Error: /0\.0\.0\.0\/AB/ });
    t.match(await pool('/24'), { Error: /\/24/ });
    t.match(await address(''), { Error: /PoolID/ });
    t.match(await release('', '10.0.0.1'), { Error: /PoolID/ });
    const one = await pool('10.7.0.0/16', '10.7.1.0/24');
    const two = await pool('10.7.0.0/16', '10.7.2.0/24');
    await address(two.PoolID ?? '', undefined, '10.7.2.9');
    await release(one.PoolID ?? '', '10.7.2.9');
    await call('ReleasePool', { PoolID: one.PoolID });
    await call('ReleasePool', { PoolID: one.PoolID });
    t.match(await address(two.PoolID ?? '', undefined, '10.7.2.9'), { Error: /10\.7\.2\.9/ });
    await call('ReleasePool', { PoolID: two.PoolID });
  });

  await t.test('I14: eight at once', async (t) => {
    const { PoolID = '' } = await pool('10.70.0.0/25');
    const given: string[] = [];
    let [left, refused] = [136, 0];
    const worker = async () => {
      while (left-- > 0) {
        const { Address, Error } = await address(PoolID);
        if (Address !== undefined) given.push(Address);
        else if (/no available IPv4 addresses/.test(Error ?? '')) refused++;
      }
    };
    await Promise.all(Array.from({ length: 8 }, worker));
    t.same([given.length, new Set(given).size, refused], [126, 126, 10]);
    const odd = given.filter((_, place) => place % 2 === 1).map((one) => one.replace('/25', ''));
    await Promise.all(odd.map((one) => release(PoolID, one)));
    const again = await Promise.all(odd.map(() => address(PoolID)));
    t.same(new Set(again.map(({ Address }) => Address)), new Set(odd.map((one) => `${one}/25`)));
    await call('ReleasePool', { PoolID });
  });

  await t.test('a name, as Docker 29 sends it, has its address back after kill -9', async (t) => {
    const { PoolID = '' } = await pool('10.70.0.0/24');
    t.equal((await address(PoolID, 'web')).Address, '10.70.0.1/24');
    t.equal((await address(PoolID, 'db')).Address, '10.70.0.2/24');
    await release(PoolID, '10.70.0.1');
    await release(PoolID, '10.70.0.2');
    await h.killPlugin();
    await h.startPlugin();
    t.equal((await address(PoolID, 'cache')).Address, '10.70.0.3/24');
    t.equal((await address(PoolID, 'db')).Address, '10.70.0.2/24');
    t.equal((await address(PoolID, 'web')).Address, '10.70.0.1/24');
    await call('ReleasePool', { PoolID });
  });
}

/** Every example of ipam/README.md, in order, and before the last one every command of its table for debugging. */
async function readme(t: Test, h: DockerHost): Promise<void> {
  const before = await snapshot(h);
  const text = await readFile(join(REPOSITORY, 'ipam/README.md'), 'utf8');
  const examples = [...text.matchAll(/^```console\n([^]*?)^```$/gm)].map(([, block = '']) =>
    [...block.matchAll(/^# (.*)$/gm)].map(([, line = '']) => line),
  );
  t.equal(examples.length, 4);
  const outputs = new Map<string, string>();
  const type = async (line: string) => {
    const { code, stdout, stderr } = await h.trySh(line.replace(' alpine ', ` ${IMAGE} `));
    t.equal(code, 0, `# ${line}\n${stderr}`);
    outputs.set(line, stdout);
  };
  for (const line of examples.slice(0, -1).flat()) await type(line);
  t.match((await attached(h, 'web', 'lab')).v4, '10.1.0.129');
  t.match(outputs.get('cnm ipam show 10.1.0.10'), /state +endpoint\n[^]*held by +db\n/);
  t.match(outputs.get('cnm ipam ls'), /10\.1\.0\.0\/24 +cnm-local +lab +3 +125 +0 +127\n/);
  t.match(outputs.get('cnm ipam show 10.2.0.2'), /state +resting\n[^]*last name +one\n/);
  t.match(outputs.get('cnm sandbox join one --network demo'), '10.2.0.2/24');
  const [, table = ''] = /^## How to debug it\n([^]*?)^## /m.exec(text) ?? [];
  const commands = [...table.matchAll(/^\| .*\? \| `(.*)` \|$/gm)].map(([, line = '']) => line);
  t.equal(commands.length, 5);
  // The one for a cluster is typed in tests/cluster/.
  for (const line of commands.filter((one) => one !== 'cnm ipam hosts')) await type(line);
  t.match(outputs.get('cnm ipam ls 10.1.0.0/24'), /10\.1\.0\.10 +endpoint +db/);
  for (const line of examples.at(-1) ?? []) await type(line);
  await assertRestored(t, h, before);
}
