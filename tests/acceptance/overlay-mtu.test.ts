/*
 * The network below gets another MTU while containers run: the links of the overlays follow, those inside containers and sandboxes too, and
 * full packets that nobody may cut pass in both directions.
 *
 *   uplink ──┬── eth0 h1 ── dockerd + cnm-overlay ── kern: ck · user (vtep=userspace): cu
 *            └── eth0 h2 ── cnmd                  ── kern: sk · user: su · given (its MTU is said): sg
 */
import t from 'tap';
import type { DoctorView, NetworkView, OverlayCheckView } from '../../inspect/views.ts';
import { until } from '../lab/command.ts';
import type { CnmHost } from '../lab/docker-host.ts';
import { openLab } from '../lab/lab.ts';
import { assertAllRestored, snapshots } from '../lab/snapshot.ts';

const DRIVERS = { drivers: ['bridge', 'overlay'] };
const LIMIT = 30_000;

t.test('an overlay follows the MTU of the network below', async (t) => {
  const lab = await openLab(t);
  const [h1, h2] = await Promise.all([
    lab.dockerHost({ ...DRIVERS, plugin: 'sockets' }),
    lab.bareHost(DRIVERS),
  ]);
  for (const h of [h1, h2]) {
    await h.makeSandboxFolder();
  }
  const before = await snapshots([h1, h2]);
  const peers = `${h1.address},${h2.address}`;

  /** Their subnets are 10.1, 10.2 and 10.3; .1 is on h1, .2 on h2. */
  const networks = {
    kern: { vni: 101, subnet: '10.1.0.0/24' },
    user: { vni: 102, subnet: '10.2.0.0/24', vtep: 'userspace', port: 4790 },
    given: { vni: 103, subnet: '10.3.0.0/24', 'com.docker.network.driver.mtu': 1400 },
  };
  const create = (name: keyof typeof networks): readonly string[] => {
    const { subnet, ...o } = networks[name];
    const all = Object.entries({ ...o, peers, 'ip-range': 'any' }).flatMap(([k, v]) => ['-o', `${k}=${v}`]);
    return ['network', 'create', '-d', 'cnm-overlay', '--internal', '--subnet', subnet, ...all, name];
  };
  const sandbox = async (name: string, network: string, ip: string) => {
    await h2.cnm('sandbox', 'create', name);
    await h2.cnm('sandbox', 'join', name, '--network', network, '--ip', ip);
  };
  for (const name of ['kern', 'user'] as const) await h1.docker(...create(name));
  for (const name of ['kern', 'user', 'given'] as const) await h2.cnm(...create(name));
  await Promise.all([
    h1.container('ck', 'kern', '--ip', '10.1.0.11'),
    h1.container('cu', 'user', '--ip', '10.2.0.11'),
    sandbox('sk', 'kern', '10.1.0.12'),
    sandbox('su', 'user', '10.2.0.12'),
    sandbox('sg', 'given', '10.3.0.12'),
  ]);

  /** What a machine's administrators do: the wires and the cards at their ends. */
  const wires = async (mtu: number) => {
    for (const h of [h1, h2]) {
      await lab.world.net('ip', 'link', 'set', `${h.name}-eth0`, 'mtu', `${mtu}`);
      await h.net('ip', 'link', 'set', 'eth0', 'mtu', `${mtu}`);
    }
  };
  /** Every link of the overlays on a host: in its own namespaces, and inside what runs there. */
  const sizes = async (h: CnmHost, network: string): Promise<readonly string[]> => {
    const { members } = await h.admin<NetworkView>('GET', `/v1/networks/${network}`);
    return [...new Set(members.flatMap((v) => [v.bridge, v.outside, v.inside].map((l) => `${l?.mtu ?? 0}`)))];
  };
  const become = async (h: CnmHost, mtu: number, network: string) => {
    await until(
      `${network} on ${h.name} to be ${mtu}`,
      LIMIT,
      async () => (await sizes(h, network)).join() === `${mtu}` || undefined,
    );
    t.pass(`${network} on ${h.name}: ${mtu}`);
  };
  const follow = (mtu: number) =>
    Promise.all([h1, h2].flatMap((h) => ['kern', 'user'].map((name) => become(h, mtu, name))));
  const size = (bytes: number) => ['-n', '-c1', '-W3', '-M', 'do', '-s', `${bytes - 28}`];
  /** A packet that nobody may cut, both ways: by ICMP's answer, and asked from either side. */
  const passes = async (bytes: number) => {
    for (const [n, name] of [
      [1, 'k'],
      [2, 'u'],
    ] as const) {
      const out = await h1.tryInContainer(`c${name}`, {}, 'ping', ...size(bytes), `10.${n}.0.12`);
      t.equal(out.code, 0, `c${name}: ${bytes} bytes whole: ${out.stdout}${out.stderr}`);
      const back = await h2.tryCnm(
        'sandbox',
        'exec',
        `s${name}`,
        '--',
        'ping',
        ...size(bytes),
        `10.${n}.0.11`,
      );
      t.equal(back.code, 0, `s${name}: ${bytes} bytes whole`);
      const more = await h1.tryInContainer(`c${name}`, {}, 'ping', ...size(bytes + 1), `10.${n}.0.12`);
      t.match(more, { code: 1, stderr: /message too long|mtu/i }, `c${name}: not one more`);
    }
  };
  const sound = async () => {
    for (const h of [h1, h2]) {
      const { code, stdout } = await h.tryCnm('doctor', '--json');
      t.equal(code, 0, `${h.name}: ${JSON.stringify((JSON.parse(stdout) as DoctorView).differences)}`);
    }
  };

  await t.test('jumbo frames: 9000 below, 8950 inside', async () => {
    await passes(1450);
    await wires(9000);
    await follow(8950);
    await passes(8950);
    await sound();
    const checked = JSON.parse(await h2.cnm('overlay', 'check', 'kern', '--json')) as OverlayCheckView;
    t.match(checked, { healthy: true, segments: [{ mtu: 8950, peers: [{ peer: h1.address }] }] });
  });

  await t.test('TCP goes on when it shrinks under it, in both directions', async (t) => {
    const [sk] = JSON.parse(await h2.cnm('sandbox', 'inspect', 'sk', '--json')) as { path: string }[];
    const inSk = ['nsenter', `--net=${sk?.path ?? ''}`];
    const server = h2.spawn([...inSk, 'socat', 'TCP-LISTEN:9000', 'EXEC:cat']);
    await until(
      'the server to listen',
      LIMIT,
      async () => (await h2.run([...inSk, 'ss', '-Hltn'])).includes(':9000') || undefined,
    );
    const talk = 'while sleep 0.02; do head -c 40000 /dev/zero; done | socat - TCP:10.1.0.12:9000 >/dev/null';
    const client = h1.spawnNet(['nsenter', `--net=${await h1.sandbox('ck')}`, 'bash', '-c', talk]);
    const counts = async () => {
      const text = await h1.inContainer('ck', 'ss', '-Htin', 'dport', '=', ':9000');
      const [, sent = '0'] = /bytes_acked:(\d+)/.exec(text) ?? [];
      const [, got = '0'] = /bytes_received:(\d+)/.exec(text) ?? [];
      return { sent: Number(sent), got: Number(got), text };
    };
    const more = async (than: { readonly sent: number; readonly got: number }) =>
      until('both directions to go on', LIMIT, async () => {
        const now = await counts();
        return now.sent > than.sent + 1_000_000 && now.got > than.got + 1_000_000 ? now : undefined;
      });
    t.match((await more({ sent: 0, got: 0 })).text, /mss:8898 /, 'with large segments');
    await wires(1400);
    await follow(1350);
    t.match((await more(await counts())).text, /mss:1298 /, 'the same connection, with small ones');
    t.ok(client.alive && server.alive);
    await client.kill('SIGTERM');
    await server.kill('SIGTERM');
    await passes(1350);
    await sound();
  });

  await t.test('a route has an MTU of its own, for one host of the two', async () => {
    await h1.net('ip', 'route', 'add', `${h2.address}/32`, 'dev', 'eth0', 'mtu', '1300');
    await Promise.all(['kern', 'user'].map((name) => become(h1, 1250, name)));
    t.same(await sizes(h2, 'kern'), ['1350'], 'the other host has its own way');
    await h1.net('ip', 'route', 'del', `${h2.address}/32`);
    await follow(1350);
  });

  await t.test('killed, and the change comes meanwhile', async () => {
    await Promise.all([h1.killPlugin(), h2.killPlugin()]);
    await wires(1500);
    await Promise.all([h1.startPlugin(), h2.startPlugin()]);
    await follow(1450);
    await passes(1450);
    await sound();
  });

  await t.test(
    'what is no longer to be known for ours in a container keeps its MTU, and that is told',
    async (t) => {
      await h1.inContainer('ck', 'ip', 'link', 'set', 'eth0', 'alias', 'mine');
      await wires(1400);
      await become(h1, 1350, 'user');
      await until('the log to say so', LIMIT, () => /keeps its MTU/.test(h1.cnmd.log) || undefined);
      t.match(await h1.inContainer('ck', 'ip', 'link', 'show', 'eth0'), 'mtu 1450');
      const drawing = await until('the container by name', LIMIT, async () => {
        const text = await h1.cnm('network', 'inspect', 'kern');
        return text.includes('container ck,') ? text : undefined;
      });
      t.match(drawing, /takes packets of 1450 bytes, the network 1350/);
      await wires(1500);
      await follow(1450);
      t.notMatch(await h1.cnm('network', 'inspect', 'kern'), /takes packets of/);
      await sound();
    },
  );

  await t.test('with com.docker.network.driver.mtu nothing has followed', async (t) => {
    t.same(await sizes(h2, 'given'), ['1350']);
  });

  await t.test('all of it away again, and nothing is left', async (t) => {
    await h1.docker('rm', '--force', 'ck', 'cu');
    await h1.docker('network', 'rm', 'kern', 'user');
    for (const [box, name] of [
      ['sk', 'kern'],
      ['su', 'user'],
      ['sg', 'given'],
    ] as const) {
      await h2.cnm('sandbox', 'rm', box);
      await h2.cnm('network', 'rm', name);
    }
    await assertAllRestored(t, [h1, h2], before);
  });
});
