/*
 * The suite with no Docker at all: one machine, cnmd alone.
 *
 *   world 203.0.113.1 ── uplink ── eth0 h1 (cnmd)
 *                                   ├── demo   10.88.0.0/24, fd00:88::/64 ── web, db
 *                                   ├── other  10.89.0.0/24               ── far
 *                                   ├── quiet  10.90.0.0/24 --internal    ── in1, in2
 *                                   └── theirs (a bridge that is not ours, 192.0.2.1/24)
 */
import { readdir, readlink } from 'node:fs/promises';
import t from 'tap';
import type {
  DoctorView,
  EndpointView,
  FirewallView,
  NetworkView,
  PortView,
  SandboxView,
} from '../../inspect/views.ts';
import { until } from '../lab/command.ts';
import type { CnmHost } from '../lab/docker-host.ts';
import type { Host } from '../lab/host.ts';
import { openLab, WORLD, WORLD6 } from '../lab/lab.ts';

/** Who expects no answer gives a second. */
async function pings(h: CnmHost, from: string, address: string, seconds = 10): Promise<boolean> {
  const ping = ['ping', '-n', '-c1', `-W${seconds}`, address];
  return (await h.tryCnm('sandbox', 'exec', from, '--', ...ping)).code === 0;
}

async function join(h: CnmHost, name: string, network: string, ...more: string[]): Promise<EndpointView> {
  await h.cnm('sandbox', 'create', name);
  return JSON.parse(
    await h.cnm('sandbox', 'join', name, '--network', network, '--json', ...more),
  ) as EndpointView;
}

const inspect = async (h: CnmHost, name: string) => {
  const [view] = JSON.parse(await h.cnm('network', 'inspect', name, '--json')) as NetworkView[];
  if (view === undefined) throw new Error(`no view of ${name}`);
  return view;
};

/** What must be as before once everything is removed. Sysctls stay on purpose: others may have come to depend on them. */
async function snapshot(h: CnmHost): Promise<string> {
  return h.sh(`ip -o link | sed 's/^[0-9]*: //'; ip -o addr | sed 's/^[0-9]*: //; s/valid_lft.*//; s/ tentative//'; ip route; ip -6 route
    ls /run/cnm/netns; nft list table inet cnm; nft list table inet theirs; iptables-save | grep -v '^#' | sed 's/\\[.*//'`);
}

/** The same, once link-local addresses and the states of links have settled, which the kernel does in its own time. */
async function settled(h: CnmHost, then: string): Promise<string> {
  const same = async () => (await snapshot(h)) === then || undefined;
  await until('the host to be as before', 60_000, same).catch(() => undefined);
  return snapshot(h);
}

/** What the daemon has open, sorted; numbers of sockets and pipes left out. */
async function descriptors(h: CnmHost): Promise<readonly string[]> {
  const folder = `/proc/${await h.cnmd.pid()}/fd`;
  const targets = (await readdir(folder)).map((fd) => readlink(`${folder}/${fd}`).catch(() => ''));
  const names = (await Promise.all(targets)).map((name) => name.replace(/\[\d+\]$/, ''));
  return names.sort();
}

async function doctor(h: CnmHost): Promise<{ readonly code: number; readonly view: DoctorView }> {
  const { code, stdout } = await h.tryCnm('doctor', '--json');
  return { code, view: JSON.parse(stdout) as DoctorView };
}

t.test('sandboxes on networks, with no Docker', async (t) => {
  const lab = await openLab(t);
  const h = await lab.bareHost();
  await h.sh(
    'ip link add theirs type bridge; ip addr add 192.0.2.1/24 dev theirs; nft add table inet theirs',
  );
  const before = await snapshot(h);
  const descriptorsBefore = await descriptors(h);

  await h.cnm('network', 'create', '--ipv6', '--subnet', '10.88.0.0/24', '--subnet', 'fd00:88::/64', 'demo');
  await h.cnm('network', 'create', '--subnet', '10.89.0.0/24', 'other');
  await h.cnm('network', 'create', '--subnet', '10.90.0.0/24', '--internal', 'quiet');
  const web = await join(h, 'web', 'demo');
  const db = await join(h, 'db', 'demo', '--ip', '10.88.0.77', '--mac', '02:00:00:00:00:77');
  const far = await join(h, 'far', 'other');
  const in1 = await join(h, 'in1', 'quiet');
  await join(h, 'in2', 'quiet');
  const bare = (endpoint: EndpointView, index = 0) => (endpoint.addresses[index] ?? '').replace(/\/.*/, '');

  t.test('two on one network reach each other and the world, over IPv4 and IPv6', async (t) => {
    t.match(db, { mac: '02:00:00:00:00:77', addresses: ['10.88.0.77/24'] });
    t.ok(await pings(h, 'web', '10.88.0.77'));
    t.ok(await pings(h, 'db', bare(web)));
    t.ok(await pings(h, 'web', bare(db, 1)), 'IPv6');
    t.ok(await pings(h, 'web', '10.88.0.1'), 'the gateway');
    t.ok(await pings(h, 'web', WORLD), 'masqueraded: the world has no way back to 10.88.0.0/24');
    t.ok(await pings(h, 'web', WORLD6));
    t.ok(await h.pings(bare(web)), 'the host reaches the sandbox');
  });

  t.test('networks are isolated from each other', async (t) => {
    t.ok(await pings(h, 'far', WORLD), 'the other network works');
    t.notOk(await pings(h, 'web', bare(far), 1));
    t.notOk(await pings(h, 'far', bare(web), 1));
  });

  t.test('an internal network has no way out, and no way in', async (t) => {
    t.ok(await pings(h, 'in2', bare(in1)));
    t.ok(await pings(h, 'in2', '10.90.0.1'), 'its gateway address');
    t.notOk(await pings(h, 'in2', WORLD, 1));
    t.notOk(await pings(h, 'in2', bare(web), 1));
    t.notOk(await pings(h, 'web', bare(in1), 1));
    t.equal(await h.cnm('sandbox', 'exec', 'in2', '--', 'ip', 'route', 'show', 'default'), '');
  });

  t.test('exec passes on output and exit status', async (t) => {
    t.match(await h.cnm('sandbox', 'exec', 'web', 'ip', '-br', 'addr', 'show', 'eth0'), bare(web));
    t.equal((await h.tryCnm('sandbox', 'exec', 'web', '--', 'sh', '-c', 'exit 7')).code, 7);
    t.equal((await h.tryCnm('sandbox', 'exec', 'web', '--', 'sh', '-c', 'kill -9 $$')).code, 137);
    t.equal((await h.tryCnm('sandbox', 'exec', 'web', 'no-such-program')).code, 127);
  });

  t.test('inspect shows the chain as ip and nft show it', async (t) => {
    const network = await inspect(h, 'demo');
    const { bridgeName = '', members } = network;
    t.match(network.bridge, { kind: 'bridge', up: true, addresses: ['10.88.0.1/24', 'fd00:88::1/64'] });
    t.match(await h.net('nft', 'list', 'set', 'inet', 'cnm', 'bridges'), bridgeName);
    t.ok(network.rules.some((rule) => rule.where.endsWith('@bridges') && rule.what === bridgeName));
    t.strictSame(members.map((member) => member.name).sort(), ['db', 'web']);
    const member = members.find(({ name }) => name === 'db');
    const port = await h.net(
      'ip',
      '-o',
      'link',
      'show',
      'master',
      bridgeName,
      'dev',
      member?.outsideName ?? '',
    );
    t.match(port, `${String(member?.outside?.index)}: ${String(member?.outsideName)}@`);
    const inside = await h.cnm('sandbox', 'exec', 'db', '--', 'ip', '-o', 'link', 'show', 'eth0');
    t.match(inside, '02:00:00:00:00:77');
    t.match(
      inside,
      new RegExp(`^${String(member?.inside?.index)}: eth0@if${String(member?.outside?.index)}:`),
    );
    const drawing = await h.cnm('network', 'inspect', 'demo');
    t.match(
      drawing,
      new RegExp(
        `bridge ${bridgeName} [^]*-- veth ${String(member?.outsideName)} [^]*-- eth0 .*10\\.88\\.0\\.77/24[^]*sandbox db`,
      ),
    );
  });

  t.test('the three objects: a sandbox on two networks does not join them', async (t) => {
    await h.cnm('sandbox', 'join', 'db', '--network', 'other');
    const [view] = JSON.parse(await h.cnm('sandbox', 'inspect', 'db', '--json')) as SandboxView[];
    t.strictSame(view?.members.map((member) => [member.inside?.name, member.network.name]).sort(), [
      ['eth0', 'demo'],
      ['eth1', 'other'],
    ]);
    t.ok(await pings(h, 'db', bare(far)));
    t.notOk(await pings(h, 'web', bare(far), 1), 'db is no router');
    await h.cnm('sandbox', 'leave', 'db', '--network', 'other');
    t.notOk(await pings(h, 'db', bare(far), 1));
    t.ok(await pings(h, 'db', bare(web)));
  });

  t.test('the doctor finds what a hand broke, says it, and repairs it', async (t) => {
    t.match(await doctor(h), { code: 0, view: { healthy: true } });
    const { bridgeName = '', members } = await inspect(h, 'demo');
    const veth = members.find(({ name }) => name === 'web')?.outsideName ?? '';
    const breaks: readonly [what: string, command: string, says: RegExp][] = [
      ['a veth', `ip link del ${veth}`, new RegExp(`ip link add ${veth} `)],
      ['an address', `ip addr del 10.88.0.1/24 dev ${bridgeName}`, /ip addr add 10\.88\.0\.1\/24 dev /],
      ['a port', `ip link set ${veth} nomaster`, new RegExp(`ip link set ${veth} master ${bridgeName}`)],
      [
        'an element',
        `nft delete element inet cnm bridges '{ ${bridgeName} }'`,
        /nft add element inet cnm bridges/,
      ],
      ['a state', `ip link set ${bridgeName} down`, new RegExp(`ip link set ${bridgeName} up`)],
      ['the bridge', `ip link del ${bridgeName}`, new RegExp(`ip link add ${bridgeName} `)],
      ['the table', 'nft delete table inet cnm', /the nftables table "inet cnm" is absent/],
    ];
    for (const [what, command, says] of breaks) {
      await h.sh(command);
      const found = await h.tryCnm('doctor');
      // The daemon listens for changes and may have been faster; then there is nothing left to find.
      t.ok([0, 3].includes(found.code), `${what}: ${found.stdout}`);
      if (found.code === 3) t.match(found.stdout, says, what);
      const fixed = await h.tryCnm('doctor', '--fix');
      t.equal(fixed.code, 0, `${what}: ${fixed.stdout}${fixed.stderr}`);
      t.ok(await pings(h, 'web', '10.88.0.77'), `${what}: web reaches db again`);
      t.ok(await pings(h, 'web', WORLD), `${what}: and the world`);
    }
    t.match(await h.net('ip', '-br', 'addr', 'show', 'theirs'), '192.0.2.1/24', "the stranger's bridge");
    t.match(await h.net('nft', 'list', 'tables'), 'table inet theirs', "the stranger's table");
  });

  t.test('an orphan with our mark is found and removed, a stranger is not', async (t) => {
    await h.sh('ip link add ghost type bridge && ip link set ghost alias "cnm 0123456789ab"');
    await h.sh('ip link add bystander type bridge && ip link set bystander alias "someone else"');
    await h.cnm('doctor', '--fix');
    const links = await h.net('ip', '-br', 'link');
    t.notMatch(links, /^ghost /m);
    t.match(links, /^bystander /m);
    await h.net('ip', 'link', 'del', 'bystander');
  });

  t.test(
    'published ports: the client is seen, packets are counted, and a SIGKILL ends nothing',
    async (t) => {
      const then = await snapshot(h);
      const peer = lab.world;
      const server = h.spawnNet([
        ...['nsenter', `--net=${h.outside(await namespaceOf(h, 'web'))}`],
        ...['socat', 'TCP6-LISTEN:80,ipv6only=0,fork,reuseaddr'],
        // Reads the request first: unread, it would end the connection with a reset.
        'SYSTEM:sed -n /^.$/q; echo $SOCAT_PEERADDR',
      ]);
      const curl = async (from: Host, url: string) =>
        (
          await from.tryNet(
            'curl',
            '-sg',
            '--http0.9',
            '--noproxy',
            '*',
            '--retry',
            '3',
            '--retry-connrefused',
            '-m',
            '30',
            url,
          )
        ).stdout;
      const opens = async (from: Host, port: number, { address = h.address, seconds = 10 } = {}) => {
        const to = `TCP:${address}:${port},connect-timeout=${seconds}`;
        return (await from.tryNet('socat', '-u', '/dev/null', to)).code === 0;
      };
      // 198.51.100.1 as a server of both families sees it (RFC 4291 section 2.5.5.2).
      const PEER = /:ffff:c633:6401\]$/m;
      const ports = async (of: string) => JSON.parse(await h.cnm('port', of, '--json')) as PortView[];
      const count = async () => {
        const view = JSON.parse(await h.cnm('firewall', 'show', 'demo', '--json')) as FirewallView;
        const port = view.networks[0]?.ports.find(({ port, ip }) => port === 80 && !ip.includes(':'));
        return port?.count?.packets ?? NaN;
      };

      const asked = ['-p', '8080:80', '-p', '127.0.0.1:9090:80', '-p', '53/udp'];
      const said = await h.cnm('endpoint', 'publish', 'web', ...asked);
      t.match(said, /^80\/tcp -> 0\.0\.0\.0:8080\n80\/tcp -> 127\.0\.0\.1:9090\n/m);
      const [, ephemeral = ''] = /^53\/udp -> 0\.0\.0\.0:(\d+)$/m.exec(said) ?? [];
      t.ok(Number(ephemeral) >= 1024, ephemeral);
      await until(
        'the server to answer',
        10_000,
        async () => (await opens(h, 9090, { address: '127.0.0.1', seconds: 1 })) || undefined,
      );
      const before = await count();
      t.match(await curl(peer, `http://${h.address}:8080`), PEER, 'the client as it is');
      t.match(await curl(peer, `http://[${h.address6}]:8080`), /2001:0?db8:0*1:/, 'IPv6');
      t.ok(await opens(h, 9090, { address: '127.0.0.1' }));
      t.notOk(await opens(peer, 9090, { seconds: 1 }), 'a loopback address is for the host alone');
      const after = await count();
      t.ok(after >= before + 4, `${before} packets, then ${after}: at least SYN, ACK, the request and a FIN`);

      t.equal(await h.cnm('port', 'web'), said, 'cnm port shows it');
      t.equal(await h.cnm('port', 'web', '53/udp'), `0.0.0.0:${ephemeral}\n[::]:${ephemeral}\n`);
      t.match(await h.cnm('port'), /^web +demo +10\.88\.0\.\d+:80\/tcp +0\.0\.0\.0:8080 127\.0\.0\.1:9090$/m);
      t.match(
        await h.cnm('endpoint', 'inspect', 'web'),
        /published +80\/tcp -> 0\.0\.0\.0:8080 127\.0\.0\.1:9090/,
      );
      t.match(await h.cnm('network', 'inspect', 'demo'), /published ports\n +web +.*0\.0\.0\.0:8080/);
      const shown = await h.cnm('firewall', 'show', 'demo');
      t.match(
        shown,
        /IPv4 +nat: containers go out with the address of the interface they leave by; published ports/,
      );
      t.match(shown, /web +10\.88\.0\.\d+:80\/tcp +0\.0\.0\.0:8080 127\.0\.0\.1:9090 +\d+ +\d+/);
      const { bridgeName = '' } = await inspect(h, 'demo');
      const foreign = (await inspect(h, 'other')).bridgeName ?? '';
      const ruleset = await h.cnm('firewall', 'show', 'demo', '--nft');
      t.match(
        ruleset,
        new RegExp(`set bridges \\{\n\t\ttype ifname\n\t\telements = \\{ "${bridgeName}" \\}`),
      );
      t.match(ruleset, /10\.88\.0\.\d+ \. tcp \. 80 counter packets \d+ bytes \d+/);
      t.match(ruleset, 'chain into_bridge');
      t.notMatch(ruleset, foreign, 'elements of other networks are left out');
      t.match(await h.cnm('firewall', 'show', '--nft'), foreign);

      await h.killPlugin();
      t.match(await curl(peer, `http://${h.address}:8080`), PEER, 'with no daemon');
      await h.startPlugin();
      t.match(await doctor(h), { code: 0, view: { healthy: true } });
      t.equal(await h.cnm('port', 'web'), said, 'the same ports, chosen ones too');
      t.match(await curl(peer, `http://${h.address}:8080`), PEER);
      t.ok((await count()) >= after + 8, 'counters went on');
      t.equal(await h.cnm('endpoint', 'publish', 'web', ...asked), said, 'the same again changes nothing');

      const stable = await ports('web');
      const rows: readonly [words: readonly string[], says: RegExp][] = [
        [['endpoint', 'publish', 'web', '-p', '8080:80/icmp'], /-p "8080:80\/icmp" .*tcp, udp or sctp/],
        [['endpoint', 'publish', 'web', '-p', '8080:80', '-p', '2001:db8::1:1:1'], /in brackets/],
        [
          ['endpoint', 'publish', 'web', '-p', '192.0.2.77:80:80'],
          /192\.0\.2\.77: the host does not have this address/,
        ],
        [['endpoint', 'publish', 'db', '-p', '8080:80'], /8080\/tcp .*endpoint web/],
        [['endpoint', 'publish', 'nope', '-p', '8080:80'], /"nope"/],
        [['sandbox', 'join', 'far', '--network', 'demo', '-p', '8080:80'], /8080\/tcp .*endpoint web/],
        [['port', 'web', '81'], /web publishes no port 81\/tcp/],
        [['port', 'nope'], /No endpoint, container or network .*"nope"/],
      ];
      for (const [words, refusal] of rows) {
        t.match(await h.tryCnm(...words), { code: 1, stderr: refusal }, words.join(' '));
      }
      t.strictSame(await ports('web'), stable, 'and nothing was changed');
      t.strictSame((await inspect(h, 'demo')).members.map(({ name }) => name).sort(), ['db', 'web']);

      await h.cnm('endpoint', 'publish', 'web', '-p', '8081:80');
      t.ok(await opens(peer, 8081), 'other ports');
      t.notOk(await opens(peer, 8080, { seconds: 1 }), 'in the place of those before');
      await h.cnm('endpoint', 'unpublish', 'web');
      await h.cnm('endpoint', 'unpublish', 'web');
      t.notOk(await opens(peer, 8081, { seconds: 1 }));
      t.equal(await h.cnm('port', 'web'), '');
      t.equal(await settled(h, then), then, 'nothing is left');

      await h.cnm('sandbox', 'join', 'far', '--network', 'demo', '-p', '8082:80');
      t.match(await h.cnm('port', 'far', '80/tcp'), '0.0.0.0:8082');
      await h.cnm('sandbox', 'leave', 'far', '--network', 'demo');
      t.equal(await settled(h, then), then, 'leaving takes ports away');
      t.notMatch(await h.net('ss', '-Hltn'), /:80(?:80|81|82) /, 'and what held them');
      await server.kill('SIGTERM');
    },
  );

  t.test('SIGKILL and a new start: traffic goes on, everything is known, nothing differs', async (t) => {
    const ping = h.spawnNet([
      'nsenter',
      `--net=${h.outside(await namespaceOf(h, 'web'))}`,
      'ping',
      '-n',
      '-i',
      '0.1',
      '-c',
      '40',
      '10.88.0.77',
    ]);
    await h.killPlugin();
    t.equal((await h.tryCnm('network', 'ls')).code, 1, 'no daemon');
    await h.startPlugin();
    t.match(await doctor(h), { code: 0, view: { healthy: true } });
    t.match(await h.cnm('endpoint', 'ls'), '10.88.0.77/24');
    await until('the ping to end', 10_000, () => !ping.alive || undefined);
    t.match(ping.stdout, '40 packets transmitted, 40 received, 0% packet loss');
  });

  t.test('what cannot be is refused in a sentence, and changes nothing', async (t) => {
    const then = await snapshot(h);
    const rows: readonly [words: readonly string[], says: RegExp][] = [
      [['network', 'create', 'demo'], /demo exists already/],
      [['network', 'create', '--subnet', '10.88.0.0/25', 'x'], /10\.88\.0\.0\/25 .*10\.88\.0\.0\/24/],
      [['network', 'create', 'x;touch /tmp/p'], /cannot be the name/],
      [['network', 'create', '-d', 'bridge', 'x'], /cnm-bridge/],
      [['network', 'create', '-o', 'com.docker.network.driver.mtu=67', 'x'], /mtu/],
      [['network', 'rm', 'demo'], /active endpoints/],
      [['sandbox', 'join', 'web', '--network', 'demo'], /already/],
      [['sandbox', 'join', 'far', '--network', 'demo', '--ip', '10.88.0.77'], /10\.88\.0\.77/],
      [['sandbox', 'join', 'far', '--network', 'nope'], /"nope"/],
    ];
    for (const [words, says] of rows) {
      const { code, stderr } = await h.tryCnm(...words);
      t.equal(code, 1, words.join(' '));
      t.match(stderr, says, words.join(' '));
    }
    t.equal(await settled(h, then), then);
  });

  t.test('removing everything leaves nothing', async (t) => {
    await h.cnm('sandbox', 'rm', 'web', 'db', 'far', 'in1', 'in2');
    await h.cnm('network', 'rm', 'demo', 'other', 'quiet');
    t.equal(await settled(h, before), before);
    t.match(await doctor(h), { code: 0, view: { healthy: true, leaks: [] } });
    // The daemon's end of the command's last connection closes a moment after the command's own.
    // It may have had one open for a moment when they were counted.
    const more = async () => {
      const left = [...descriptorsBefore];
      return (await descriptors(h)).filter((one) => {
        const at = left.indexOf(one);
        if (at >= 0) left.splice(at, 1);
        return at < 0;
      });
    };
    const same = async () => (await more()).length === 0 || undefined;
    await until('the last connection to close', 60_000, same).catch(() => undefined);
    t.same(await more(), [], 'file descriptors');
    await h.cnm('network', 'create', '--subnet', '10.88.0.0/24', 'again');
    await h.cnm('network', 'rm', 'again');
  });
});

async function namespaceOf(h: CnmHost, name: string): Promise<string> {
  const [view] = JSON.parse(await h.cnm('sandbox', 'inspect', name, '--json')) as SandboxView[];
  if (view === undefined) throw new Error(`no sandbox ${name}`);
  return view.path;
}
