import t from 'tap';
import * as fc from 'fast-check';
import { ip, ipFromValue, ipValue } from '../../address/ip.ts';
import { mac } from '../../address/mac.ts';
import {
  addressOf,
  contains,
  lengthOf,
  overlaps,
  type Prefix,
  prefix,
  sizeOf,
} from '../../address/prefix.ts';
import type { EndpointSpec, NetworkRecord, NetworkSpec, NetworkWithPresence } from '../../cnm/model.ts';
import { describe } from '../../kernel/describe.ts';
import { fakeKernel } from '../../kernel/fake.ts';
import type { Plan, UplinkTranslate } from '../../kernel/step.ts';
import { outsideOf } from './egress.ts';
import { overlay } from './index.ts';
import { endpointSpec, networkSpec, subnet } from '../../tests/specs.ts';

const spec = (changes: Partial<NetworkSpec> = {}, id = '0123456789abcdef') =>
  networkSpec('cnm-overlay', {
    id: id.repeat(4),
    options: { vni: '4097', peers: '192.0.2.2', 'ip-range': 'any', egress: 'gateway' },
    ...changes,
  });
const dual = spec({ enableIpv6: true, ipv6: [subnet('fd00:1::/64', 'fd00:1::1/64')] });
const endpoint = endpointSpec({ network: dual.id, addressV6: prefix('fd00:1::2/64') });

async function presence(network: NetworkSpec, taken: readonly string[] = []): Promise<Plan> {
  const kernel = fakeKernel({
    links: [{ name: 'eth0', addresses: [prefix('192.0.2.1/24')] }],
    routes: [
      { to: prefix('0.0.0.0/0'), via: ip('192.0.2.254'), link: 'eth0' },
      ...taken.map((to) => ({ to: prefix(to), via: ip('192.0.2.254'), link: 'eth0' })),
    ],
  });
  const facts = await kernel.facts();
  return overlay.presence?.(network, facts, { netnsDir: '/run/cnm/netns' }) ?? [];
}

function pairsOf(plan: Plan): UplinkTranslate['pairs'] {
  return plan.flatMap((step) => (step.do === 'uplink.translate' ? step.pairs : []));
}

t.test('what an uplink is made of', async (t) => {
  const facts = await fakeKernel({ links: [{ name: 'eth0', addresses: [prefix('192.0.2.1/24')] }] }).facts();
  t.same(overlay.network(dual, facts, []).map(describe), [
    'sysctl -w net.ipv4.ip_forward=1',
    'sysctl -w net.ipv6.conf.default.forwarding=1',
    'sysctl -w net.ipv6.conf.all.forwarding=1',
  ]);
  const plan = await presence(dual);
  const [four, six] = pairsOf(plan).map(({ outside }) => outside);
  const ends = plan.flatMap((step) => (step.do === 'addr.add' && step.link !== 'br0' ? [step.prefix] : []));
  const [near4 = '', far4 = '', near6 = '', far6 = ''] = ends;
  t.match(near4, /^240\..*\/31$/);
  t.match(near6, /^fd00:.*\/127$/);
  const inside = 'nsenter --net=/run/cnm/netns/ov-0123456789ab ';
  const link = 'cnmux7n8nxjzra';
  const text = plan
    .map((step) =>
      describe(step)
        .replace(inside, 'in ')
        .replace(/ address \S+/, ''),
    )
    .filter((line) => !/br0|vx0/.test(line))
    .map((line) => line.replaceAll(/cnmu[a-z0-9]{10}/g, link));
  t.same(text, [
    `nft add element inet cnm bridges { ${link} }`,
    `nft add element inet cnm same_bridge { ${link} . ${link} }`,
    `nft add element inet cnm hairpin { ${link} . ${link} }`,
    `nft add element inet cnm masquerade4 { ${link} }`,
    `nft add element inet cnm masquerade6 { ${link} }`,
    `nft add element inet cnm alike4 { 10.1.0.0/24 . ${link} }`,
    `nft add element inet cnm alike6 { fd00:1::/64 . ${link} }`,
    'ip netns add /run/cnm/netns/ov-0123456789ab',
    'in sysctl -w net.ipv4.ip_forward=1',
    'in sysctl -w net.ipv6.conf.all.forwarding=1',
    `in ip link add up0 mtu 1450 type veth peer name ${link} netns HOME`,
    ...['disable_ipv6', 'accept_ra', 'accept_dad'].map((key) => `in sysctl -w net.ipv6.conf.up0.${key}=0`),
    ...['disable_ipv6', 'accept_ra', 'accept_dad'].map((key) => `sysctl -w net.ipv6.conf.${link}.${key}=0`),
    `in ip addr add ${near4} dev up0`,
    `ip addr add ${far4} dev ${link}`,
    `in ip addr add ${near6} dev up0`,
    `ip addr add ${far6} dev ${link}`,
    `in nft translate 10.1.0.0/24 as ${four ?? ''}, fd00:1::/64 as ${six ?? ''} on up0`,
    `iptables -I DOCKER-USER -i|-o ${link} -j ACCEPT`,
    'in ip link set up0 up',
    `ip link set ${link} up`,
    `in ip route add 0.0.0.0/0 via ${far4.replace('/31', '')} dev up0`,
    `in ip route add ::/0 via ${far6.replace('/127', '')} dev up0`,
    `ip route add ${four ?? ''} via ${near4.replace('/31', '')} dev ${link}`,
    `ip route add ${six ?? ''} via ${near6.replace('/127', '')} dev ${link}`,
  ]);
});

t.test('egress=docker is as ever: nothing of it', async (t) => {
  const options = { ...dual.options };
  Reflect.deleteProperty(options, 'egress');
  const without = await presence({ ...dual, options });
  t.same(await presence({ ...dual, options: { ...options, egress: 'docker' } }), without);
  t.notMatch(JSON.stringify(without), /up0|nft\.element|forward|cnmu/);
  const info = overlay.join({ ...dual, options }, endpoint);
  t.same([info.gateway, info.gatewayV6], [undefined, undefined]);
  t.throws(() => overlay.publishing?.requests({ ...dual, options }, endpoint, [BINDING]), {
    code: 'option-invalid',
    message: /-o egress=gateway/,
  });
});

t.test('what the host calls a subnet is nobody else’s', async (t) => {
  const first = pairsOf(await presence(dual));
  t.same(pairsOf(await presence(dual)), first, 'the same again');
  const second = pairsOf(await presence({ ...dual, id: 'f'.repeat(64) }));
  t.notSame(second, first, 'another network’s is another');
  // Whatever of it is taken.
  const taken = first.map(({ outside }) => outside);
  const moved = pairsOf(await presence(dual, taken));
  for (const { outside } of moved)
    t.notOk(
      taken.some((one) => overlaps(one, outside)),
      outside,
    );
  t.same(
    moved.map(({ inside }) => inside),
    first.map(({ inside }) => inside),
  );
  await t.rejects(presence(dual, ['240.0.0.0/9', '240.128.0.0/9', '241.0.0.0/8']), {
    code: 'network-conflict',
    message: /no free \/31 in 240\.0\.0\.0\/8/,
  });
});

t.test('of any size, each address has one of its own outside', async (t) => {
  for (const [pool, gateway] of [
    ['10.0.0.0/8', '10.0.0.1/8'],
    ['172.16.0.0/12', '172.16.0.1/12'],
    ['192.168.4.0/30', '192.168.4.1/30'],
    ['10.9.0.0/31', '10.9.0.0/31'],
  ] as const) {
    const network = spec({ ipv4: [subnet(pool, gateway)] });
    const [pair] = pairsOf(await presence(network));
    t.ok(pair !== undefined && lengthOf(pair.outside) === lengthOf(prefix(pool)), pool);
    t.match(
      pair?.outside,
      /^2(?:4[1-9]|5[0-4])\./,
      'reserved, and neither the pairs’ nor the broadcast address’s',
    );
  }
});

t.test('translation is one for one', async (t) => {
  const network: NetworkWithPresence = { ...dual, presence: await presence(dual) };
  const ofPool = (pool: Prefix) =>
    fc
      .bigInt({ min: 0n, max: sizeOf(pool) - 1n })
      .map((n) => ipFromValue(pool.includes(':') ? 6 : 4, ipValue(addressOf(pool)) + n));
  for (const { inside, outside } of pairsOf(network.presence ?? []))
    fc.assert(
      fc.property(ofPool(inside), ofPool(inside), (a, b) => {
        const [x, y] = [outsideOf(network, a), outsideOf(network, b)];
        return contains(outside, x) && contains(outside, y) && (a === b) === (x === y);
      }),
    );
  t.throws(() => outsideOf(network, ip('10.9.9.9')), /no uplink/);
});

t.test('what cannot be', async (t) => {
  const facts = await fakeKernel({
    links: [{ name: 'eth0', addresses: [prefix('192.0.2.1/24')] }],
  }).facts();
  const made = (changes: Partial<NetworkSpec>) => () => overlay.network(spec(changes), facts, []);
  t.throws(made({ internal: true }), { code: 'option-invalid', message: /--internal forbids/ });
  t.throws(made({ ipv4: [subnet('10.1.0.0/24')] }), {
    code: 'option-invalid',
    message: /10\.1\.0\.0\/24 has none/,
  });
  t.throws(made({ ipv4: [subnet('10.0.0.0/7', '10.0.0.1/7')] }), { message: /\/8 or smaller/ });
});

t.test('the gateway of the endpoint’s segment, in its families', (t) => {
  const two = spec({
    options: { ...dual.options, vni: '1,2' },
    ipv4: [subnet('10.2.0.0/24', '10.2.0.1/24'), subnet('10.1.0.0/24', '10.1.0.1/24')],
    ipv6: [subnet('fd00:1::/64', 'fd00:1::1/64'), subnet('fd00:2::/64', 'fd00:2::1/64')],
  });
  const gateways = (more: Partial<EndpointSpec>) => {
    const { gateway, gatewayV6, disableGatewayService } = overlay.join(two, { ...endpoint, ...more });
    return [gateway, gatewayV6, disableGatewayService];
  };
  t.same(gateways({}), ['10.1.0.1', 'fd00:1::1', false]);
  const second = { address: prefix('10.2.0.9/24'), addressV6: prefix('fd00:2::9/64') };
  t.same(gateways(second), ['10.2.0.1', 'fd00:2::1', false]);
  const four = { ...endpoint };
  Reflect.deleteProperty(four, 'addressV6');
  t.equal(overlay.join(two, four).gatewayV6, undefined);
  t.end();
});

const BINDING = { proto: 6, port: 80, hostPort: 8080, hostPortEnd: 8080 };

t.test('a published port leads to the address outside, and the host holds the rest', async (t) => {
  const record: NetworkRecord = {
    ...dual,
    presence: await presence(dual),
    plan: [],
    state: 'ready',
    createdAt: '',
  };
  const requests = overlay.publishing?.requests(record, endpoint, [BINDING]) ?? [];
  const [four, six] = ['10.1.0.2', 'fd00:1::2'].map((own) => outsideOf(record, ip(own)));
  t.same(requests[0]?.targets, [
    { ip: '10.1.0.2', via: four, hostIp: '0.0.0.0' },
    { ip: 'fd00:1::2', via: six, hostIp: '::' },
  ]);
  const published = (requests[0]?.targets ?? []).map((target) => ({
    proto: 6,
    port: 80,
    hostPort: 8080,
    ...target,
  }));
  const plan = (overlay.publishing?.plan(record, published) ?? []).map(describe);
  t.match(plan[0], /^sysctl -w net\.ipv4\.conf\.cnmu\w+\.route_localnet=1$/);
  t.same(plan.slice(1), [
    'hold tcp 0.0.0.0:8080',
    'hold tcp [::]:8080',
    `nft add element inet cnm publish4_any { tcp . 8080 : ${four ?? ''} . 80 }`,
    `nft add element inet cnm publish6_any { tcp . 8080 : ${six ?? ''} . 80 }`,
    `nft add element inet cnm open4 { ${four ?? ''} . tcp . 80 }`,
    `nft add element inet cnm open6 { ${six ?? ''} . tcp . 80 }`,
  ]);
});

t.test('an endpoint is as any other', async (t) => {
  const network = { ...dual, presence: await presence(dual) };
  const plan = overlay.endpoint(network, { ...endpoint, mac: mac('02:42:0a:01:00:02') });
  t.notMatch(JSON.stringify(plan), /nft|up0/);
});
