/**
 * firewall=host: published ports obey the host's own input policy, whoever made it. Each answer is the server's name and the client's address
 * as the server saw it.
 *
 *   h1 h2      d1
 *    ╲╱        │
 *   cnm-h    cnm-d            networks of ours: cnm-h has firewall=host, cnm-d has not
 *     ╰── host ┴── lan  192.0.2.2, 2001:db8:1::2         the host: 192.0.2.1, 2001:db8:1::1; its firewall lets lan in,
 *           ╰───── lan2 198.51.100.2, 2001:db8:2::2      and not lan2
 *
 * 10.N.0.0/24 and fd00:N::/64 for N = 1 (h), 2 (d). Reverse path filtering is strict.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import type { Test } from 'tap';
import { ip } from '../../address/ip.ts';
import { prefix } from '../../address/prefix.ts';
import type { NetworkSpec, PublishedPort } from '../../cnm/model.ts';
import { bridge as driver } from '../../drivers/bridge/index.ts';
import { gateNamesOf } from '../../drivers/bridge/names.ts';
import { openKernel } from '../../kernel/linux.ts';
import type { Plan } from '../../kernel/step.ts';
import { foreignRules, HOST_POLICIES, NFT } from './host-policies.ts';
import { answerTo, capture, leftovers, nftElements, NO_ELEMENTS, openWorld, serve, sh } from './world.ts';
import type { Machine } from './world.ts';

const world = await openWorld('policy');
sh('sysctl -q -w net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1');
const quiet = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};
const kernel = await openKernel({ netnsDir: '/run/cnm-policy-test', log: quiet });
const servers: (() => void)[] = [];
t.teardown(async () => {
  for (const stop of servers) stop();
  await kernel.close();
  world.close();
  if (leftovers('policy').length > 0) throw new Error('namespaces are left');
});

const network = (n: number, bridge: string, options: Record<string, string>): NetworkSpec => ({
  id: String(n).repeat(64),
  driver: 'cnm-bridge',
  origin: 'docker',
  options: { 'com.docker.network.bridge.name': bridge, ...options },
  internal: false,
  enableIpv4: true,
  enableIpv6: true,
  ipv4: [{ addressSpace: '', pool: prefix(`10.${n}.0.0/24`), gateway: prefix(`10.${n}.0.1/24`), aux: {} }],
  ipv6: [{ addressSpace: '', pool: prefix(`fd00:${n}::/64`), gateway: prefix(`fd00:${n}::1/64`), aux: {} }],
});
const H = network(1, 'cnm-h', { firewall: 'host' });
const D = network(2, 'cnm-d', {});
const GATE = gateNamesOf(H.id);

const noFacts = await kernel.facts();

/** On every address of the host, in both families, to host 11 of the network. */
function publish(spec: NetworkSpec, n: number, ports: readonly (readonly [number, number, number])[]): Plan {
  const published = ports.flatMap(([proto, port, hostPort]): PublishedPort[] => [
    { proto, ip: ip(`10.${n}.0.11`), port, hostIp: ip('0.0.0.0'), hostPort },
    { proto, ip: ip(`fd00:${n}::11`), port, hostIp: ip('::'), hostPort },
  ]);
  const plan = driver.network(spec, noFacts, []);
  return driver.publishing?.plan({ ...spec, state: 'ready', createdAt: '', plan }, published) ?? [];
}
const PORTS_H = publish(H, 1, [
  [6, 80, 8080],
  [17, 53, 5300],
  ...Array.from({ length: 11 }, (_, i) => [6, 8000 + i, 8000 + i] as const),
]);
const PORTS_D = publish(D, 2, [
  [6, 80, 8180],
  [17, 53, 5400],
]);

const lan = world.peer('lan', '192.0.2', '2001:db8:1');
const lan2 = world.peer('lan2', '198.51.100', '2001:db8:2');

const plans: { h: Plan; d: Plan } = { h: [], d: [] };
async function makeNetworks(): Promise<void> {
  const facts = await kernel.facts();
  plans.h = driver.network(H, facts, []);
  plans.d = driver.network(D, facts, []);
  await kernel.apply([...plans.h, ...plans.d]);
  await kernel.apply([...PORTS_H, ...PORTS_D]);
}
async function removeNetworks(): Promise<void> {
  await kernel.revert([...PORTS_H, ...PORTS_D]);
  await kernel.revert(plans.h);
  await kernel.revert(plans.d);
}

const containers: Record<string, Machine> = {};
const container = (name: string): Machine => {
  const found = containers[name];
  if (found === undefined) throw new Error(`there is no ${name}`);
  return found;
};
async function addContainer(name: string, bridge: string, n: number, host: number): Promise<void> {
  const machine = world.machine(name, {
    bridge,
    addresses: [`10.${n}.0.${host}/24`, `fd00:${n}::${host}/64`],
    via: [`10.${n}.0.1`, `fd00:${n}::1`],
  });
  sh(`bridge link set dev h-${name} hairpin on`);
  servers.push(await serve(machine.netns, name, ['tcp:80', 'udp:53', 'tcp:8005']));
  containers[name] = machine;
}
/** Their bridges go with the networks, and are others when they come again. */
function plugContainers(): void {
  for (const [name, bridge] of Object.entries({ h1: 'cnm-h', h2: 'cnm-h', d1: 'cnm-d' })) {
    sh(`ip link set h-${name} master ${bridge}; bridge link set dev h-${name} hairpin on`);
    container(name).run('ip neigh flush dev eth0');
  }
}

type Expected = readonly (readonly [who: string, from: Machine | 'host', server: string, answer: string])[];

/** All at once. An answer that is to come may take more than one try on a busy machine; one that must not come has one. */
async function check(t: Test, expected: Expected): Promise<void> {
  const answers = await Promise.all(
    expected.map(async ([, from, server, answer]) => {
      const netns = from === 'host' ? undefined : from.netns;
      for (let tries = answer === 'nothing' ? 1 : 4; ; tries -= 1) {
        const seen = await answerTo(netns, server);
        if (seen === answer || tries === 1) return seen;
      }
    }),
  );
  for (const [i, [who, , server, answer]] of expected.entries()) {
    t.equal(answers[i], answer, `${who} asks ${server}`);
  }
}

const at = (
  from: string,
  machine: Machine,
  v4: string,
  v6: string,
  tcp: number,
  udp: number,
  answers: string[],
): Expected => [
  [from, machine, `tcp:${v4}:${tcp}`, answers[0] ?? 'nothing'],
  [from, machine, `udp:${v4}:${udp}`, answers[0] ?? 'nothing'],
  [from, machine, `tcp:[${v6}]:${tcp}`, answers[1] ?? 'nothing'],
  [from, machine, `udp:[${v6}]:${udp}`, answers[1] ?? 'nothing'],
];
const lanAsks = (tcp: number, udp: number, server?: string): Expected =>
  at(
    'lan',
    lan,
    '192.0.2.1',
    '2001:db8:1::1',
    tcp,
    udp,
    server === undefined ? [] : [`${server} 192.0.2.2`, `${server} 2001:db8:1::2`],
  );
const lan2Asks = (tcp: number, udp: number, server?: string): Expected =>
  at(
    'lan2',
    lan2,
    '198.51.100.1',
    '2001:db8:2::1',
    tcp,
    udp,
    server === undefined ? [] : [`${server} 198.51.100.2`, `${server} 2001:db8:2::2`],
  );

t.test('setting up', async (t) => {
  await kernel.prepare();
  await makeNetworks();
  await addContainer('h1', 'cnm-h', 1, 11);
  await addContainer('h2', 'cnm-h', 1, 12);
  await addContainer('d1', 'cnm-d', 2, 11);
  servers.push(await serve(lan.netns, 'lan', ['tcp:80']));
  const all = [...plans.h, ...plans.d, ...PORTS_H, ...PORTS_D];
  t.same(kernel.missing(all, await kernel.facts({ plans: [all] })), []);
  await check(t, [...lanAsks(8080, 5300, 'h1'), ...lan2Asks(8080, 5300, 'h1')]);
  await removeNetworks();
});

for (const policy of HOST_POLICIES) {
  t.test(policy.name, async (t) => {
    policy.install();
    t.teardown(() => {
      policy.remove();
    });
    const before = foreignRules();
    await makeNetworks();
    plugContainers();
    await check(t, [
      ...lanAsks(8080, 5300),
      ...lan2Asks(8080, 5300),
      ...lanAsks(8180, 5400, 'd1'),
      ...lan2Asks(8180, 5400, 'd1'),
    ]);
    policy.open();
    await check(t, [
      ...lanAsks(8080, 5300, 'h1'),
      ...lan2Asks(8080, 5300),
      ['lan, at a port that is not open', lan, 'tcp:192.0.2.1:8005', 'nothing'],
      ['a container of another network', container('d1'), 'tcp:192.0.2.1:8080', 'nothing'],
      ['one of the same', container('h2'), 'tcp:192.0.2.1:8080', 'nothing'],
      ['the host itself', 'host', 'tcp:192.0.2.1:8080', 'h1 192.0.2.1'],
      ['a container to the world', container('h1'), 'tcp:192.0.2.2:80', 'lan 192.0.2.1'],
    ]);
    policy.close();
    await check(t, lanAsks(8080, 5300));
    await removeNetworks();
    t.same(nftElements(), NO_ELEMENTS);
    t.equal(foreignRules(), before, 'the rules of others are as they were');
  });
}

t.test('a policy that changes', async (t) => {
  NFT.install();
  await makeNetworks();
  plugContainers();
  NFT.open();

  await t.test('connections that were let in stay, new ones are judged anew', async (t) => {
    const { netns } = container('h1');
    const echo = spawn('ip', [
      'netns',
      'exec',
      netns,
      'socat',
      'TCP4-LISTEN:8006,fork,reuseaddr',
      'EXEC:cat',
    ]);
    servers.push(() => echo.kill());
    sh('nft add rule inet host open tcp dport 8006 accept');
    const client = spawn('ip', [
      'netns',
      'exec',
      lan.netns,
      'socat',
      '-',
      'TCP4:192.0.2.1:8006,retry=100,interval=0.2',
    ]);
    const said = async (line: string): Promise<string> => {
      client.stdin.write(`${line}\n`);
      const [chunk] = (await once(client.stdout, 'data')) as [Buffer];
      return chunk.toString().trim();
    };
    t.equal(await said('open'), 'open');
    NFT.close();
    t.equal(await said('closed meanwhile'), 'closed meanwhile');
    await check(t, [['lan', lan, 'tcp:192.0.2.1:8006', 'nothing'], ...lanAsks(8080, 5300)]);
    client.kill();
    echo.kill();
  });

  sh('nft add rule inet host open accept');
  for (const calls of [0, 1]) {
    await t.test(`everything is let in, bridge-nf-call-iptables = ${calls}`, async (t) => {
      sh(
        `sysctl -q -w net.bridge.bridge-nf-call-iptables=${calls} net.bridge.bridge-nf-call-ip6tables=${calls}`,
      );
      await check(t, [
        ...lanAsks(8080, 5300, 'h1'),
        ...lan2Asks(8080, 5300, 'h1'),
        ['lan, a range', lan, 'tcp:192.0.2.1:8005', 'h1 192.0.2.2'],
        ['lan, another address of the host', lan, 'tcp:198.51.100.1:8080', 'h1 192.0.2.2'],
        ['another network', container('d1'), 'tcp:10.2.0.1:8080', 'h1 10.2.0.11'],
        ['another network', container('d1'), 'udp:[fd00:2::1]:5300', 'h1 fd00:2::11'],
        ['the same network', container('h2'), 'tcp:10.1.0.1:8080', 'h1 10.1.0.1'],
        ['the same network', container('h2'), 'udp:192.0.2.1:5300', 'h1 10.1.0.1'],
        ['the same network', container('h2'), 'tcp:[2001:db8:1::1]:8080', 'h1 fd00:1::1'],
        ['the container itself', container('h1'), 'tcp:192.0.2.1:8080', 'h1 10.1.0.1'],
        ['the container itself', container('h1'), 'tcp:[fd00:1::1]:8080', 'h1 fd00:1::1'],
        ['the host', 'host', 'tcp:127.0.0.1:8080', 'h1 10.1.0.1'],
        ['the host', 'host', 'udp:[2001:db8:1::1]:5300', 'h1 2001:db8:1::1'],
        ['lan, straight', lan, 'tcp:10.1.0.11:80', 'nothing'],
      ]);
    });
  }

  await t.test('a first datagram in fragments', async (t) => {
    for (const server of ['UDP4:192.0.2.1:5300', 'UDP6:[2001:db8:1::1]:5300']) {
      const answer = lan.run(`sh -c 'head -c 5000 /dev/zero | socat -b 8192 -t 5 -T 5 - ${server}'`).trim();
      t.match(answer, /^h1 /, server);
    }
    await sleep(0);
  });

  await t.test('gates that go', async (t) => {
    const other = network(3, 'cnm-e', { firewall: 'host' });
    const plan = driver.network(other, await kernel.facts(), []);
    await kernel.apply(plan);
    sh(`ip link del ${GATE.entrance}`);
    await check(t, lanAsks(8080, 5300, 'h1'));
    await kernel.revert(plan);
    // What would a host with a router do with a copy for which there is no gate?
    sh('ip route add default via 192.0.2.2; ip -6 route add default via 2001:db8:1::2');
    lan.run('sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1');
    t.equal(
      await capture(
        lan,
        'host 198.51.100.2 or host 2001:db8:2::2',
        () => {
          for (const server of ['tcp:198.51.100.1:8080', 'tcp:[2001:db8:2::1]:8080']) {
            t.equal(lan2.ask(server), 'nothing', server);
          }
        },
        4,
      ),
      '',
      'no copy leaves by the default route',
    );
    sh('ip route del default; ip -6 route del default');
    await kernel.apply(plans.h);
    await check(t, lanAsks(8080, 5300, 'h1'));
  });

  await t.test('a flushed ruleset, and one of our tables alone', async (t) => {
    for (const command of [
      'nft flush ruleset',
      'nft delete table ip cnm',
      'nft flush chain ip6 cnm to_gate',
    ]) {
      sh(command);
      t.equal((await kernel.facts()).rulesetCurrent, false, command);
      await kernel.prepare();
      await kernel.apply([...plans.h, ...plans.d]);
      await kernel.apply([...PORTS_H, ...PORTS_D]);
      await check(t, [...lanAsks(8080, 5300, 'h1'), ...lanAsks(8180, 5400, 'd1')]);
    }
  });
  await removeNetworks();
  t.same(nftElements(), NO_ELEMENTS);
});

t.test('B15: a host that forwards nothing of its own', async (t) => {
  const both = [...lanAsks(8080, 5300, 'h1'), ...lanAsks(8180, 5400, 'd1')];
  const out = (answer: string): Expected => [
    ['h1', container('h1'), 'tcp:192.0.2.2:80', answer],
    ['d1', container('d1'), 'tcp:[2001:db8:1::2]:80', answer === 'nothing' ? answer : 'lan 2001:db8:1::1'],
  ];
  for (const form of ['nft', 'legacy'] as const) {
    await t.test(`iptables-${form} -A FORWARD -j DROP, where Docker leaves its users a chain`, async (t) => {
      for (const program of [`iptables-${form}`, `ip6tables-${form}`]) {
        sh(`${program} -N DOCKER-USER; ${program} -A FORWARD -j DOCKER-USER; ${program} -A FORWARD -j DROP`);
      }
      const before = foreignRules();
      await makeNetworks();
      plugContainers();
      await check(t, [...both, ...out('lan 192.0.2.1')]);
      await removeNetworks();
      t.equal(foreignRules(), before);
      for (const program of [`iptables-${form}`, `ip6tables-${form}`]) sh(`${program} -F; ${program} -X`);
    });
  }

  await t.test('an nft table whose forward policy is drop', async (t) => {
    sh(
      `nft 'table inet host { chain forward { type filter hook forward priority filter; policy drop; ct state established,related accept; }; }'`,
    );
    await makeNetworks();
    plugContainers();
    await check(t, [...lanAsks(8080, 5300), ...lanAsks(8180, 5400), ...out('nothing')]);
    // What the README says to add.
    sh(
      `nft 'add rule inet host forward iifname "cnm*" accept; add rule inet host forward oifname "cnm*" accept'`,
    );
    await check(t, [...both, ...out('lan 192.0.2.1')]);
    await removeNetworks();
    sh('nft delete table inet host');
  });
});
