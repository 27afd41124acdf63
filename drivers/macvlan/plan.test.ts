import t from 'tap';
import { mac } from '../../address/mac.ts';
import { prefix } from '../../address/prefix.ts';
import { SHARED } from '../../cnm/driver.ts';
import type { EndpointSpec, NetworkRecord, NetworkSpec } from '../../cnm/model.ts';
import { describe } from '../../kernel/describe.ts';
import { type FakeKernel, fakeKernel } from '../../kernel/fake.ts';
import type { StrangerLink } from '../../kernel/fake.ts';
import type { LinkAdd } from '../../kernel/step.ts';
import { macvlan } from './index.ts';
import { endpointSpec, networkSpec, subnet } from '../../tests/specs.ts';

const spec = (options: Readonly<Record<string, string>>, changes: Partial<NetworkSpec> = {}): NetworkSpec =>
  networkSpec('cnm-macvlan', {
    id: '0123456789abcdef'.repeat(4),
    options,
    ipv4: [subnet('10.1.0.0/24')],
    ...changes,
  });

const NIC: StrangerLink = { name: 'eth0', mac: mac('52:54:00:00:00:01') };
const LONG: StrangerLink = { name: 'enp0s31f6np1s0', mac: mac('52:54:00:00:00:02') };
const VLAN5 = { kind: 'vlan', parent: 'eth0', id: 5, protocol: '802.1q' } as const;

function host(...more: readonly StrangerLink[]): FakeKernel {
  return fakeKernel({ links: [NIC, LONG, ...more] });
}

async function described(
  kernel: FakeKernel,
  options: Readonly<Record<string, string>>,
): Promise<readonly string[]> {
  return macvlan.network(spec(options), await kernel.facts(), []).map(describe);
}

async function refusal(
  kernel: FakeKernel,
  options: Readonly<Record<string, string>>,
  others: readonly NetworkRecord[] = [],
): Promise<string> {
  const facts = await kernel.facts();
  try {
    macvlan.network(spec(options), facts, others);
  } catch (error) {
    return error instanceof Error ? error.message : '';
  }
  return '';
}

/** The commands that make a VLAN. */
function vlan(name: string, parent: string, id: number, protocol = '802.1q'): readonly string[] {
  return [
    `ip link add link ${parent} ${name} type vlan protocol ${protocol} id ${id}`,
    `ip link set ${name} up`,
  ];
}

t.test('what is made for a parent', async (t) => {
  const user5 = { name: 'eth0.5', link: VLAN5, mac: mac('52:54:00:00:00:01') };
  const cases: readonly [name: string, FakeKernel, Record<string, string>, readonly string[]][] = [
    ['an interface that is there', host(), { parent: 'eth0' }, []],
    ['a VLAN in its name', host(), { parent: 'eth0.100' }, vlan('eth0.100', 'eth0', 100)],
    ['a VLAN beside it', host(), { parent: 'eth0', vlan: '100' }, vlan('eth0.100', 'eth0', 100)],
    ['the first and the last', host(), { parent: 'eth0.1' }, vlan('eth0.1', 'eth0', 1)],
    ['', host(), { parent: 'eth0.4094' }, vlan('eth0.4094', 'eth0', 4094)],
    [
      'VLANs within VLANs',
      host(),
      { parent: 'eth0.10.100' },
      [...vlan('eth0.10', 'eth0', 10), ...vlan('eth0.10.100', 'eth0.10', 100)],
    ],
    [
      'both ways of saying it',
      host(),
      { parent: 'eth0.10', vlan: '100' },
      [...vlan('eth0.10', 'eth0', 10), ...vlan('eth0.10.100', 'eth0.10', 100)],
    ],
    [
      'a provider’s tag outside',
      host(),
      { parent: 'eth0.10.100', vlan_protocol: '802.1ad,802.1q' },
      [...vlan('eth0.10', 'eth0', 10, '802.1ad'), ...vlan('eth0.10.100', 'eth0.10', 100)],
    ],
    [
      'one protocol is the outermost’s',
      host(),
      { parent: 'eth0.100', vlan_protocol: '802.1AD' },
      vlan('eth0.100', 'eth0', 100, '802.1ad'),
    ],
    ['a VLAN of the user’s', host(user5), { parent: 'eth0.5' }, []],
    ['the same said otherwise', host(user5), { parent: 'eth0', vlan: '5' }, []],
    ['one within it', host(user5), { parent: 'eth0.5.6' }, vlan('eth0.5.6', 'eth0.5', 6)],
    ['a VLAN of the user’s under a name of his', host({ ...user5, name: 'dmz' }), { parent: 'dmz' }, []],
    ['an interface with a dot', host({ ...NIC, name: 'lan.x' }), { parent: 'lan.x' }, []],
    ['and its VLAN', host({ ...NIC, name: 'lan.x' }), { parent: 'lan.x.7' }, vlan('lan.x.7', 'lan.x', 7)],
    ['a bridge', host({ ...NIC, name: 'br0', kind: 'bridge' }), { parent: 'br0' }, []],
    ['a bond', host({ ...NIC, name: 'bond0', kind: 'bond' }), { parent: 'bond0' }, []],
    [
      'a VLAN of an interface that is a port',
      host({ ...NIC, name: 'br0', kind: 'bridge' }, { ...NIC, name: 'eth7', master: 'br0' }),
      { parent: 'eth7.3' },
      vlan('eth7.3', 'eth7', 3),
    ],
  ];
  for (const [name, kernel, options, wanted] of cases)
    t.same(await described(kernel, options), wanted, `${name} ${JSON.stringify(options)}`);
});

t.test('a name that would be too long is a short one of ours', async (t) => {
  const [add, up] = macvlan.network(spec({ parent: LONG.name, vlan: '100' }), await host().facts(), []);
  t.match(add, { do: 'link.add', link: { kind: 'vlan', parent: LONG.name, id: 100 }, mark: SHARED });
  const { name } = add as LinkAdd;
  t.match(name, /^cnmv[0-9a-z]{10}$/);
  t.same(up, { do: 'link.up', link: name });
  const twin = macvlan.network(spec({ parent: LONG.name, vlan: '101' }), await host().facts(), []);
  t.not((twin[0] as LinkAdd).name, name);
});

t.test('the host has no IPv6 on a VLAN that it made for containers', async (t) => {
  const kernel = host();
  const facts = await kernel.facts({ sysctls: ['net.ipv6.conf.all.disable_ipv6'] });
  const plan = macvlan.network(spec({ parent: 'eth0.100' }), facts, []);
  t.same(plan[1], { do: 'sysctl.set', key: 'net.ipv6.conf.eth0/100.disable_ipv6', value: '1', keep: true });
  await kernel.apply(plan);
});

t.test('VLANs that stand in the way', async (t) => {
  const dmz = { name: 'dmz', link: VLAN5, mac: mac('52:54:00:00:00:01') };
  t.equal(
    await refusal(host(dmz), { parent: 'eth0.5' }),
    'VLAN 5 of eth0 is there already, as dmz: use parent=dmz',
  );
  t.equal(
    await refusal(host({ ...NIC, name: 'eth0.6' }), { parent: 'eth0', vlan: '6' }),
    'Interface eth0.6 is there already and is not VLAN 6 of eth0 (it is a physical device); name it as parent= if you mean it',
  );
  const kernel = host();
  await kernel.apply(macvlan.network(spec({ parent: 'eth0.8' }), await kernel.facts(), []));
  t.match(
    await refusal(kernel, { parent: 'eth0.8', vlan_protocol: '802.1ad' }),
    /VLAN interface eth0\.8 is there already with 802\.1q; this network wants 802\.1ad/,
  );
  t.match(
    await refusal(host(dmz), { parent: 'dmz', vlan_protocol: '802.1ad' }),
    /names 1 \(802\.1ad\), but there are 0 VLANs to make on dmz/,
  );
});

const record = (
  id: string,
  options: Record<string, string>,
  pool: string,
  more: Partial<NetworkRecord> = {},
): NetworkRecord => ({
  ...spec(options, { id: id.repeat(64), name: `net-${id}`, ipv4: [subnet(pool)] }),
  state: 'ready',
  createdAt: '',
  plan: [],
  ...more,
});

t.test('who shares a parent with whom', async (t) => {
  const at = '10.2.0.0/24';
  const bridge = record('b', { parent: 'eth0' }, at);
  const passthru = record('c', { parent: 'eth0', macvlan_mode: 'passthru' }, at);
  const own = { parent: 'eth0', macvlan_mode: 'passthru' };
  t.equal(await refusal(host(), { parent: 'eth0', macvlan_mode: 'vepa' }, [bridge]), '', 'M05');
  t.match(await refusal(host(), own, [bridge]), /Parent eth0 is used by network net-b already/);
  t.match(await refusal(host(), own, [passthru]), /Parent eth0 is used by network net-c already/);
  t.match(await refusal(host(), { parent: 'eth0' }, [passthru]), /passed through to network net-c already/);
  t.equal(await refusal(host(), { parent: 'eth0.9' }, [passthru]), '', 'another VLAN is another wire');
  const theirs = { kind: 'macvlan', parent: 'eth0', mode: 'bridge' } as const;
  const stranger = host({ name: 'mv0', link: theirs, mac: mac('52:54:00:00:00:09') });
  t.match(await refusal(stranger, own), /carries the macvlan link mv0 \(mode bridge\), which is not ours/);
  t.equal(await refusal(stranger, { parent: 'eth0' }), '');
});

t.test('subnets are judged on each wire', async (t) => {
  const same = '10.1.0.0/24';
  const clash = /Subnet 10\.1\.0\.0\/24 overlaps a subnet of network net-b, which is on eth0 too/;
  t.match(await refusal(host(), { parent: 'eth0' }, [record('b', { parent: 'eth0' }, '10.1.0.0/16')]), clash);
  t.equal(await refusal(host(), { parent: 'eth0' }, [record('b', { parent: 'eth0.4' }, same)]), '');
  t.equal(await refusal(host(), { parent: 'eth0', vlan: '4' }, [record('b', { parent: 'eth0' }, same)]), '');
  t.match(
    await refusal(host(), { parent: 'eth0', vlan: '4' }, [record('b', { parent: 'eth0.4' }, '10.1.0.0/25')]),
    /which is on eth0\.4 too/,
  );
  t.equal(
    await refusal(host(), { parent: 'eth0' }, [record('b', { parent: 'eth0' }, same)]),
    '',
    'M11 the same pool of one IPAM, which keeps its ranges apart',
  );
  const other = { ...subnet(same), addressSpace: 'another' };
  t.match(
    await refusal(host(), { parent: 'eth0' }, [record('b', { parent: 'eth0' }, same, { ipv4: [other] })]),
    clash,
  );
  const onHost = {
    driver: 'cnm-bridge',
    plan: [{ do: 'addr.add', link: 'br', prefix: prefix('10.1.0.1/24') } as const],
  };
  t.match(
    await refusal(host(), { parent: 'eth0' }, [record('b', {}, same, onHost)]),
    /overlaps a subnet of network net-b:/,
  );
  t.equal(await refusal(host(), { parent: 'eth0' }, [record('b', {}, same, { ...onHost, plan: [] })]), '');
});

t.test('an endpoint is one macvlan link, made from the options alone', (t) => {
  const endpoint: EndpointSpec & { readonly mac: ReturnType<typeof mac> } = {
    id: 'e1'.repeat(32),
    network: spec({}).id,
    address: prefix('10.1.0.2/24'),
    mac: mac('02:42:0a:01:00:02'),
    options: {},
    ports: [],
  };
  const command = (options: Record<string, string>) =>
    macvlan.endpoint(spec({ ...options, probe: 'off' }), endpoint).map(describe);
  const [plain = ''] = command({ parent: 'eth0' });
  t.match(
    plain,
    /^ip link add link eth0 cnmm[0-9a-z]{10} address 02:42:0a:01:00:02 type macvlan mode bridge$/,
  );
  t.match(
    command({ parent: 'eth0', vlan: '7', macvlan_mode: 'private' })[0],
    / link eth0\.7 .* mode private$/,
  );
  t.match(command({ parent: 'eth0', 'com.docker.network.driver.mtu': '1400' })[0], / mtu 1400 /);
  t.match(
    command({ parent: 'eth0', macvlan_mode: 'passthru', macvlan_flag: 'nopromisc' })[0],
    /cnmm\w+ type macvlan mode passthru nopromisc$/,
    'its MAC is the parent’s',
  );
  t.match(command({})[0], /^ip link add link cnmp[0-9a-z]{10} cnmm/);
  t.equal(command({ parent: 'eth0' }).at(-1), 'announce 10.1.0.2 at 02:42:0a:01:00:02 on eth0');
  t.end();
});

t.test('the MAC: of a name where one is known, of an address, of an endpoint', (t) => {
  const network = spec({ parent: 'eth0' });
  const one: EndpointSpec = { id: 'e1'.repeat(32), network: network.id, options: {}, ports: [] };
  const [address, another] = [prefix('10.1.0.2/24'), 'e2'.repeat(32)];
  const of = (endpoint: EndpointSpec) => macvlan.mac(network, endpoint);
  t.equal(
    of({ ...one, name: 'web', address }),
    of({ ...one, id: another, name: 'web' }),
    'made anew, elsewhere',
  );
  t.not(of({ ...one, name: 'web', address }), of({ ...one, name: 'db', address }));
  t.equal(of({ ...one, address }), mac('02:42:0a:01:00:02'));
  t.equal(
    of({ ...one, addressV6: prefix('fd00::2/64') }),
    of({ ...one, id: another, addressV6: prefix('fd00::2/64') }),
  );
  t.not(of(one), of({ ...one, id: another }));
  t.end();
});

t.test('what inspection shows', async (t) => {
  const kernel = host();
  const nested = spec({ parent: 'eth0.10', vlan: '100', vlan_protocol: '802.1ad', macvlan_mode: 'private' });
  await kernel.apply(macvlan.network(nested, await kernel.facts(), []));
  t.same(macvlan.appearance?.(nested, await kernel.facts()), {
    device: 'eth0.10.100',
    fields: [
      ['parent', 'eth0.10.100'],
      ['vlan', '100 (802.1q) on eth0.10'],
      ['vlan', '10 (802.1ad) on eth0'],
      ['mode', 'private'],
      ['promiscuous', 'no'],
    ],
    warnings: [],
  });
  const none = macvlan.appearance?.(spec({}), await kernel.facts());
  t.same(none?.fields, [
    ['parent', 'none: it leads nowhere'],
    ['mode', 'bridge'],
  ]);
});

t.test('ports are published on the container’s own address; none where nobody comes in', (t) => {
  const ports = [{ proto: 6, port: 80, hostPort: 8080, hostPortEnd: 8080 }];
  const endpoint: EndpointSpec = {
    id: 'e',
    network: 'n',
    address: prefix('10.1.0.2/24'),
    options: {},
    ports,
  };
  const requests = (network: NetworkSpec) => macvlan.publishing?.requests(network, endpoint, ports);
  t.same(requests(spec({ parent: 'eth0' })), [
    { proto: 6, port: 80, targets: [{ ip: '10.1.0.2' }], from: 0, to: 0 },
  ]);
  t.same(requests(spec({})), []);
  t.same(requests(spec({ parent: 'eth0' }, { internal: true })), []);
  t.end();
});

const ON_LAN: StrangerLink = {
  ...NIC,
  addresses: [prefix('10.1.0.9/24'), prefix('fd00:1::9/64'), prefix('192.0.2.9/24')],
};
const DUAL = {
  enableIpv6: true,
  ipv6: [subnet('fd00:1::/64')],
};

t.test('host access: a shim with addresses of its own, and routes both ways', async (t) => {
  const network = spec(
    { parent: 'eth0', probe: 'off', host_access: 'true', 'cnm.routes': '10.9.0.0/16 via 10.1.0.7' },
    DUAL,
  );
  const kernel = fakeKernel({ links: [ON_LAN] });
  const facts = await kernel.facts({ sysctls: ['net.ipv6.conf.all.disable_ipv6'] });
  const plan = macvlan.network(network, facts, []);
  const [, name = ''] =
    /link eth0 (cnmh[0-9a-z]{10}) address/.exec(describe(plan[0] ?? { do: 'netns.add', path: '' })) ?? [];
  const told = plan.slice(1).map(describe);
  const [, shim4 = ''] = /add (169\.254\.\d+\.\d+)\/32/.exec(told.join('\n')) ?? [];
  const [, shim6 = ''] = /add (fd9d:7b6a:6d2f:1:\S+)\/128/.exec(told.join('\n')) ?? [];
  t.same(told, [
    `sysctl -w net.ipv4.conf.${name}.arp_ignore=1`,
    `sysctl -w net.ipv4.conf.${name}.arp_announce=2`,
    `sysctl -w net.ipv6.conf.${name}.accept_ra=0`,
    `ip addr add ${shim4}/32 dev ${name}`,
    `ip addr add ${shim6}/128 dev ${name}`,
    `ip link set ${name} up`,
  ]);
  const endpoint = endpointSpec({ network: network.id, addressV6: prefix('fd00:1::2/64') });
  const link = macvlan.endpoint(network, { ...endpoint, mac: macvlan.mac(network, endpoint) });
  t.same(link.slice(1, -1).map(describe), [
    `ip route add 10.1.0.2/32 dev ${name}`,
    `ip route add fd00:1::2/128 dev ${name}`,
  ]);
  await kernel.apply([...plan, ...link]);
  const found = macvlan.found?.(network, facts);
  t.same(found, { host: '10.1.0.9 fd00:1::9' }, 'the addresses that the LAN knows the host by');
  t.same(macvlan.join({ ...network, ...(found && { found }) }, endpoint).routes, [
    { destination: `${shim4}/32` },
    { destination: '10.1.0.9/32', nextHop: shim4 },
    { destination: `${shim6}/128` },
    { destination: 'fd00:1::9/128', nextHop: shim6 },
    { destination: '10.9.0.0/16', nextHop: '10.1.0.7' },
  ]);
  const { addressV6, ...v4 } = endpoint;
  t.ok(addressV6);
  t.same(macvlan.join(network, v4).routes.length, 2, 'the shim, and the network’s own');
});

t.test('host access is refused where no container could be a neighbour of the host’s', async (t) => {
  for (const mode of ['private', 'vepa', 'passthru'])
    t.match(
      await refusal(host(), { parent: 'eth0', host_access: 'true', macvlan_mode: mode }),
      /host_access needs macvlan_mode=bridge/,
    );
  t.match(
    await refusal(host(), { parent: 'eth0', host_access: 'yes' }),
    /host_access cannot be "yes": it must be true or false/,
  );
  t.equal(await refusal(host(), { host_access: 'true' }), '', 'also without a parent');
});

t.test('shims of many networks have addresses that may be used', (t) => {
  const seen = new Set<string>();
  for (let n = 0; n < 500; n += 1) {
    const network = spec({ host_access: 'true' }, { ...DUAL, id: n.toString(16).padStart(64, '0') });
    const routes = macvlan.join(network, {
      id: 'e',
      network: network.id,
      address: prefix('10.1.0.2/24'),
      options: {},
      ports: [],
    });
    const [, third = '', fourth = ''] =
      /^169\.254\.(\d+)\.(\d+)\/32$/.exec(routes.routes[0]?.destination ?? '') ?? [];
    t.ok(Number(third) > 0 && Number(third) < 255 && !['157', '169'].includes(third));
    t.ok(Number(fourth) > 0 && Number(fourth) < 255);
    seen.add(`${third}.${fourth}`);
  }
  t.ok(seen.size > 490, 'and nearly all differ');
  t.end();
});

t.test('promiscuous: set once, by whoever needs it first, and only where nobody had set it', async (t) => {
  const wanted = { parent: 'eth0', promiscuous: 'true' };
  const step = { do: 'link.promisc', link: 'eth0' } as const;
  const kernel = host();
  t.same(macvlan.network(spec(wanted), await kernel.facts(), []), [step]);
  await kernel.apply([step]);
  const first = record('b', wanted, '10.2.0.0/24', { plan: [step] });
  t.same(
    macvlan.network(spec(wanted), await kernel.facts(), [first]),
    [step],
    'a second network of ours has it, too',
  );
  t.same(macvlan.network(spec(wanted), await kernel.facts(), []), [], 'the user’s own stays his');
  t.same(macvlan.appearance?.(spec({ parent: 'eth0' }), await kernel.facts()).fields.at(-1), [
    'promiscuous',
    'yes',
  ]);
  t.match(await refusal(host(), { promiscuous: 'true' }), /promiscuous is of the parent: add parent=/);
});

t.test('NICs that are known to drop foreign MACs', async (t) => {
  const warnings = async (nic: NonNullable<StrangerLink['nic']>, options: Record<string, string>) => {
    const kernel = fakeKernel({ links: [{ ...NIC, nic }] });
    await kernel.apply(macvlan.network(spec(options), await kernel.facts(), []));
    return macvlan.appearance?.(spec(options), await kernel.facts()).warnings;
  };
  t.match(await warnings({ wireless: true, driver: 'iwlwifi' }, { parent: 'eth0' }), [/eth0 is Wi-Fi: /]);
  t.match(await warnings({ wireless: false, driver: 'ena' }, { parent: 'eth0.100' }), [
    /eth0 \(ena\): AWS drops/,
  ]);
  t.match(await warnings({ wireless: false, driver: 'vmxnet3' }, { parent: 'eth0' }), [/forged transmits/]);
  t.same(await warnings({ wireless: false, driver: 'igb' }, { parent: 'eth0' }), []);
});

t.test('the options that are about names', async (t) => {
  const without = await described(host(), { parent: 'eth0' });
  t.same(await described(host(), { parent: 'eth0', dns: 'on', 'dns.servers': '10.0.0.53#5353' }), without);
  t.match(await refusal(host(), { parent: 'eth0', dns: 'gateway' }), /dns cannot be "gateway": .*on, off/);
  t.match(await refusal(host(), { 'dns.servers': '10.0.0.53,nobody' }), /cannot be "nobody"/);
});
