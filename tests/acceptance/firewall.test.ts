/*
 * Beside Docker's firewall and the user's, on Docker Engine 20.10: acceptance.md §1.8.
 *
 *   world 203.0.113.1 ── uplink ── eth0 h1: dockerd, FORWARD policy DROP, bridge-nf-call-iptables=1
 *                                    ├── n1     10.1.0.0/24, fd00:1::/64 (ours)  ── c1, c2
 *                                    ├── n2     10.2.0.0/24              (ours)  ── c3
 *                                    └── theirs 10.9.0.0/24   (Docker's bridge)  ── d1 (port 80 published as 8080, 81 not), d2
 */
import t from 'tap';
import { until } from '../lab/command.ts';
import type { DockerHost } from '../lab/docker-host.ts';
import { openLab, WORLD, WORLD6 } from '../lab/lab.ts';
import { assertRestored, snapshot } from '../lab/snapshot.ts';
import { attached, bridgeOf } from './observe.ts';

/** What the user's own firewall holds, in both of its languages. */
const USERS_RULES = `
  iptables -A INPUT -s 192.0.2.66 -j DROP
  iptables -A FORWARD -s 192.0.2.67 -j DROP
  iptables -I DOCKER-USER -s 192.0.2.68 -j DROP
  iptables -t nat -A POSTROUTING -s 192.0.2.69 -j RETURN
  nft -f - <<'END'
    table inet users {
      set bridges { type ifname; elements = { "cnm0" } }
      chain forward { type filter hook forward priority filter + 10; policy accept; ip saddr 192.0.2.70 drop comment "cnm 0123456789ab"; }
    }
END`;

/** A page on TCP port 80 and another on 81, from inside the container. */
async function serve(h: DockerHost, container: string): Promise<void> {
  for (const port of ['80', '81']) await h.exec(container, '/bin/busybox', 'httpd', '-p', port, '-h', '/www');
}

/** The server ends the connection: `seconds` are waited for where nothing comes. */
async function fetches(
  h: DockerHost,
  from: string,
  address: string,
  port: number,
  seconds = 10,
): Promise<boolean> {
  const socat = ['socat', `-t${seconds}`, '-', `TCP4:${address}:${port},connect-timeout=${seconds}`];
  const { stdout } = await h.tryInContainer(from, { input: 'GET / HTTP/1.0\r\n\r\n' }, ...socat);
  return stdout.includes('cnm-lab');
}

/** Every setting of the network, but those of links that come and go. */
async function networkSysctls(h: DockerHost): Promise<string> {
  const gone = '(neigh|conf)\\.(cnm|veth|br-)|nf_conntrack_count|\\.fs\\.|random|nr_|ns_last';
  return h.sh(`sysctl -a 2>/dev/null | grep '^net\\.' | grep -vE '${gone}'`);
}

async function comes(what: string, ask: () => Promise<boolean>): Promise<boolean> {
  const found = until(what, 60_000, async () => (await ask()) || undefined);
  return found.catch(() => false);
}

t.test('cnm-bridge under Docker 20.10’s firewall', async (t) => {
  const lab = await openLab(t);
  // Containers that outlive dockerd, so that its restart is about the firewall alone.
  const h = await lab.dockerHost({ plugin: 'sockets', dockerd: ['--live-restore'] });
  // Docker's network with IPv6 would do the same; then nothing of ours changes a setting that is not ours alone.
  await h.sh('sysctl -qw net.ipv6.conf.default.forwarding=1 net.ipv6.conf.all.forwarding=1');
  // Settings of a person who knows why.
  await h.sh(`sysctl -qw net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.eth0.forwarding=1 net.ipv4.conf.all.arp_ignore=1
    sysctl -qw net.ipv6.conf.eth0.accept_ra=2 net.bridge.bridge-nf-call-arptables=0 net.ipv4.ip_nonlocal_bind=1`);
  await h.docker('network', 'create', '--subnet', '10.9.0.0/24', 'theirs');
  const sysctls = await networkSysctls(h);

  const create = ['network', 'create', '-d', 'cnm-bridge'];
  await h.docker(...create, '--subnet=10.1.0.0/24', '--ipv6', '--subnet=fd00:1::/64', 'n1');
  await h.docker(...create, '--subnet=10.2.0.0/24', 'n2');
  await Promise.all([
    h.container('c1', 'n1'),
    h.container('c2', 'n1'),
    h.container('c3', 'n2'),
    h.container('d1', 'theirs', '--publish', '8080:80').then(() => serve(h, 'd1')),
    h.container('d2', 'theirs'),
  ]);
  const [c1, c2, c3] = await Promise.all([
    attached(h, 'c1', 'n1'),
    attached(h, 'c2', 'n1'),
    attached(h, 'c3', 'n2'),
  ]);
  const d1 = await attached(h, 'd1', 'theirs');

  /** Same bridge, and out: what Docker's policy would drop and what needs our masquerade. */
  const flows = async (seconds = 10): Promise<boolean> => {
    const pings = [c2.v4, c2.v6, WORLD, WORLD6].map((to) => h.containerPings('c1', to, seconds));
    return (await Promise.all(pings)).every(Boolean);
  };
  /** Where it may not do so yet: asked again soon. */
  const flowsNow = () => flows(2);
  const isolated = async (): Promise<boolean> => !(await h.containerPings('c1', c3.v4, 1));

  t.test(
    '§1.8 same-bridge and outbound traffic under FORWARD DROP, with br_netfilter or without',
    async (t) => {
      t.match(await h.sh('iptables -S FORWARD'), '-P FORWARD DROP');
      for (const value of [1, 0, 1]) {
        await h.sh(
          `sysctl -qw net.bridge.bridge-nf-call-iptables=${value} net.bridge.bridge-nf-call-ip6tables=${value}`,
        );
        t.ok(await flows(), `bridge-nf-call-iptables=${value}`);
        t.ok(await isolated());
      }
      // What holds the traffic up is our accept rules and nothing that the test forgot.
      const bridge = await bridgeOf(h, 'n1');
      const ours = (await h.sh('iptables -S DOCKER-USER'))
        .split('\n')
        .filter((line) => line.includes(`-j ACCEPT`));
      t.same(
        ours.filter((line) => !/-[io] cnm/.test(line)),
        [],
        'accepted is what comes from or goes to a bridge of ours, nothing more',
      );
      t.equal(ours.filter((line) => line.includes(bridge)).length, 2);
    },
  );

  t.test('§1.8 an unpublished port of a container on Docker’s own bridge stays closed to ours', async (t) => {
    t.ok(await fetches(h, 'd2', d1.v4, 80), 'its neighbour reaches it');
    t.ok(await fetches(h, 'd2', d1.v4, 81));
    t.notOk(await fetches(h, 'c1', d1.v4, 81, 1), 'our container does not');
    t.notOk(await h.containerPings('c1', d1.v4, 1));
    t.notOk(await fetches(h, 'c1', d1.v4, 80, 1), 'nor the published one past its publishing');
    t.ok(await fetches(h, 'c1', '10.1.0.1', 8080), 'but as published, on the host’s address');
    t.ok(await fetches(h, 'c1', h.address, 8080));
    t.notOk(await h.containerPings('d2', c1.v4, 1), 'and Docker’s container does not reach ours');
  });

  t.test('§1.8 the user’s DROP in DOCKER-USER wins, before our rules and after', async (t) => {
    await h.sh(`iptables -I DOCKER-USER -s ${c1.v4} -d ${WORLD} -j DROP`);
    t.notOk(await h.containerPings('c1', WORLD, 1), 'first in the chain');
    t.ok(await h.containerPings('c2', WORLD), 'another container is not meant');
    t.ok(await h.containerPings('c1', c2.v4), 'nor another destination');
    // Appended it stands behind Docker's RETURN, where no rule of anybody's is reached: in the RETURN's place it counts.
    await h.sh(`iptables -D DOCKER-USER -s ${c1.v4} -d ${WORLD} -j DROP`);
    t.ok(await h.containerPings('c1', WORLD));
    await h.sh('iptables -D DOCKER-USER -j RETURN');
    await h.sh(`iptables -A DOCKER-USER -s ${c1.v4} -d ${WORLD} -j DROP`);
    const dropped = async () => !(await h.containerPings('c1', WORLD, 1));
    t.ok(await comes('the drop after our rules to count', dropped), 'ours make way for one that comes after');
    t.notOk(await flows(1));
    t.ok(await h.containerPings('c2', WORLD));
    await h.sh(`iptables -D DOCKER-USER -s ${c1.v4} -d ${WORLD} -j DROP; iptables -A DOCKER-USER -j RETURN`);
    t.ok(await comes('all to flow', flowsNow));
    await h.sh(`iptables -I DOCKER-USER -s 10.4.0.0/24 -d ${WORLD} -j DROP`);
    await h.docker(...create, '--subnet=10.4.0.0/24', 'n4');
    await h.container('c4', 'n4');
    t.notOk(await h.containerPings('c4', WORLD, 1), 'one that stood there before the network');
    t.ok(await h.containerPings('c4', '198.51.100.1', 3), 'which else gets out');
    await h.docker('rm', '--force', 'c4');
    await h.docker('network', 'rm', 'n4');
    await h.sh(`iptables -D DOCKER-USER -s 10.4.0.0/24 -d ${WORLD} -j DROP`);
  });

  t.test('§1.8 strangers’ rules and the user’s settings are as they were', async (t) => {
    await h.sh(USERS_RULES);
    // A table that is loaded anew stands behind the others: so it does before and after.
    await h.sh('nft delete table inet cnm');
    t.ok(await comes('our table', flowsNow));
    const rules = await snapshot(h);
    await h.docker(...create, '--subnet=10.3.0.0/24', '--ipv6', '--subnet=fd00:3::/64', 'n3');
    await h.container('c4', 'n3');
    await h.sh('nft delete table inet cnm');
    t.ok(await comes('a repair', () => h.containerPings('c4', WORLD, 2)));
    t.equal(await networkSysctls(h), sysctls, 'settings while networks are there');
    await h.docker('rm', '--force', 'c4');
    await h.docker('network', 'rm', 'n3');
    await assertRestored(t, h, rules);
    const found = (await h.sh('iptables-save; nft list table inet users')).match(/192\.0\.2\.\d+/g);
    t.same(new Set(found), new Set([66, 67, 68, 69, 70].map((n) => `192.0.2.${n}`)), 'the user’s are there');
  });

  t.test('§1.8 what others throw away is back within seconds', async (t) => {
    for (const [what, command] of [
      ['the chain flushed', 'iptables -F DOCKER-USER'],
      ['our table deleted', 'nft delete table inet cnm'],
      ['a chain of ours flushed', 'nft flush chain inet cnm forward'],
      ['our sets flushed', 'nft flush set inet cnm bridges; nft flush set inet cnm masquerade4'],
    ] as const) {
      await h.sh(command);
      t.ok(await comes(what, async () => (await flowsNow()) && (await isolated())), what);
    }
  });

  t.test('§1.8 a restart of dockerd', async (t) => {
    await h.stopDocker();
    await h.startDocker();
    t.match(await h.sh('iptables -S FORWARD'), '-P FORWARD DROP', 'its policy is back');
    t.ok(await comes('all to flow', flowsNow));
    t.ok(await isolated());
    t.notOk(await fetches(h, 'c1', d1.v4, 81, 1));
  });

  t.test('§1.8 everything flushed, and Docker started again', async (t) => {
    await h.sh('nft flush ruleset');
    // With Docker's policy and chains gone as well, it is isolation and masquerade that need us.
    t.ok(await comes('our table', async () => (await flowsNow()) && (await isolated())));
    // Docker drops by policy only when it switches forwarding on itself, and makes its chain for users with a network.
    await h.sh('iptables -P FORWARD DROP; ip6tables -P FORWARD ACCEPT');
    await h.stopDocker();
    await h.startDocker();
    await h.docker('network', 'create', 'theirs2');
    t.match(await h.sh('iptables -S FORWARD'), /-P FORWARD DROP\n-A FORWARD -j DOCKER-USER/);
    t.ok(await comes('our rules in the chain that Docker made anew', flowsNow));
    t.ok(await isolated());
  });

  t.test('nothing of ours is left', async (t) => {
    await h.docker('rm', '--force', 'c1', 'c2', 'c3', 'd1', 'd2');
    await h.docker('network', 'rm', 'n1', 'n2');
    t.notMatch(await h.sh('iptables -S; ip6tables -S'), /cnm [0-9a-f]{12}/);
    t.notMatch(await h.sh('nft list table inet cnm'), 'elements');
    t.equal(await networkSysctls(h), sysctls, 'settings');
  });
});
