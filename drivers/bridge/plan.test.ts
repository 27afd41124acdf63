import t from 'tap';
import { prefix } from '../../address/prefix.ts';
import { IPV6_DISABLED } from '../../cnm/families.ts';
import type { NetworkRecord, NetworkSpec } from '../../cnm/model.ts';
import { describe } from '../../kernel/describe.ts';
import { fakeKernel } from '../../kernel/fake.ts';
import { bridge } from './index.ts';
import { gateNamesOf } from './names.ts';
import { parseOptions } from './options.ts';
import { networkSpec, subnet } from '../../tests/specs.ts';

const spec = (changes: Partial<NetworkSpec> = {}) =>
  networkSpec('cnm-bridge', { id: '0123456789abcdef'.repeat(4), ...changes });

const ipv6 = [subnet('fd00:1::/64', 'fd00:1::1/64')];

async function described(network: NetworkSpec): Promise<readonly string[]> {
  return bridge.network(network, await fakeKernel().facts(), []).map(describe);
}

t.test('the plan of an IPv4 network', async (t) => {
  t.same(await described(spec()), [
    'nft add element inet cnm bridges { cnm0123456789ab }',
    'nft add element inet cnm same_bridge { cnm0123456789ab . cnm0123456789ab }',
    'nft add element inet cnm hairpin { cnm0123456789ab . cnm0123456789ab }',
    'nft add element inet cnm masquerade4 { cnm0123456789ab }',
    'nft add element inet cnm dns4 { cnm0123456789ab . 10.1.0.1 }',
    'sysctl -w net.ipv4.ip_forward=1',
    `ip link add cnm0123456789ab ${(await macOfPlan()) ?? ''} type bridge`,
    'ip addr add 10.1.0.1/24 dev cnm0123456789ab',
    'iptables -I DOCKER-USER -i|-o cnm0123456789ab -j ACCEPT',
    'ip link set cnm0123456789ab up',
  ]);
});

async function macOfPlan(): Promise<string | undefined> {
  const add = bridge.network(spec(), await fakeKernel().facts(), []).find((step) => step.do === 'link.add');
  return add?.mac && `address ${add.mac}`;
}

t.test('IPv6 brings its own forwarding, address and masquerade, and no router advertisements', async (t) => {
  const plan = await described(spec({ enableIpv6: true, ipv6 }));
  for (const wanted of [
    'nft add element inet cnm masquerade6 { cnm0123456789ab }',
    'sysctl -w net.ipv6.conf.all.forwarding=1',
    'sysctl -w net.ipv6.conf.cnm0123456789ab.disable_ipv6=0',
    'sysctl -w net.ipv6.conf.cnm0123456789ab.accept_ra=0',
    'ip addr add fd00:1::1/64 dev cnm0123456789ab',
  ]) {
    t.ok(plan.includes(wanted), wanted);
  }
  t.notOk(
    (await described(spec())).some((step) => step.includes('ipv6')),
    'a v4 network changes no v6 setting (B18)',
  );
  const only6 = await described(spec({ enableIpv4: false, enableIpv6: true, ipv4: [], ipv6 }));
  t.notOk(
    only6.some((step) => step.includes('ipv4') || step.includes('masquerade4')),
    'and an IPv6-only one no v4 setting',
  );
});

t.test('an internal network neither forwards nor masquerades', async (t) => {
  const plan = await described(spec({ internal: true }));
  t.ok(plan.includes('nft add element inet cnm internal { cnm0123456789ab }'));
  t.notOk(plan.some((step) => /masquerade|forward=/.test(step)));
});

t.test('firewall=host brings a gate, in the families that are translated', async (t) => {
  const options = { firewall: 'host' };
  const gate = (plan: readonly string[]) => plan.filter((step) => /cnmg|inside/.test(step));
  const { entrance, exit } = gateNamesOf(spec().id);
  t.same(
    gate(await described(spec({ options }))).map((step) => step.replace(/address \S+/, 'address MAC')),
    [
      `nft add element inet cnm gates { ${entrance} }`,
      `nft add element inet cnm gates { ${exit} }`,
      'nft add element inet cnm inside4 { 10.1.0.0/24 . cnm0123456789ab }',
      `ip link add ${entrance} mtu 65535 address MAC arp off type veth peer name ${exit}`,
      `sysctl -w net.ipv4.conf.${exit}.rp_filter=2`,
      `ip addr add 169.254.157.122/31 dev ${entrance}`,
      `ip addr add 169.254.157.122/32 dev ${exit}`,
      `ip link set ${exit} up`,
      `ip link set ${entrance} up`,
    ],
  );
  const dual = { enableIpv6: true, ipv6 };
  t.ok(
    (await described(spec({ ...dual, options }))).includes(
      `ip addr add fd9d:7b6a:6d2f::/127 dev ${entrance}`,
    ),
  );
  const routed = { ...options, 'com.docker.network.bridge.gateway_mode_ipv4': 'routed' };
  t.notOk(gate(await described(spec({ ...dual, options: routed }))).some((step) => step.includes('169.254')));
  t.same(gate(await described(spec({ options: routed }))), [], 'routed ports are no ports of the host');
  t.same(gate(await described(spec({ internal: true, options }))), [], 'internal networks publish nothing');
  t.same(gate(await described(spec({ options: { firewall: 'cnm' } }))), []);
  t.throws(() => parseOptions({ firewall: 'ufw' }), {
    message: /firewall cannot be "ufw".*one of cnm, host/,
  });
});

t.test('B11: a bridge that the user made is used, with its address, and not deleted', async (t) => {
  const kernel = fakeKernel({
    links: [{ name: 'x', kind: 'bridge', addresses: [prefix('10.1.0.1/24')] }, { name: 'nic' }],
  });
  const facts = await kernel.facts();
  const named = (name: string) => spec({ options: { 'com.docker.network.bridge.name': name } });
  const plan = bridge.network(named('x'), facts, []);
  t.notOk(plan.some((step) => step.do === 'link.add' || step.do === 'addr.add'));
  t.throws(() => bridge.network(named('nic'), facts, []), {
    code: 'network-conflict',
    message: /nic.*not a bridge/,
  });
  t.ok(
    bridge.network(named('fresh'), facts, []).some((step) => step.do === 'link.add' && step.name === 'fresh'),
  );
});

t.test('conflicts with other networks name both', async (t) => {
  const facts = await fakeKernel().facts();
  const other: NetworkRecord = {
    ...spec({ id: 'f'.repeat(64), name: 'shop' }),
    state: 'ready',
    createdAt: '',
    plan: [],
  };
  t.throws(() => bridge.network(spec(), facts, [other]), {
    code: 'network-conflict',
    message: /10\.1\.0\.0\/24.*shop/,
  });
  const elsewhere = { ...other, ipv4: [{ addressSpace: '', pool: prefix('10.9.0.0/24'), aux: {} }] };
  const options = { 'com.docker.network.bridge.name': 'shared' };
  t.throws(() => bridge.network(spec({ options }), facts, [{ ...elsewhere, options }]), {
    code: 'network-conflict',
    message: /shared.*shop/,
  });
  t.doesNotThrow(() => bridge.network(spec(), facts, [elsewhere]));
});

t.test('V08: a host without IPv6 is not given it back by a network', async (t) => {
  const kernel = fakeKernel({ sysctls: { [IPV6_DISABLED]: '1' } });
  const facts = await kernel.facts({ sysctls: [IPV6_DISABLED] });
  t.throws(() => bridge.network(spec({ enableIpv6: true, ipv6 }), facts, []), {
    code: 'option-invalid',
    message: /IPv6 is switched off/,
  });
  t.doesNotThrow(() => bridge.network(spec(), facts, []));
});

t.test('where containers find the resolver', async (t) => {
  const led = async (options: Record<string, string>, more: Partial<NetworkSpec> = {}) =>
    (await described(spec({ options, enableIpv6: true, ipv6, ...more }))).filter((line) =>
      / dns[46] /.test(line),
    );
  const both = [
    'nft add element inet cnm dns4 { cnm0123456789ab . 10.1.0.1 }',
    'nft add element inet cnm dns6 { cnm0123456789ab . fd00:1::1 }',
  ];
  t.same(await led({}), both, 'at the gateways');
  t.same(await led({ dns: 'on' }), both);
  t.same(await led({ dns: 'off' }), []);
  t.same(await led({}, { internal: true }), both, 'internal networks too: their own names');
  t.same(
    await led({ 'com.docker.network.bridge.inhibit_ipv4': 'true' }),
    both.slice(1),
    'no gateway, no resolver',
  );
  const linkLocal = [
    { addressSpace: 'LocalDefault', pool: prefix('fe80:9::/64'), gateway: prefix('fe80:9::1/64'), aux: {} },
  ];
  t.same(await led({}, { ipv6: linkLocal }), both.slice(0, 1));
  await t.rejects(led({ dns: 'yes' }), /dns.*"yes".*gateway, on, off|dns/);
  await t.rejects(led({ 'dns.servers': '10.0.0.53, example.com' }), /cannot be "example.com": .*10.0.0.53/);
  t.ok(await led({ 'dns.servers': '10.0.0.53, 192.0.2.1#5353 fe80::1%eth0' }));
});
