// lab: vm esp4 gcm cbc sha256 authenc echainiv nft_xfrm vxlan
/*
 * An encrypted overlay network on a kernel that has ESP: nothing of it in the clear on the network below from its first moment to its last,
 * nothing taken in the clear, keys changed under running traffic, and nothing left of it.
 *
 *   uplink ──┬── eth0 h1 (cnmd, the secret) ── 10.70.0.11
 *            ├── eth0 h2 (cnmd, the secret) ── 10.70.0.12; and VXLAN links of other VNIs on the same port, and of the same on another port
 *            └── eth0 p  (nothing): sends what nobody should
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import t from 'tap';
import type { EndpointView, OverlayCheckView, RotationView } from '../../inspect/views.ts';
import { run, until } from '../lab/command.ts';
import type { CnmHost } from '../lab/docker-host.ts';
import type { Host } from '../lab/host.ts';
import { openLab } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { ask, call, capture, inBox, macOf, ready, refused, start, states, vnisIn } from './encrypted.ts';

const SECRET = 'a'.repeat(64);
const NEWER = 'b'.repeat(64);
/** In what is sent; it must not be seen below. */
const MARKER = '636e6d2d636c656172';
/** In what is sent beside the network, which must be. */
const CONTROL = '636e6d2d6f7065656e';
const VNI = 70;
const PORT = 7777;
/** Those that a mask or a byte order gone wrong would take for ours, and the ends (acceptance O07). */
const OTHER_VNIS = [0, 1, 69, 71, 0x100, 0x4600, 0x460000, 0xffffff];
/** A period that hardly ever begins while this runs. */
const WEEK = '604800';
/** From one peer: two ciphers of four periods; and one to send with. */
const STATES = 9;

async function put(h: CnmHost, ip: string, peers: string): Promise<EndpointView> {
  const options = { vni: String(VNI), peers, 'ip-range': 'any', port: String(PORT), encrypted: '' };
  const subnets = ['10.70.0.0/24'];
  await call(h, 'POST', '/networks', { name: 'net', driver: 'cnm-overlay', subnets, options });
  return start(h, ip);
}

/** What the host sends by. */
async function cipherOf(h: Host): Promise<string> {
  const text = await h.net('ip', 'xfrm', 'state', 'list', 'src', h.address);
  return ['gcm', 'cbc'].filter((one) => text.includes(`${one}(aes)`)).join();
}

/** Datagrams that were dropped because they were in the clear. */
async function dropped(h: Host, chain: 'inward' | 'leaving'): Promise<number> {
  const text = await h.net('nft', 'list', 'chain', 'inet', 'cnm_encrypted', chain);
  return Number(/counter packets (\d+)/.exec(text)?.[1]);
}

/** One ip(8) for many lines: each start of a program takes its time in an emulated machine. */
async function batch(h: Host, lines: readonly string[]): Promise<void> {
  await h.net('bash', '-c', `ip -batch - <<'END'\n${lines.join('\n')}\nEND`);
}

/** A line of bash that sends an Ethernet frame to everybody, in VXLAN; with `from` by a program, for bash chooses no address. */
function plain(vni: number, to: string, { port = PORT, from = '' } = {}): string {
  const bytes = [vni >> 16, (vni >> 8) & 0xff, vni & 0xff].map((one) => `\\x${one.toString(16)}`).join('');
  const frame =
    '\\xff\\xff\\xff\\xff\\xff\\xff\\x02\\0\\0\\0\\0\\x09\\x88\\xb5clear as can be, clear as can be';
  const way = from === '' ? `> /dev/udp/${to}/${port}` : `| socat -u - UDP:${to}:${port},bind=${from}`;
  return `printf '\\x08\\0\\0\\0${bytes}\\0${frame}' ${way}`;
}

/** SPI of what the host sends by. */
async function sends(h: Host): Promise<string> {
  const text = await h.net('ip', 'xfrm', 'state', 'list', 'src', h.address);
  return /spi (0x[0-9a-f]+)/.exec(text)?.[1] ?? '';
}

/** Sets the clock of the whole machine, which is this test's own (lab: vm). */
async function setClock(seconds: number): Promise<void> {
  await run(['date', '-s', `@${Math.round(seconds)}`]);
}

t.test('an encrypted network', async (t) => {
  // Where hosts see it as a file of their own.
  const folder = await mkdtemp('/var/tmp/cnm-keys-');
  const keys = join(folder, 'keys');
  t.teardown(() => rm(folder, { recursive: true }));
  await writeFile(keys, `${SECRET}\n`, { mode: 0o600 });
  const lab = await openLab(t);
  const started = Date.now() - performance.now();
  t.teardown(() => setClock((started + performance.now()) / 1000));
  const settings = { drivers: ['overlay'], arguments: ['--overlay-keys', keys, '--overlay-rekey', WEEK] };
  const [h1, h2, stranger] = await Promise.all([lab.bareHost(settings), lab.bareHost(settings), lab.peer()]);
  await ready(h1);
  await h1.sh('mkdir -p /run/cnm/netns');
  const before = await snapshot(h1);
  const macs = [await macOf(h1), await macOf(h2)];
  // All that either host sends in the clear, from before there is a network until after it is gone.
  const always = await capture(
    h2,
    'always.pcap',
    `udp port ${PORT} and (ether src ${macs.join(' or ether src ')})`,
  );
  const peers = `${h1.address},${h2.address}`;
  const [one] = await Promise.all([put(h1, '10.70.0.11', peers), put(h2, '10.70.0.12', peers)]);
  t.equal(one.inside?.mtu, 1408, 'less than in the clear');
  const ping = (more: string) => h1.trySh(inBox(h1, `ping -n -W40 ${more} 10.70.0.12`));

  await t.test('O06 nothing in the clear, ESP both ways, on whatever port', async (t) => {
    const seen = await capture(h2, 'some.pcap', 'ip');
    t.equal((await ping(`-c1 -p ${MARKER}`)).code, 0);
    t.equal((await ping('-c1 -M do -s 1380')).code, 0, 'a full packet of 1408 bytes');
    await h1.net('ping', '-n', '-c1', '-p', CONTROL, h2.address);
    const text = await seen();
    t.match(text, CONTROL.repeat(2), 'what is in the clear is found');
    t.match(text, `${h1.address} > ${h2.address}: ESP(`);
    t.match(text, `${h2.address} > ${h1.address}: ESP(`);
    t.notMatch(text, `.${PORT}: `, 'no VXLAN');
    t.notMatch(text, MARKER.repeat(2));
    t.notMatch(text, ' frag ', 'and whole');
    t.equal(await cipherOf(h1), 'gcm');
  });

  await t.test('O07 what comes in the clear is dropped, of this network alone', async (t) => {
    const local = `local ${h2.address}`;
    const links = [
      ...OTHER_VNIS.map((vni) => `v${vni} type vxlan id ${vni} ${local} dstport ${PORT}`),
      `other type vxlan id ${VNI} ${local} dstport ${PORT + 1}`,
    ];
    const names = links.map((link) => link.split(' ')[0] ?? '');
    await batch(h2, [
      ...links.map((link) => `link add ${link}`),
      ...names.map((name) => `link set ${name} up`),
    ]);
    const others = [
      ...OTHER_VNIS.map((vni) => plain(vni, h2.address)),
      plain(VNI, h2.address, { port: PORT + 1 }),
    ];
    const was = await dropped(h2, 'inward');
    // From nobody; from somebody who says to be the peer; and then what comes in from either.
    await stranger.net('ip', 'address', 'add', `${h1.address}/32`, 'dev', 'lo');
    const ours = [plain(VNI, h2.address), plain(VNI, h2.address, { from: h1.address })];
    await stranger.net('bash', '-c', [...ours, ...others].join('\n'));
    await stranger.net('ip', 'address', 'del', `${h1.address}/32`, 'dev', 'lo');
    await h1.net('bash', '-c', others.join('\n'));
    await until('what is of others to arrive', 15_000, async () => {
      const text = await h2.net('ip', '-s', '-j', 'link', 'show', 'type', 'vxlan');
      const all = JSON.parse(text) as readonly { ifname: string; stats64: { rx: { packets: number } } }[];
      const got = all.filter(({ ifname, stats64 }) => names.includes(ifname) && stats64.rx.packets === 2);
      return got.length === names.length || undefined;
    });
    t.equal(await dropped(h2, 'inward'), was + 2);
    await batch(
      h2,
      names.map((name) => `link del ${name}`),
    );
  });

  await t.test('O07 nor does it go out in the clear, to whomever', async (t) => {
    const was = await dropped(h1, 'leaving');
    // Who sends it is told that he may not.
    await h1.net('bash', '-c', `${plain(VNI, stranger.address)} 2> /dev/null || true`);
    t.equal(await dropped(h1, 'leaving'), was + 1);
  });

  await t.test('the test of the way finds nothing', async (t) => {
    const { segments } = (await call(h1, 'GET', '/overlays/net/check')) as OverlayCheckView;
    const found = segments.flatMap((segment) => segment.peers.flatMap((peer) => peer.findings));
    // In here a daemon may be slower to answer than the test waits; what it finds must be no fault of the way.
    const slow = ['silent', 'clock'];
    t.same(
      found.filter(({ code }) => !slow.includes(code)),
      [],
    );
  });

  await t.test(
    'a period begins: other keys on both hosts by the clock alone, and no packet is lost',
    async (t) => {
      const was = [await refused(h1), await refused(h2)];
      const first = await states(h1);
      const sent = [await sends(h1), await sends(h2)];
      const running = h1.spawn(['bash', '-c', `exec ${inBox(h1, 'ping -n -i 0.05 -W 40 10.70.0.12')}`]);
      await until('the ping to run', 15_000, () => running.stdout.includes('icmp_seq=2 ') || undefined);
      const week = Number(WEEK);
      await setClock((Math.floor(Date.now() / 1000 / week) + 1) * week + 1);
      await until('both to send with others, and the last ones to be gone', 60_000, async () => {
        const now = [await sends(h1), await sends(h2)];
        const counts = [(await states(h1)).length, (await states(h2)).length];
        return (
          (now.every((spi, host) => spi !== sent[host]) && counts.every((one) => one === STATES)) || undefined
        );
      });
      const kept = (await states(h1)).filter((spi) => first.includes(spi));
      t.equal(kept.length, STATES - 3, 'of four periods three are received still');
      const { stdout } = (await running.kill('SIGINT')) ?? { stdout: '' };
      t.match(stdout, ' 0% packet loss', stdout.slice(-300));
      t.same([await refused(h1), await refused(h2)], was, 'not a packet that IPsec could not read');
    },
  );

  await t.test('keys change under a running ping and TCP, and no packet is lost', async (t) => {
    const first = await states(h1);
    t.equal(first.length, STATES);
    const was = [await refused(h1), await refused(h2)];
    const sink = h2.spawn([
      'bash',
      '-c',
      `exec ${inBox(h2, `socat -u TCP-LISTEN:9 OPEN:${h2.dir}/got,creat`)}`,
    ]);
    await until(
      'somebody to listen',
      15_000,
      async () => (await h2.sh(inBox(h2, 'ss -Hltn'))).includes(':9') || undefined,
    );
    const numbers = `seq -f "%0999.0f" 1 100000 | while read -r n; do echo $n; sleep 0.2; done`;
    const source = h1.spawn(['bash', '-c', inBox(h1, `bash -c '${numbers} | socat -u - TCP:10.70.0.12:9'`)]);
    const running = h1.spawn(['bash', '-c', `exec ${inBox(h1, 'ping -n -i 0.05 -W 40 10.70.0.12')}`]);
    await until('the ping to run', 15_000, () => running.stdout.includes('icmp_seq=2 ') || undefined);

    t.match(await call(h1, 'POST', '/overlay/rotate'), { networks: 1, ahead: 1 });
    const second = await states(h1);
    t.equal(second.length, STATES);
    t.equal(second.filter((spi) => !first.includes(spi)).length, 1, 'another to send with');
    t.match(await ask(h1, 'POST', '/overlay/rotate'), { status: 400, text: /of the next period already/ });
    t.same(await states(h1), second, 'once in a period');
    // A daemon that is killed between the new keys and the end of the old ones goes on from there.
    const cut = ask(h2, 'POST', '/overlay/rotate').catch(() => undefined);
    await until('two keys to send with', 15_000, async () => (await states(h2)).length > STATES || undefined);
    await h2.cnmd.kill('SIGKILL');
    await cut;
    await h2.cnmd.start();
    await ready(h2);
    await until('the old one to go', 30_000, async () => (await states(h2)).length === STATES || undefined);

    // Another secret: received everywhere before it is sent with.
    const steps: readonly (readonly [CnmHost, string])[] = [
      [h2, `${SECRET}\n${NEWER}`],
      [h1, `${NEWER}\n${SECRET}`],
      [h2, NEWER],
      [h1, NEWER],
    ];
    for (const [h, secrets] of steps) {
      await h.sh(`echo '${secrets}' > ${keys}`);
      const { networks } = (await call(h, 'POST', '/overlay/rotate')) as RotationView;
      t.equal(networks, 1);
    }
    const last = await states(h1);
    t.equal(last.length, STATES);
    t.notOk(
      last.some((spi) => second.includes(spi)),
      'nothing of the former secret is left',
    );
    const { stdout } = (await running.kill('SIGINT')) ?? { stdout: '' };
    t.match(stdout, ' 0% packet loss', stdout.slice(-300));
    const got = Number(await h2.sh(`stat -c %s ${h2.dir}/got`));
    await until(
      'TCP to go on',
      15_000,
      async () => Number(await h2.sh(`stat -c %s ${h2.dir}/got`)) > got || undefined,
    );
    // The other end goes by itself, for nobody listens to it.
    await sink.kill('SIGKILL');
    await source.exited;
    t.same([await refused(h1), await refused(h2)], was, 'not a packet that IPsec could not read');
    await h2.sh(`rm ${h2.dir}/got`);
  });

  await t.test('a file of keys that cannot be used: refused in words, and nothing changes', async (t) => {
    const was = await states(h1);
    const refusal = async () => (await ask(h1, 'POST', '/overlay/rotate')).text;
    await h1.sh(`chmod 644 ${keys}`);
    t.match(await refusal(), /others may read .*chmod 600/);
    await h1.sh(`chmod 600 ${keys}; echo short > ${keys}`);
    t.match(await refusal(), /has fewer than 32 characters/);
    await h1.sh(`rm ${keys}`);
    t.match(await refusal(), /cannot be read: ENOENT/);
    await h1.sh(`echo ${NEWER} > ${keys}; chmod 600 ${keys}`);
    t.same(await states(h1), was);
  });

  await t.test('a host that begins anew sends with no key a second time', async (t) => {
    const was = await states(h1);
    await call(h1, 'DELETE', '/sandboxes/box');
    t.same(await states(h1), [], 'with the last endpoint all goes');
    await start(h1, '10.70.0.11');
    t.equal((await ping('-c1 -M do -s 1380')).code, 0, 'a full packet');
    t.equal(await cipherOf(h1), 'cbc', 'keys of AES-GCM come with the next period');
    t.equal((await states(h1)).filter((spi) => !was.includes(spi)).length, 1);
  });

  await t.test('flushed by hand: nothing goes out in the clear, and a repair puts it back', async (t) => {
    const ping1 = async () => (await h1.trySh(inBox(h1, `ping -n -c1 -W1 10.70.0.12`))).code;
    for (const what of ['policy', 'state']) {
      // A daemon that has heard of other changes may just look by itself, and be quicker.
      await until(`the missing ${what} to be seen`, 15_000, async () => {
        await h1.net('ip', 'xfrm', what, 'flush');
        if ((await ping1()) === 0) return undefined;
        const { healthy } = (await call(h1, 'GET', '/drift')) as { readonly healthy: boolean };
        return !healthy || undefined;
      });
      t.match(await call(h1, 'POST', '/reconcile'), { after: { healthy: true } });
      t.equal((await ping('-c1')).code, 0);
    }
  });

  await t.test('O06 with the network all of it goes, and nothing was ever in the clear', async (t) => {
    for (const h of [h1, h2]) {
      await call(h, 'DELETE', '/sandboxes/box');
      await call(h, 'DELETE', '/networks/net');
      t.same(await states(h), []);
      t.equal(await h.net('ip', 'xfrm', 'policy'), '');
      t.notMatch(await h.net('nft', 'list', 'tables'), 'cnm_encrypted');
    }
    await h1.sh(`rm ${h1.dir}/box`);
    const vnis = vnisIn(await always());
    t.same(
      [...vnis].sort((a, b) => a - b),
      OTHER_VNIS,
      'what was sent in the clear was seen, and was none of it',
    );
    await assertRestored(t, h1, before);
  });
});
