/**
 * What our table does to packets, seen by the machines that send and receive them.
 *
 *   a1 a2   b1      i1 i2     x1
 *    ╲╱     │        ╲╱       │
 *   cnm-a  cnm-b   cnm-i   strange        our networks (cnm-i is internal), and a bridge that is not ours
 *     ╰──────┴── host ─┴──────╯
 *              │     │
 *             lan   lan2                  192.0.2.0/24 and 198.51.100.0/24
 *
 * 10.N.0.0/24 and fd00:N::/64 for N = 1 (a), 2 (b), 3 (i), 4 (strange). `lan` has routes straight to our subnets.
 */
import { closeSync } from 'node:fs';
import koffi from 'koffi';
import t from 'tap';
import { SET_NAMES } from '../../kernel/sets.ts';
import {
  addBridge,
  capture,
  hostReaches,
  leftovers,
  networkElements,
  nftElements,
  openWorld,
  patiently,
  sh,
} from './world.ts';

const world = await openWorld('packets');
const { firewall, machine, sys } = world;
t.teardown(() => {
  world.close();
  if (leftovers('packets').length > 0) throw new Error('namespaces are left');
});

for (const [n, bridge] of ['cnm-a', 'cnm-b', 'cnm-i', 'strange'].entries()) {
  addBridge(bridge, [`10.${n + 1}.0.1/24`, `fd00:${n + 1}::1/64`]);
}
const on = (bridge: string, name: string, n: number, host: number): ReturnType<typeof machine> =>
  machine(name, {
    bridge,
    addresses: [`10.${n}.0.${host}/24`, `fd00:${n}::${host}/64`],
    via: [`10.${n}.0.1`, `fd00:${n}::1`],
  });
const a1 = on('cnm-a', 'a1', 1, 11);
const a2 = on('cnm-a', 'a2', 1, 12);
const b1 = on('cnm-b', 'b1', 2, 11);
const i1 = on('cnm-i', 'i1', 3, 11);
const i2 = on('cnm-i', 'i2', 3, 12);
const x1 = on('strange', 'x1', 4, 11);
const lan = machine('lan', {
  hostLink: 'lan0',
  hostAddresses: ['192.0.2.1/24', '2001:db8:1::1/64'],
  addresses: ['192.0.2.2/24', '2001:db8:1::2/64'],
  via: ['192.0.2.1', '2001:db8:1::1'],
});
const lan2 = machine('lan2', {
  hostLink: 'lan1',
  hostAddresses: ['198.51.100.1/24', '2001:db8:2::1/64'],
  addresses: ['198.51.100.2/24', '2001:db8:2::2/64'],
  via: ['198.51.100.1', '2001:db8:2::1'],
});
sh(`
  sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
  sysctl -q -w net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1
`);

const others = (): string[] =>
  [
    ['lan', 'lan2', lan.reaches('198.51.100.2') && lan.reaches('2001:db8:2::2')],
    ['lan2', 'lan', lan2.reaches('192.0.2.2') && lan2.reaches('2001:db8:1::2')],
    ['x1', 'lan', x1.reaches('192.0.2.2') && x1.reaches('2001:db8:1::2')],
    ['lan', 'x1', lan.reaches('10.4.0.11') && lan.reaches('fd00:4::11')],
  ].flatMap(([from, to, ok]) => (ok === true ? [] : [`${String(from)} to ${String(to)}`]));

t.test('without our table everything reaches everything: what follows is our doing', (t) => {
  // Neighbours are being found and IPv6 addresses are new: the first echo may get lost.
  for (let attempt = 0; attempt < 5 && others().length > 0; attempt += 1);
  t.same(others(), []);
  t.ok(a1.reaches('10.2.0.11') && i1.reaches('192.0.2.2') && lan.reaches('10.1.0.11'));
  t.end();
});

t.test('the table and our networks are loaded', async (t) => {
  await firewall.prepare();
  firewall.change(
    [
      ...networkElements('cnm-a'),
      ...networkElements('cnm-b'),
      ...networkElements('cnm-i', ['bridges', 'internal']),
    ],
    [],
  );
  t.same(Object.keys(nftElements()).sort(), [...SET_NAMES].sort());
});

t.test('inside a network, also with frames handed to the IP firewall', (t) => {
  for (const [from, to] of [
    [a1, '10.1.0.12'],
    [a1, 'fd00:1::12'],
    [i1, '10.3.0.12'],
    [i2, 'fd00:3::11'],
  ] as const) {
    t.ok(from.reaches(to), to);
  }
  firewall.change([], [{ set: 'same_bridge', key: ['cnm-a', 'cnm-a'] }]);
  t.notOk(a1.reaches('10.1.0.12'), 'without the pair the frames do come by our chain, and go no further');
  firewall.change(networkElements('cnm-a'), []);
  t.end();
});

t.test('the host and its containers', (t) => {
  for (const address of ['10.1.0.11', 'fd00:1::11', '10.2.0.11', '10.3.0.11', 'fd00:3::11']) {
    t.ok(hostReaches(address), `host to ${address}`);
  }
  t.ok(a1.reaches('10.1.0.1') && a1.reaches('fd00:1::1'), 'a container and its gateway');
  t.ok(i1.reaches('10.3.0.1') && i1.reaches('fd00:3::1'), 'on an internal network too');
  t.end();
});

t.test('networks are isolated from each other, from Docker’s bridges and from the LAN', (t) => {
  const refused = [
    ['a1 to b1', a1, ['10.2.0.11', 'fd00:2::11']],
    ['b1 to a1', b1, ['10.1.0.11', 'fd00:1::11']],
    ['x1 to a1', x1, ['10.1.0.11', 'fd00:1::11']],
    ['lan to a1', lan, ['10.1.0.11', 'fd00:1::11']],
  ] as const;
  for (const [what, from, addresses] of refused) {
    for (const address of addresses) t.notOk(from.reaches(address), `${what}: ${address}`);
  }
  t.end();
});

t.test('an internal network has no way out and none in, whatever routes there are', (t) => {
  for (const address of ['192.0.2.2', '2001:db8:1::2', '10.1.0.11', '10.4.0.11']) {
    t.notOk(i1.reaches(address), `i1 to ${address}`);
  }
  for (const from of [a1, x1, lan]) t.notOk(from.reaches('10.3.0.11') || from.reaches('fd00:3::11'));
  t.end();
});

t.test('the LAN sees the host’s address', async (t) => {
  const v4 = await capture(lan, 'icmp[icmptype] == icmp-echo', () => t.ok(a1.reaches('192.0.2.2')));
  t.match(v4, /IP 192\.0\.2\.1 > 192\.0\.2\.2: ICMP echo request/);
  const v6 = await capture(lan, 'icmp6 and ip6[40] == 128', () => t.ok(a1.reaches('2001:db8:1::2')));
  t.match(v6, /IP6 2001:db8:1::1 > 2001:db8:1::2: ICMP6, echo request/);
});

t.test('without masquerade it sees the container’s own address', async (t) => {
  const elements = (['masquerade4', 'masquerade6'] as const).map((set) => ({ set, key: ['cnm-b'] }));
  firewall.change([], elements);
  const v4 = await capture(lan, 'icmp[icmptype] == icmp-echo', () => t.ok(b1.reaches('192.0.2.2')));
  t.match(v4, /IP 10\.2\.0\.11 > 192\.0\.2\.2/);
  const v6 = await capture(lan, 'icmp6 and ip6[40] == 128', () => t.ok(b1.reaches('2001:db8:1::2')));
  t.match(v6, /IP6 fd00:2::11 > 2001:db8:1::2/);
  firewall.change(elements, []);
});

t.test('a peer in the same network, and the host, see the real source', async (t) => {
  const peer = await capture(a2, 'icmp[icmptype] == icmp-echo', () => t.ok(a1.reaches('10.1.0.12')));
  t.match(peer, /IP 10\.1\.0\.11 > 10\.1\.0\.12/);
  const fromHost = await capture(a1, 'icmp[icmptype] == icmp-echo', () => t.ok(hostReaches('10.1.0.11')));
  t.match(fromHost, /IP 10\.1\.0\.1 > 10\.1\.0\.11/);
});

t.test('multicast that the host routes keeps its source', async (t) => {
  const close = routeMulticast(sys, 'cnm-a', 'lan0', '10.1.0.11', '239.1.2.3');
  const send = (): void =>
    void a1.run('socat -u EXEC:"echo hello" UDP4-DATAGRAM:239.1.2.3:5000,ip-multicast-ttl=8');
  const seen = await capture(lan, 'udp and dst host 239.1.2.3', send);
  close();
  t.match(seen, /IP 10\.1\.0\.11\.\d+ > 239\.1\.2\.3\.5000/);
});

t.test('a translated destination is a published port, and only that', (t) => {
  sh(`nft '
    table ip published {
      chain prerouting {
        type nat hook prerouting priority dstnat;
        ip daddr 192.0.2.1 tcp dport 8080 dnat to 10.1.0.11:80
        ip daddr 192.0.2.1 tcp dport 8081 dnat to 10.3.0.11:80
      }
    }'`);
  const serve = 'socat TCP-LISTEN:80,fork,reuseaddr SYSTEM:"echo served" < /dev/null > /dev/null 2>&1 &';
  for (const { netns } of [a1, i1])
    sh(`ip netns exec ${netns} ${serve} for i in $(seq 200); do
      if ip netns exec ${netns} ss -Hltn | grep -q ':80 '; then break; fi; sleep 0.1
    done`);
  const ask = (from: typeof lan, address: string): string => {
    try {
      return from.run(`socat -T 1 - TCP:${address},connect-timeout=1`).trim();
    } catch {
      return 'nothing';
    }
  };
  for (const [from, whence] of [
    [lan, 'from the LAN'],
    [b1, 'from another network of ours'],
  ] as const)
    t.equal(
      patiently(() => ask(from, '192.0.2.1:8080')),
      'served',
      whence,
    );
  t.equal(ask(lan, '10.1.0.11:80'), 'nothing', 'not straight');
  t.equal(ask(lan, '192.0.2.1:8081'), 'nothing', 'not into an internal network');
  for (const { netns } of [a1, i1]) sh(`ip netns pids ${netns} | xargs -r kill`);
  sh('nft delete table ip published');
  t.end();
});

t.test('packets that touch no bridge of ours are nobody’s business of ours', (t) => {
  t.same(others(), []);
  t.end();
});

t.test('a network that is gone leaves no trace: its bridge is a stranger again', (t) => {
  firewall.change([], networkElements('cnm-a'));
  t.ok(lan.reaches('10.1.0.11'));
  t.end();
});

/**
 * One multicast route, by the kernel's own interface (linux/mroute.h): there is no program for it in iproute2.
 * Returns what ends it.
 */
function routeMulticast(
  sys: typeof world.sys,
  from: string,
  to: string,
  source: string,
  group: string,
): () => void {
  const [IPPROTO_IP, IPPROTO_IGMP, MRT_INIT, MRT_ADD_VIF, MRT_ADD_MFC, VIFF_USE_IFINDEX] = [
    0, 2, 200, 202, 204, 8,
  ];
  const setsockopt = koffi.load('libc.so.6').func('int setsockopt(int, int, int, const void *, uint32_t)');
  const fd = sys.socket(2, 3, IPPROTO_IGMP);
  sys.setsockopt(fd, IPPROTO_IP, MRT_INIT, 1);
  for (const [index, link] of [from, to].entries()) {
    // struct vifctl: vif, flags, threshold, rate limit, interface index, remote.
    const vif = Buffer.alloc(16);
    vif.writeUInt16LE(index, 0);
    vif.writeUInt8(VIFF_USE_IFINDEX, 2);
    vif.writeUInt8(1, 3);
    vif.writeInt32LE(
      Number(sh(`cat /sys/class/net/${link}/ifindex 2>/dev/null || ip -o link show ${link} | cut -d: -f1`)),
      8,
    );
    if (setsockopt(fd, IPPROTO_IP, MRT_ADD_VIF, vif, vif.length) !== 0) throw new Error('MRT_ADD_VIF');
  }
  // struct mfcctl: origin, group, incoming vif, a TTL per outgoing vif.
  const mfc = Buffer.alloc(60);
  mfc.set(source.split('.').map(Number), 0);
  mfc.set(group.split('.').map(Number), 4);
  mfc.writeUInt8(1, 10 + 1);
  if (setsockopt(fd, IPPROTO_IP, MRT_ADD_MFC, mfc, mfc.length) !== 0) throw new Error('MRT_ADD_MFC');
  return () => {
    closeSync(fd);
  };
}
