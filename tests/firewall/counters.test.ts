/**
 * What published ports count, datagram by datagram: one packet of 29 bytes each (IPv4 header 20, UDP header 8, one line feed), one of
 * 49 over IPv6.
 *
 *   a1 a2    b1      r1
 *    ╲╱      │       │
 *   cnm-a  cnm-b   cnm-r          networks of ours; cnm-r is routed, not translated
 *     ╰──────┴─ host ┴── lan 192.0.2.2, trusted by cnm-a      host: 192.0.2.1, 2001:db8:1::1
 *                ╰────── lan2 198.51.100.2
 *
 * 10.N.0.0/24 and fd00:N::/64 for N = 1 (a), 2 (b), 3 (r).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import {
  element,
  hostAsks,
  leftovers,
  nftElements,
  openWorld,
  patiently,
  serve,
  sh,
  threeBridges,
} from './world.ts';

const world = await openWorld('count');
const { firewall } = world;
const servers: (() => void)[] = [];
t.teardown(() => {
  for (const stop of servers) stop();
  world.close();
  if (leftovers('count').length > 0) throw new Error('namespaces are left');
});

const { a1, a2, b1, r1, lan, lan2 } = threeBridges(world);
sh('bridge link set dev h-a1 hairpin on');
for (const [name, { netns }] of Object.entries({ a1, r1 })) {
  servers.push(await serve(netns, name, ['tcp:80', 'udp:53']));
}

const ELEMENTS = [
  ...['cnm-a', 'cnm-b', 'cnm-r'].flatMap((bridge) => [
    element('bridges', bridge),
    element('same_bridge', `${bridge} . ${bridge}`),
    element('hairpin', `${bridge} . ${bridge}`),
  ]),
  ...(['routed4', 'routed6'] as const).map((set) => element(set, 'cnm-r')),
  element('trusted', 'lan0 . cnm-a'),
  element('publish4_any', 'udp . 53', '10.1.0.11 . 53'),
  element('publish4_any', 'tcp . 8080', '10.1.0.11 . 80'),
  element('publish6_any', 'udp . 53', 'fd00:1::11 . 53'),
  ...['10.1.0.11 . udp . 53', '10.1.0.11 . tcp . 80', '10.3.0.11 . udp . 53'].map((key) =>
    element('open4', key),
  ),
  element('open6', 'fd00:1::11 . udp . 53'),
];
await firewall.prepare();
firewall.change(ELEMENTS, []);

const A1 = '10.1.0.11 . udp . 53';
const A1_6 = 'fd00:1::11 . udp . 53';
const R1 = '10.3.0.11 . udp . 53';
const counted = (key: string) => firewall.counters().get(key)?.packets ?? NaN;

/** By how much a question that was answered makes the counter grow. A machine under load may take more than a second for the first. */
function grows(key: string, ask: () => string): number {
  for (let attempt = 1; attempt <= 5; attempt += 1) {
    const before = counted(key);
    if (ask() !== 'nothing') return counted(key) - before;
  }
  throw new Error('no answer');
}

for (const filtered of ['0', '1']) {
  t.test(`every way into a published port is counted once, br_netfilter ${filtered}`, (t) => {
    sh(`modprobe br_netfilter 2>/dev/null || true
      sysctl -q -w net.bridge.bridge-nf-call-iptables=${filtered} net.bridge.bridge-nf-call-ip6tables=${filtered}`);
    const rows: readonly [who: string, key: string, ask: () => string][] = [
      ['from outside', A1, () => lan2.ask('udp:192.0.2.1:53')],
      ['from outside, IPv6', A1_6, () => lan2.ask('udp:[2001:db8:2::1]:53')],
      ['the host', A1, () => hostAsks('udp:192.0.2.1:53')],
      ['the host, loopback', A1, () => hostAsks('udp:127.0.0.1:53')],
      ['the host, IPv6', A1_6, () => hostAsks('udp:[2001:db8:1::1]:53')],
      ['another network', A1, () => b1.ask('udp:192.0.2.1:53')],
      ['the same network', A1, () => a2.ask('udp:192.0.2.1:53')],
      ['itself', A1, () => a1.ask('udp:192.0.2.1:53')],
      ['a routed network', R1, () => lan2.ask('udp:10.3.0.11:53')],
      ['a trusted interface, straight to the container', A1, () => lan.ask('udp:10.1.0.11:53')],
    ];
    for (const [who, key, ask] of rows) t.equal(grows(key, ask), 1, who);
    t.equal(
      grows(A1, () => a2.ask('udp:10.1.0.11:53')),
      0,
      'a neighbour that needs no published port',
    );
    const before = counted(A1);
    t.equal(lan2.ask('udp:10.1.0.11:53'), 'nothing');
    t.equal(counted(A1), before, 'what is dropped is not counted');
    t.end();
  });
}

t.test(
  'replies are not counted, followers of a connection are; bytes are those of the IP packet',
  async (t) => {
    const bytes = () => firewall.counters().get(A1)?.bytes ?? NaN;
    const before = bytes();
    const asked = counted(A1);
    patiently(() => lan2.ask('udp:192.0.2.1:53'));
    t.equal(bytes() - before, 29 * (counted(A1) - asked));
    // SYN, ACK, the request, the FIN and the ACKs of what the server sends: the same as a capture of the client's packets.
    const tcp = '10.1.0.11 . tcp . 80';
    // Of the link itself other packets would be counted as well: neighbours ask for each other from time to time.
    sh(
      `nft 'table ip seen { chain c { type filter hook prerouting priority raw; iifname "lan20" tcp dport 8080 counter; }; }'`,
    );
    const sent = () => Number(/counter packets (\d+)/.exec(sh('nft list table ip seen'))?.[1]);
    const packets = counted(tcp);
    t.match(
      patiently(() => lan2.ask('tcp:192.0.2.1:8080')),
      'a1',
    );
    // The last of them may be under way when the client has ended.
    for (const end = Date.now() + 15_000; counted(tcp) - packets !== sent() && Date.now() < end;)
      await sleep(20);
    t.equal(counted(tcp) - packets, sent());
    t.ok(sent() >= 4);
    sh('nft delete table ip seen');
  },
);

t.test('counters are read as nft shows them, and are no difference of the table', async (t) => {
  const shown = sh('nft list set inet cnm open4');
  const { packets, bytes } = firewall.counters().get(A1) ?? { packets: NaN, bytes: NaN };
  t.match(shown, `10.1.0.11 . udp . 53 counter packets ${packets} bytes ${bytes}`);
  t.ok(packets > 10);
  t.equal(firewall.dump().elements?.get('open4')?.get(A1), '');
  firewall.change(ELEMENTS, []);
  t.equal(counted(A1), packets, 'adding what is there leaves its counter');
  t.equal(nftElements().open4?.length, 3);
  sh('nft delete table inet cnm');
  t.equal(firewall.counters().size, 0, 'no table');
  await firewall.prepare();
});
