import t from 'tap';
import { ip } from '../../address/ip.ts';
import { mac } from '../../address/mac.ts';
import { prefix } from '../../address/prefix.ts';
import type { HostSettings } from '../../cnm/driver.ts';
import { IPV6_DISABLED } from '../../cnm/families.ts';
import type { EndpointSpec, NetworkRecord, NetworkSpec } from '../../cnm/model.ts';
import { describe } from '../../kernel/describe.ts';
import { type FakeKernelOptions, fakeKernel } from '../../kernel/fake.ts';
import type { LinkAdd, Plan } from '../../kernel/step.ts';
import { overlay } from './index.ts';
import { networkSpec, subnet } from '../../tests/specs.ts';

const HOST: HostSettings = { netnsDir: '/run/cnm/netns' };

/** 192.0.2.1, with a default route. */
const UPLINK: FakeKernelOptions = {
  links: [{ name: 'eth0', addresses: [prefix('192.0.2.1/24'), prefix('2001:db8::1/64')] }],
  routes: [{ to: prefix('0.0.0.0/0'), via: ip('192.0.2.254'), link: 'eth0' }],
};

const spec = (
  options: Readonly<Record<string, string>> = {},
  changes: Partial<NetworkSpec> = {},
): NetworkSpec =>
  networkSpec('cnm-overlay', {
    id: '0123456789abcdef'.repeat(4),
    options: { vni: '4097', peers: '192.0.2.1,192.0.2.2,198.51.100.3', 'ip-range': 'any', ...options },
    ...changes,
  });

async function presence(network: NetworkSpec, host = UPLINK, settings = HOST): Promise<Plan> {
  return overlay.presence?.(network, await fakeKernel(host).facts(), settings) ?? [];
}

async function described(...args: Parameters<typeof presence>): Promise<readonly string[]> {
  const inside = 'nsenter --net=/run/cnm/netns/ov-0123456789ab ';
  const plan = await presence(...args);
  return plan.map((step) =>
    describe(step)
      .replace(inside, '')
      .replace(/ address \S+/, ''),
  );
}

async function tunnels(...args: Parameters<typeof presence>) {
  const links = (await presence(...args)).filter((step): step is LinkAdd => step.do === 'link.add');
  return links.flatMap(({ link, mtu }) => (link.kind === 'vxlan' ? [{ ...link, mtu }] : []));
}

const endpoint: EndpointSpec & { mac: ReturnType<typeof mac> } = {
  id: 'e1'.repeat(32),
  network: spec().id,
  address: prefix('10.1.0.2/24'),
  mac: mac('02:42:0a:01:00:02'),
  options: {},
  ports: [],
};

t.test('a network by itself is nothing; a host with an endpoint has a bridge and a tunnel', async (t) => {
  t.same(overlay.network(spec(), await fakeKernel(UPLINK).facts(), []), []);
  t.same(await described(spec()), [
    'ip netns add /run/cnm/netns/ov-0123456789ab',
    'ip link add br0 mtu 1450 type bridge',
    'ip addr add 10.1.0.1/24 dev br0',
    'ip link add vx0 mtu 1450 type vxlan id 4097 local 192.0.2.1 dstport 4789 learning',
    'ip link set vx0 master br0 && bridge link set dev vx0 neigh_suppress on',
    'bridge fdb append 00:00:00:00:00:00 dev vx0 dst 192.0.2.2',
    'bridge fdb append 00:00:00:00:00:00 dev vx0 dst 198.51.100.3',
    'ip link set vx0 up',
    'ip link set br0 up',
  ]);
});

t.test('an endpoint is a veth pair: one end in the network’s namespace, one at home', async (t) => {
  const network = { ...spec(), presence: await presence(spec()) };
  const inside = 'nsenter --net=/run/cnm/netns/ov-0123456789ab ';
  const { srcName } = overlay.join(network, endpoint);
  const outer = srcName.replace(/c$/, 'h');
  t.same(overlay.endpoint(network, endpoint).map(describe), [
    `${inside}ip link add ${outer} mtu 1450 type veth peer name ${srcName} netns HOME`,
    `${inside}ip link set ${outer} master br0`,
    `${inside}ip link set ${outer} up`,
    `${inside}announce 10.1.0.2 at 02:42:0a:01:00:02 on br0`,
    `${inside}announce 10.1.0.2 at 02:42:0a:01:00:02 on vx0`,
  ]);
});

t.test('several subnets: a segment each, a way between them, IPv6 with the IPv4 of its place', async (t) => {
  const several = spec(
    { vni: '7001,7002' },
    {
      enableIpv6: true,
      // In whatever order Docker hands them over.
      ipv4: [subnet('11.1.1.0/24', '11.1.1.1/24'), subnet('10.1.1.0/24', '10.1.1.1/24')],
      ipv6: [subnet('fd00:a::/64', 'fd00:a::1/64'), subnet('fd00:b::/64', 'fd00:b::1/64')],
    },
  );
  const plan = await described(several);
  for (const step of [
    'sysctl -w net.ipv4.ip_forward=1',
    'sysctl -w net.ipv6.conf.all.forwarding=1',
    'ip addr add 10.1.1.1/24 dev br0',
    'ip addr add fd00:a::1/64 dev br0',
    'ip addr add 11.1.1.1/24 dev br1',
    'ip addr add fd00:b::1/64 dev br1',
    'sysctl -w net.ipv6.conf.br1.accept_ra=0',
  ])
    t.ok(plan.includes(step), step);
  t.match(await tunnels(several), [{ vni: 7001 }, { vni: 7002 }]);
  const other: EndpointSpec = {
    ...endpoint,
    address: prefix('11.1.1.5/24'),
    addressV6: prefix('fd00:b::5/64'),
  };
  t.match(overlay.join(several, other), {
    routes: [
      { destination: '10.1.1.0/24', nextHop: '11.1.1.1' },
      { destination: 'fd00:a::/64', nextHop: 'fd00:b::1' },
    ],
    disableGatewayService: false,
  });
  const onlyV4: EndpointSpec = { ...endpoint, address: prefix('10.1.1.5/24') };
  t.same(overlay.join(several, onlyV4).routes, [{ destination: '11.1.1.0/24', nextHop: '10.1.1.1' }]);
  t.same(overlay.join(spec(), endpoint).routes, []);
});

t.test('no gateway, so that Docker gives docker_gwbridge; none of that either with --internal', (t) => {
  const info = overlay.join(spec(), endpoint);
  t.notOk('gateway' in info || 'gatewayV6' in info);
  t.equal(info.disableGatewayService, false);
  t.equal(overlay.join(spec({}, { internal: true }), endpoint).disableGatewayService, true);
  t.end();
});

t.test('the source address', async (t) => {
  const two: FakeKernelOptions = {
    links: [
      { name: 'eth0', addresses: [prefix('192.0.2.1/24'), prefix('203.0.113.1/24')] },
      { name: 'eth1', addresses: [prefix('198.51.100.1/24')] },
    ],
  };
  const local = async (o: Record<string, string>, settings: Partial<HostSettings> = {}) =>
    (await tunnels(spec(o), two, { ...HOST, ...settings }))[0]?.local;
  t.equal(await local({ peers: '203.0.113.9' }), '203.0.113.1', 'of the subnet of the next hop');
  t.equal(await local({ peers: '198.51.100.9,192.0.2.9' }), '198.51.100.1', 'to the first peer');
  t.equal(
    await local({ peers: '198.51.100.9,192.0.2.1' }),
    '192.0.2.1',
    'the one in the list is this host’s',
  );
  t.equal(
    await local({ peers: '192.0.2.9' }, { advertise: ip('198.51.100.1') }),
    '198.51.100.1',
    'as cnmd was told',
  );
  t.equal(
    await local({ peers: '192.0.2.9' }, { advertise: ip('2001:db8::1') }),
    '192.0.2.1',
    'of the peers’ family',
  );
  const told = { advertise: ip('198.51.100.1') };
  t.equal(
    await local({ peers: '192.0.2.9', advertise: '203.0.113.1' }, told),
    '203.0.113.1',
    'as the network was told',
  );
  await t.rejects(local({ peers: '192.0.2.9' }, { advertise: ip('192.0.2.77') }), {
    code: 'option-invalid',
    message: /advertise cannot be 192\.0\.2\.77.*it has .*192\.0\.2\.1/,
  });
  await t.rejects(local({ peers: '8.8.8.8' }), { message: /no route to it; see ip route get 8\.8\.8\.8/ });
  const bare: FakeKernelOptions = {
    links: [{ name: 'eth0' }],
    routes: [{ to: prefix('0.0.0.0/0'), link: 'eth0' }],
  };
  await t.rejects(presence(spec({ peers: '192.0.2.9' }), bare), { message: /no IPv4 address on eth0/ });
});

t.test('the MTU: of the narrowest way to a peer, less 50, or 70 over IPv6; or as told', async (t) => {
  const links = (mtu0: number, mtu1: number): FakeKernelOptions => ({
    links: [
      { name: 'eth0', mtu: mtu0, addresses: [prefix('192.0.2.1/24'), prefix('2001:db8::1/64')] },
      { name: 'eth1', mtu: mtu1, addresses: [prefix('198.51.100.1/24')] },
    ],
  });
  const mtu = async (host: FakeKernelOptions, o: Record<string, string> = {}) =>
    (await tunnels(spec(o), host))[0]?.mtu;
  t.equal(await mtu(links(1500, 1500)), 1450);
  t.equal(await mtu(links(9000, 1400)), 1350, 'the narrowest counts');
  t.equal(await mtu(links(9000, 9000)), 8950, 'jumbo frames');
  t.equal(await mtu(links(9000, 1400), { peers: '192.0.2.2' }), 8950, 'no peer is behind the narrow one');
  t.equal(await mtu(links(9000, 1400), { peers: '192.0.2.1' }), 8950, 'no peer yet: of its own link');
  t.equal(await mtu(links(1500, 1500), { peers: '2001:db8::2' }), 1430, 'IPv6 below');
  t.equal(
    await mtu(links(9000, 9000), { 'com.docker.network.driver.mtu': '1400' }),
    1350,
    'as Docker has it',
  );
  const v6 = spec(
    { 'com.docker.network.driver.mtu': '1300' },
    { enableIpv6: true, ipv6: [subnet('fd00::/64', 'fd00::1/64')] },
  );
  await t.rejects(presence(v6), { code: 'option-invalid', message: /1300.*leaves 1250.*IPv6 needs 1280/ });
});

t.test('the options that are about names', async (t) => {
  const same = await described(spec());
  for (const dns of ['gateway', 'on', 'off']) t.same(await described(spec({ dns })), same, dns);
  await t.rejects(presence(spec({ dns: 'yes' })), /dns cannot be "yes": .*gateway, on, off/);
  await t.rejects(presence(spec({ 'dns.servers': 'ns.example' })), /cannot be "ns\.example": .*10\.0\.0\.53/);
});

t.test('O04 a VNI of another network’s, or of a stranger’s link', async (t) => {
  const facts = await fakeKernel(UPLINK).facts();
  const other: NetworkRecord = {
    ...spec({ vni: '4096,4097' }),
    id: 'f'.repeat(64),
    name: 'other',
    state: 'ready',
    createdAt: '',
    plan: [],
  };
  t.throws(() => overlay.network(spec(), facts, [other]), {
    code: 'network-conflict',
    message: 'VNI 4097 on UDP port 4789 belongs to network other already; give this one another',
  });
  t.same(overlay.network(spec({ port: '8472' }), facts, [other]), [], 'on another port it is another');
  t.same(overlay.network(spec(), facts, [{ ...other, id: spec().id }]), [], 'its own is its own');
  const bridge = { ...other, driver: 'cnm-bridge', options: {} };
  t.same(overlay.network(spec(), facts, [bridge]), []);

  const vxlan = { vni: 4097, port: 4789, learning: true };
  const stranger = {
    name: 'vx9',
    index: 9,
    kind: 'vxlan',
    mtu: 1450,
    up: true,
    carrier: true,
    promisc: false,
    promiscuity: 0,
    vxlan,
  };
  const host = { ...facts.host, links: new Map([...facts.host.links, ['vx9', stranger]]) };
  t.throws(() => overlay.network(spec(), { ...facts, host }, []), { message: /taken by the link vx9/ });
});

t.test('MACs: one for an address, wherever its container is', (t) => {
  t.equal(overlay.mac(spec(), endpoint), '02:42:0a:01:00:02');
  const six: EndpointSpec = {
    id: 'x',
    network: 'n',
    addressV6: prefix('fd00::2/64'),
    options: {},
    ports: [],
  };
  const elsewhere = { ...spec(), id: 'd'.repeat(64) };
  t.equal(overlay.mac(spec(), six), overlay.mac(elsewhere, { ...six, id: 'y' }), 'on another host, too');
  t.not(overlay.mac(spec(), six), overlay.mac(spec({ vni: '9' }), six));
  t.end();
});

t.test('IPv6 that is switched off on the host', async (t) => {
  const facts = await fakeKernel({ ...UPLINK, sysctls: { [IPV6_DISABLED]: '1' } }).facts({
    sysctls: [IPV6_DISABLED],
  });
  const six = spec({}, { enableIpv6: true, ipv6: [subnet('fd00::/64', 'fd00::1/64')] });
  t.throws(() => overlay.network(six, facts, []), { message: /IPv6 is switched off/ });
  t.same(overlay.network(spec(), facts, []), []);
});
