/*
 * An overlay network whose hosts have tunnels of both kinds: the kernel's and one in user space.
 *
 *   uplink ──┬── eth0 h1 (cnmd, vtep=userspace) ── a
 *            ├── eth0 h2 (cnmd, vtep=kernel)    ── b
 *            ├── eth0 h3 (cnmd, vtep=userspace) ── c
 *            └── eth0 p  (nothing): sends what nobody should
 */
import { join as path } from 'node:path';
import t from 'tap';
import type { Test } from 'tap';
import type { EndpointView } from '../../inspect/views.ts';
import { run, until } from '../lab/command.ts';
import type { CnmHost } from '../lab/docker-host.ts';
import { openLab } from '../lab/lab.ts';
import { assertAllRestored, snapshots } from '../lab/snapshot.ts';
import { stopCapture } from './observe.ts';

const KINDS = ['userspace', 'kernel', 'userspace'];

async function setUp(h: CnmHost, number: number, peers: string): Promise<EndpointView> {
  const o = ['vni=70', `peers=${peers}`, 'ip-range=any', `vtep=${KINDS[number] ?? ''}`].flatMap((one) => [
    '-o',
    one,
  ]);
  const pools = ['--subnet', '10.70.0.0/24', '--subnet', 'fd00:70::/64', '--ipv6'];
  await h.cnm('network', 'create', '-d', 'cnm-overlay', ...pools, ...o, 'both');
  await h.cnm('sandbox', 'create', 'box');
  const own = ['--ip', `10.70.0.1${number}`, '--ip6', `fd00:70::1${number}`];
  const joined = await h.cnm('sandbox', 'join', 'box', '--network', 'both', '--json', ...own);
  const [view] = JSON.parse(await h.cnm('sandbox', 'inspect', 'box', '--json')) as { path: string }[];
  await h.sh(`ln -sfn ${view?.path ?? ''} ${path(h.dir, 'box')}`);
  return JSON.parse(joined) as EndpointView;
}

/** Who expects no answer gives `-W1`, which comes last and counts. */
async function ping(h: CnmHost, ...more: string[]): Promise<boolean> {
  const line = `nsenter --net=$(readlink -f ${path(h.dir, 'box')}) ping -n -c1 -W10 ${more.join(' ')}`;
  return (await h.trySh(line)).code === 0;
}

t.test('tunnels of both kinds on one network', async (t) => {
  const lab = await openLab(t);
  const drivers = { drivers: ['bridge', 'overlay'] };
  const hosts = await Promise.all([0, 1, 2].map(() => lab.bareHost(drivers)));
  const stranger = await lab.peer();
  const [h1, h2, h3] = hosts;
  if (h1 === undefined || h2 === undefined || h3 === undefined) throw new Error('three hosts');
  await Promise.all(hosts.map((h) => h.makeSandboxFolder()));
  // A veth pair is a wire that needs no checksums: the kernel's tunnel would leave those of what is inside to it, and a program reads them.
  for (const h of hosts) await h.net('ethtool', '-K', 'eth0', 'tx', 'off');
  const before = await snapshots(hosts);
  const peers = hosts.map(({ address }) => address).join(',');
  const [one] = await Promise.all(hosts.map((h, number) => setUp(h, number, peers)));
  t.equal(one?.inside?.mtu, 1450);

  const pairs = async (t: Test) => {
    for (const h of hosts)
      for (const n of [0, 1, 2])
        for (const address of [`10.70.0.1${n}`, `fd00:70::1${n}`])
          t.ok(await ping(h, address), `${h.name} → ${address}`);
  };
  await t.test('every pair, IPv4 and IPv6, of every kind', pairs);

  await t.test('a full packet, and none larger', async (t) => {
    t.ok(await ping(h1, '-M', 'do', '-s', '1422', '10.70.0.11'));
    t.ok(await ping(h2, '-M', 'do', '-s', '1422', '10.70.0.12'));
    t.notOk(await ping(h1, '-W1', '-M', 'do', '-s', '1423', '10.70.0.11'));
  });

  await t.test('what it sends decodes as VXLAN with the right VNI', async (t) => {
    const file = path(h2.dir, 'capture.pcap');
    const tcpdump = h2.spawnNet([
      'tcpdump',
      '--immediate-mode',
      '-U',
      '-i',
      'eth0',
      '-w',
      file,
      'udp',
      'port',
      '4789',
    ]);
    await until('tcpdump to listen', 10_000, () => tcpdump.stderr.includes('listening on') || undefined);
    t.ok(await ping(h1, '10.70.0.11'));
    await stopCapture(tcpdump);
    const fields = ['ip.src', 'ip.dst', 'vxlan.flags', 'vxlan.vni', 'icmp.type'].flatMap((field) => [
      '-e',
      field,
    ]);
    const text = await run(['tshark', '-r', file, '-T', 'fields', '-E', 'separator=/s', ...fields]);
    const wanted = `${h1.address},10.70.0.10 ${h2.address},10.70.0.11 0x0800 70 8`;
    t.ok(text.split('\n').includes(wanted), text);
    await h2.sh(`rm ${file}`);
  });

  await t.test('a TCP stream through it is whole', async (t) => {
    const inside = `nsenter --net=$(readlink -f ${path(h2.dir, 'box')})`;
    const server = h2.spawn([
      'bash',
      '-c',
      `exec ${inside} socat -u TCP-LISTEN:9000,bind=10.70.0.11 STDOUT | sha256sum`,
    ]);
    await until(
      'the server to listen',
      10_000,
      async () => (await h2.sh(`${inside} ss -Hltn`)).includes(':9000') || undefined,
    );
    const from = `nsenter --net=$(readlink -f ${path(h1.dir, 'box')})`;
    const sent = await h1.sh(
      `head -c 4000000 /dev/urandom > ${h1.dir}/blob; sha256sum < ${h1.dir}/blob; ${from} socat -u OPEN:${h1.dir}/blob TCP:10.70.0.11:9000; rm ${h1.dir}/blob`,
    );
    const received = await until('the stream to end', 60_000, () =>
      server.alive ? undefined : server.stdout,
    );
    t.equal(received, sent);
  });

  await t.test('hostile datagrams are dropped and counted, and nothing falls', async (t) => {
    // Random bytes, headers cut off, other VNIs, wrong flags, from a host that is no peer.
    const noise = `
      for n in $(seq 1 60); do head -c $((n * 7 % 90)) /dev/urandom | socat -u - UDP:${h1.address}:4789; done
      printf '\\x08\\0\\0\\0\\0\\0\\x46\\0\\x02\\x42\\x0a\\x46\\0\\x0a\\x02\\x42\\x0a\\x46\\0\\x0b\\x08\\0' | socat -u - UDP:${h1.address}:4789`;
    await stranger.net('bash', '-c', noise);
    await pairs(t);
    const drawing = await h1.cnm('network', 'inspect', 'both');
    t.match(drawing, `vni 70, udp 4789, in user space, from ${h1.address} to ${h2.address}, ${h3.address}`);
    t.match(drawing, /datagrams: sent [1-9]\d*, delivered [1-9]\d*, .*stranger [1-9]/);
    t.match(drawing, /datagrams: .*short [1-9]/);
    await h1.cnm('sandbox', 'leave', 'box', '--network', 'both');
    await h1.cnm('sandbox', 'join', 'box', '--network', 'both', '--ip', '10.70.0.10', '--ip6', 'fd00:70::10');
    t.ok(await ping(h1, '10.70.0.11'), 'and it begins anew');
  });

  await t.test('the daemon killed: its tunnel is back with its start', async (t) => {
    await h3.killPlugin();
    t.notOk(await ping(h3, '-W1', '10.70.0.11'), 'it is in the data path');
    await h3.startPlugin();
    t.equal((await h3.tryCnm('doctor')).code, 0);
    t.ok(await ping(h3, '10.70.0.11'));
    t.ok(await ping(h1, '10.70.0.12'));
  });

  await t.test('its port is its own', async (t) => {
    const o = ['vni=71', `peers=${peers}`, 'ip-range=any'].flatMap((one) => ['-o', one]);
    await h1.cnm('network', 'create', '-d', 'cnm-overlay', '--subnet', '10.71.0.0/24', ...o, 'second');
    const { code, stderr } = await h1.tryCnm('sandbox', 'join', 'box', '--network', 'second');
    t.equal(code, 1);
    t.match(stderr, 'UDP port 4789 is held by another program');
    await h1.cnm('network', 'rm', 'second');
  });

  await t.test('all of it away again, and nothing is left', async (t) => {
    for (const h of hosts) {
      await h.cnm('sandbox', 'rm', 'box');
      await h.cnm('network', 'rm', 'both');
      await h.sh(`rm ${path(h.dir, 'box')}`);
    }
    await assertAllRestored(t, hosts, before);
  });
});
