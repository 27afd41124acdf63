/*
 * cnm overlay check: whatever is wrong between two hosts of an overlay network is found, each fault by its own name, with real packets.
 *
 *   uplink 198.51.100.0/24 ──┬── eth0 h1 (cnmd)          ── a
 *                            ├── eth0 h2 (cnmd)          ── b
 *                            └── r ── lan 192.0.2.0/24 ── eth0 h3 (cnmd, vtep=userspace) ── c
 */
import t from 'tap';
import type { Test } from 'tap';
import type { OverlayCheckView } from '../../inspect/views.ts';
import type { CnmHost } from '../lab/docker-host.ts';
import type { Host } from '../lab/host.ts';
import { openLab } from '../lab/lab.ts';
import { assertAllRestored, snapshots } from '../lab/snapshot.ts';
import { openRoutedHosts } from './overlay-hosts.ts';

/** A network on a host with a sandbox on it; `o`: its options. By the API: a command takes longer to start than all that it does. */
async function on(
  h: CnmHost,
  name: string,
  o: Readonly<Record<string, string | number>>,
  { subnet = '10.88.0.0/24', ip = `10.88.0.${h.name.slice(1)}0`, join = true } = {},
): Promise<void> {
  const options = Object.fromEntries(
    Object.entries<string | number>({ 'ip-range': 'any', ...o }).map(([k, v]) => [k, `${v}`]),
  );
  await h.admin('POST', '/v1/networks', { name, driver: 'cnm-overlay', subnets: [subnet], options });
  if (!join) return;
  await h.admin('POST', '/v1/sandboxes', { name });
  await h.admin('POST', `/v1/sandboxes/${name}/join`, { network: name, ip });
}

async function away(h: CnmHost, name: string, joined = true): Promise<void> {
  if (joined) await h.admin('DELETE', `/v1/sandboxes/${name}`);
  await h.admin('DELETE', `/v1/networks/${name}`);
}

function check(h: CnmHost, name: string): Promise<OverlayCheckView> {
  return h.admin<OverlayCheckView>('GET', `/v1/overlays/${name}/check`);
}

/** The codes of what was found about a peer, in order. */
function codes(view: OverlayCheckView, peer?: string): readonly string[] {
  const peers = view.segments.flatMap((segment) => segment.peers);
  const about = peer === undefined ? peers : peers.filter((one) => one.peer === peer);
  return [...view.findings, ...about.flatMap(({ findings }) => findings)].map(({ code }) => code);
}

/** Longer than the test waits for another host's daemon where that has not had its turn: it may say so, and is asked again. */
const TRIES = 5;

async function finds(
  t: Test,
  h: CnmHost,
  name: string,
  wanted: readonly string[],
  peer?: string,
): Promise<OverlayCheckView> {
  let view = await check(h, name);
  const isSlow = () => codes(view, peer).includes('silent') && !wanted.includes('silent');
  for (let tries = 1; tries < TRIES && isSlow(); tries += 1) view = await check(h, name);
  t.same(codes(view, peer), wanted, `${h.name}: ${wanted.join(', ') || 'nothing'}`);
  return view;
}

t.test('cnm overlay check', async (t) => {
  const lab = await openLab(t);
  const { h1, h2, h3, router } = await openRoutedHosts(lab);
  const hosts = [h1, h2, h3];
  await Promise.all(hosts.map((h) => h.makeSandboxFolder()));
  const before = await snapshots(hosts);
  const all = hosts.map(({ address }) => address).join(',');
  const pair = `${h1.address},${h2.address}`;

  await t.test('all well: kernel and user space, near and behind a router', async (t) => {
    // Between namespaces of one machine nobody computes the checksums that a tunnel of the kernel leaves to its device.
    for (const h of [h1, h2]) await h.net('ethtool', '-K', 'eth0', 'tx', 'off');
    await Promise.all(
      hosts.map((h) => on(h, 'net', { vni: 70, peers: all, ...(h === h3 && { vtep: 'userspace' }) })),
    );
    for (const view of await Promise.all([h1, h3].map((h) => finds(t, h, 'net', [])))) {
      t.equal(view.healthy, true);
      t.equal(view.segments[0]?.peers.length, 2);
      t.equal(view.segments[0]?.mtu, 1450);
    }
    t.match(await h1.cnm('overlay', 'check', 'net'), new RegExp(`${h2.address}  ok  `));
  });

  await t.test('checksums that nobody computes', async (t) => {
    await h1.net('ethtool', '-K', 'eth0', 'tx', 'on');
    const [view] = await Promise.all([
      finds(t, h1, 'net', ['checksum-there'], h3.address),
      finds(t, h3, 'net', ['checksum-back'], h1.address),
    ]);
    t.same(codes(view, h2.address), [], 'the kernel of h2 knows that it is h1’s wire');
    t.match(view.segments[0]?.peers.find(({ peer }) => peer === h3.address)?.findings[0]?.todo, /ethtool -K/);
    // The fault that is found is the one that containers have.
    await h1.net('ethtool', '-K', 'eth0', 'tx', 'off');
    await finds(t, h1, 'net', [], h3.address);
  });

  await t.test('a narrow place on the way, with and without a router’s word', async (t) => {
    // Of the way there alone.
    await router.net('ip', 'route', 'change', '192.0.2.0/24', 'dev', 'lan', 'mtu', 'lock', '1400');
    const [view] = await Promise.all([
      finds(t, h1, 'net', ['mtu-there'], h3.address),
      finds(t, h3, 'net', ['mtu-back'], h1.address),
    ]);
    const [finding] = view.segments[0]?.peers.find(({ peer }) => peer === h3.address)?.findings ?? [];
    t.match(finding?.what, /at most 1350 pass/);
    t.match(finding?.what, `${router.address} says: at most 1400`);
    t.match(finding?.todo, 'com.docker.network.driver.mtu=1400');
    await router.net('nft', 'add table inet t; add chain inet t o { type filter hook output priority 0; }');
    await router.net('nft', 'add rule inet t o icmp type destination-unreachable drop');
    const blind = await finds(t, h1, 'net', ['mtu-there'], h3.address);
    t.match(JSON.stringify(blind), 'black hole');
    t.match(JSON.stringify(blind), 'at most 1350 pass');
    await router.net('nft', 'delete table inet t');
    await router.net('ip', 'route', 'change', '192.0.2.0/24', 'dev', 'lan');
  });

  await t.test('a firewall that drops the tunnel’s port, one way or the other, here or there', async (t) => {
    const rule = async (h: Host, hook: string, what: string) => {
      await h.net('nft', `add table inet t; add chain inet t c { type filter hook ${hook} priority 0; }`);
      await h.net('nft', `add rule inet t c ${what}`);
    };
    const gone = (h: Host) => h.net('nft', 'delete table inet t');
    await rule(h2, 'input', 'udp dport 4789 drop');
    await Promise.all([
      finds(t, h1, 'net', ['blocked-there'], h2.address),
      finds(t, h2, 'net', ['blocked-back'], h1.address),
    ]);
    await gone(h2);
    await rule(h1, 'input', `ip saddr ${h2.address} udp dport 4789 drop`);
    await rule(h3, 'input', 'icmp type echo-request drop');
    const view = await finds(t, h1, 'net', ['blocked-back'], h2.address);
    t.same(codes(view, h3.address), [], 'no ping passes, and still it is clear that all is well');
    await Promise.all([gone(h1), gone(h3)]);
    await rule(h1, 'output', 'udp dport 4789 drop');
    await finds(t, h1, 'net', ['refused-here'], h2.address);
    await gone(h1);
  });

  await t.test('a host that is away; a daemon that is', async (t) => {
    await lab.world.net('ip', 'link', 'set', 'h2-eth0', 'down');
    await finds(t, h1, 'net', ['unreachable'], h2.address);
    await lab.world.net('ip', 'link', 'set', 'h2-eth0', 'up');
    await h2.killPlugin();
    await finds(t, h1, 'net', ['silent'], h2.address);
    await h2.startPlugin();
    await finds(t, h1, 'net', [], h2.address);
  });

  await Promise.all(hosts.map((h) => away(h, 'net')));

  await t.test('settings that differ, each by its own name', async (t) => {
    // Each on a network of its own, all at once: 10.80.0.0/24 and VNI 81, and so on.
    const cases: readonly [
      wanted: readonly string[],
      there: Parameters<typeof on>[2],
      more?: Parameters<typeof on>[3],
    ][] = [
      [['other-vni'], { vni: 80 }],
      [['other-port'], { port: 4790 }],
      [['idle'], {}, { join: false }],
      // One network with all that hosts can disagree on.
      [
        ['mtu-differs', 'subnets-differ', 'ranges-overlap', 'address-twice'],
        { 'com.docker.network.driver.mtu': 1400 },
        { subnet: '10.83.0.0/16', ip: '10.83.0.10' },
      ],
    ];
    await Promise.all(
      cases.map(async ([wanted, there, more], number) => {
        const [name, net] = [`n${number}`, `10.8${number}.0`];
        const both = { vni: 81 + number, port: 4800 + number, peers: pair, 'ip-range': `${net}.0/25` };
        await on(h1, name, both, { subnet: `${net}.0/24`, ip: `${net}.10` });
        await on(h2, name, { ...both, ...there }, { subnet: `${net}.0/24`, ip: `${net}.20`, ...more });
        const found = await check(h1, name);
        const told = codes(found).filter((code) => code !== 'mtu-there' && code !== 'mtu-back');
        t.same(told, wanted, wanted.join());
        t.equal(found.healthy, wanted[0] === 'idle');
        if (wanted[0] === 'idle') t.equal((await h1.tryCnm('overlay', 'check', name)).code, 0);
        await away(h2, name, wanted[0] !== 'idle');
        if (number > 0) await away(h1, name);
      }),
    );
    await finds(t, h1, 'n0', ['port-closed']);
    t.match(await h1.tryCnm('overlay', 'check', 'n0'), { code: 3, stdout: /port-closed/ });
    await away(h1, 'n0');
  });

  await t.test('a host without a container of it has nothing to test', async (t) => {
    await on(h1, 'none', { vni: 73, peers: pair }, { join: false });
    await finds(t, h1, 'none', ['not-here']);
    t.match(await h1.tryCnm('overlay', 'check', 'nowhere'), {
      code: 1,
      stderr: /No network has the id or name "nowhere"/,
    });
    await away(h1, 'none', false);
  });

  await t.test('IPv6 below', async (t) => {
    const peers = `${h1.address6},${h2.address6}`;
    await Promise.all([h1, h2].map((h) => on(h, 'six', { vni: 74, peers })));
    const view = await finds(t, h1, 'six', []);
    t.equal(view.segments[0]?.mtu, 1430);
    await h2.net('nft', 'add table inet t; add chain inet t c { type filter hook input priority 0; }');
    await h2.net('nft', 'add rule inet t c udp dport 4789 drop');
    await finds(t, h1, 'six', ['blocked-there']);
    await h2.net('nft', 'delete table inet t');
    await Promise.all([h1, h2].map((h) => away(h, 'six')));
  });

  await t.test('a kernel without ESP encrypts nothing, and says so', async (t) => {
    await h3.sh(`(umask 077; echo ${'k'.repeat(64)} > ${h3.dir}/keys)`);
    await h3.killPlugin('SIGTERM');
    await h3.startPlugin('--overlay-keys', `${h3.dir}/keys`);
    const state = 'src 192.0.2.8 dst 192.0.2.9 proto esp spi 0x2000 mode transport aead rfc4106(gcm(aes)) 0x';
    const can = (
      await h3.tryNet('ip', 'xfrm', 'state', 'add', ...`${state}${'00'.repeat(20)} 128`.split(' '))
    ).code;
    const o = ['vni=76', `peers=${all}`, 'ip-range=any', 'encrypted'].flatMap((one) => ['-o', one]);
    const said = await h3.tryCnm(
      'network',
      'create',
      '-d',
      'cnm-overlay',
      '--subnet',
      '10.92.0.0/24',
      ...o,
      'secret',
    );
    if (can === 0) t.equal(said.code, 0, 'this kernel has it');
    else
      t.match(said, {
        code: 1,
        stderr: /encrypted cannot be had on this host \(.*no ESP.*nothing is sent in the clear/,
      });
    t.equal((await h3.tryCnm('network', 'inspect', 'secret')).code, said.code);
    await h3.tryCnm('network', 'rm', 'secret');
    await h3.tryNet('ip', 'xfrm', 'state', 'flush');
    await h3.sh(`rm ${h3.dir}/keys`);
  });

  await t.test('nothing is left', async (t) => {
    await assertAllRestored(t, hosts, before);
  });
});
