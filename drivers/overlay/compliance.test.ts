import t from 'tap';
import { ip } from '../../address/ip.ts';
import { mac } from '../../address/mac.ts';
import { prefix } from '../../address/prefix.ts';
import type { EndpointSpec, NetworkSpec } from '../../cnm/model.ts';
import { fakeKernel } from '../../kernel/fake.ts';
import { driverCompliance } from '../../tests/driver-compliance.ts';
import { overlay } from './index.ts';
import { endpointSpec, networkSpec, subnet } from '../../tests/specs.ts';

/** A host among three, behind a router: 192.0.2.1 of 192.0.2.1, 192.0.2.2 and 198.51.100.3. */
const host = () =>
  fakeKernel({
    links: [{ name: 'eth0', addresses: [prefix('192.0.2.1/24')] }],
    routes: [{ to: prefix('0.0.0.0/0'), via: ip('192.0.2.254'), link: 'eth0' }],
  });

const network = networkSpec('cnm-overlay', {
  options: {
    vni: '4097,4098',
    peers: '192.0.2.1,192.0.2.2,198.51.100.3',
    'ip-range': '10.1.0.0/26,10.2.0.0/26,fd00:1::/66,fd00:2::/66',
  },
  enableIpv6: true,
  ipv4: [subnet('10.1.0.0/24', '10.1.0.1/24'), subnet('10.2.0.0/24', '10.2.0.1/24')],
  ipv6: [subnet('fd00:1::/64', 'fd00:1::1/64'), subnet('fd00:2::/64', 'fd00:2::1/64')],
});

/** The same subnet on another VNI: they never meet. */
const other: NetworkSpec = {
  ...network,
  id: 'b2'.repeat(32),
  options: { vni: '5000', peers: '192.0.2.2', 'ip-range': 'any' },
  internal: true,
  enableIpv6: false,
  ipv4: [subnet('10.1.0.0/24', '10.1.0.1/24')],
  ipv6: [],
};

const endpoint = endpointSpec({ addressV6: prefix('fd00:1::2/64') });

const option = (name: string, value: string): NetworkSpec => ({
  ...network,
  options: { ...network.options, [name]: value },
});
const without = (name: string): NetworkSpec => {
  const options = { ...network.options };
  Reflect.deleteProperty(options, name);
  return { ...network, options };
};
const pools = (ipv4: readonly string[], ipv6: readonly string[] = []): NetworkSpec => ({
  ...option('ip-range', 'any'),
  ipv4: ipv4.map((pool) => subnet(pool)),
  ipv6: ipv6.map((pool) => subnet(pool)),
});

const gatewayless: Pick<NetworkSpec, 'ipv4'> = {
  ipv4: network.ipv4.map(({ addressSpace, pool, aux }) => ({ addressSpace, pool, aux })),
};

const endpoints = [
  endpoint,
  { ...endpoint, id: 'e2'.repeat(32), address: prefix('10.2.0.3/24'), addressV6: prefix('fd00:2::3/64') },
] as const;

t.test('with the kernel’s tunnel on one network, and one in user space on the other', (t) => {
  driverCompliance(t, overlay, {
    kernel: host,
    network: option('vtep', 'userspace'),
    other,
    endpoints,
    refused: [],
  });
  t.end();
});

t.test('with a way out of its own, beside another with the same subnet', (t) => {
  driverCompliance(t, overlay, {
    kernel: host,
    network: option('egress', 'gateway'),
    other: { ...other, internal: false, options: { ...other.options, egress: 'gateway' } },
    endpoints,
    refused: [
      { spec: { ...option('egress', 'gateway'), internal: true }, names: '--internal forbids' },
      { spec: { ...option('egress', 'gateway'), ...gatewayless }, names: 'needs a gateway' },
      { spec: option('egress', 'moon'), names: 'one of docker, gateway' },
    ],
  });
  t.end();
});

t.test('in a cluster: nothing is listed, and nothing learned', (t) => {
  const pools = [...network.ipv4, ...network.ipv6].map(({ pool }) => pool);
  const agreement = { plane: 'cluster', id: 'a1', name: 'x', numbers: [4097, 4098], shared: pools };
  driverCompliance(t, overlay, {
    kernel: host,
    network: { ...network, options: {}, agreement },
    other: {
      ...network,
      ...other,
      options: { vtep: 'userspace' },
      agreement: { ...agreement, numbers: [5000] },
    },
    endpoints,
    refused: [
      {
        spec: { ...network, options: {}, agreement: { ...agreement, shared: [] } },
        names: 'space=cnm-global',
      },
      { spec: { ...network, options: {} }, names: 'cnmd --cluster' },
    ],
  });
  t.end();
});

driverCompliance(t, overlay, {
  kernel: host,
  network,
  other,
  endpoints,
  refused: [
    // O04
    { spec: option('vni', '1,2,'), names: '"1,2,"' },
    { spec: option('vni', 'abc'), names: '"abc"' },
    { spec: option('vni', '16777216,1'), names: '"16777216,1"' },
    { spec: option('vni', '7,7'), names: 'none twice' },
    { spec: option('vni', '7'), names: '2 subnets (10.1.0.0/24, 10.2.0.0/24)' },
    { spec: option('vni', '7,8,9'), names: '3 numbers' },
    { spec: option('vni', '-1,2'), names: '"-1,2"' },
    { spec: option('com.docker.network.driver.overlay.vxlanid_list', '1,2'), names: 'differ' },
    { spec: without('vni'), names: 'needs vni' },
    { spec: without('peers'), names: 'needs peers' },
    { spec: without('ip-range'), names: 'needs ip-range' },
    { spec: option('peers', ''), names: 'peers cannot be ""' },
    { spec: option('peers', '192.0.2.2,192.0.2.2'), names: 'none twice' },
    { spec: option('peers', 'host2'), names: '"host2"' },
    { spec: option('peers', '127.0.0.1'), names: '"127.0.0.1"' },
    { spec: option('peers', '239.1.1.1'), names: '"239.1.1.1"' },
    { spec: option('peers', '192.0.2.2,2001:db8::2'), names: 'one family' },
    { spec: option('peers', '2001:db8::2'), names: 'no route to it' },
    { spec: option('advertise', '203.0.113.9'), names: 'advertise cannot be 203.0.113.9' },
    { spec: option('advertise', '2001:db8::1'), names: 'an IPv4 address' },
    { spec: option('port', '0'), names: 'port cannot be "0"' },
    { spec: option('port', '65536'), names: '"65536"' },
    { spec: option('port', 'vxlan'), names: '"vxlan"' },
    { spec: option('com.docker.network.driver.mtu', '67'), names: 'mtu' },
    { spec: option('com.docker.network.driver.mtu', '1329'), names: 'leaves 1279 bytes' },
    { spec: option('ip-range', '10.1.0.0/26,10.2.0.0/26'), names: '0 parts of subnet fd00:1::/64' },
    { spec: option('ip-range', '10.1.0.1/26'), names: 'without host bits' },
    { spec: option('ip-range', '10.9.0.0/26'), names: '10.9.0.0/26 is not inside' },
    { spec: option('ip-range', 'all'), names: '"all"' },
    // Never in the clear what was to be encrypted.
    { spec: option('encrypted', ''), names: 'encrypted needs a secret' },
    { spec: option('vtep', 'moon'), names: 'one of kernel, userspace' },
    { spec: option('Peers', '192.0.2.2'), names: '"Peers"' },
    { spec: pools(['0.0.0.0/0', '10.0.0.0/24']), names: 'null IPAM driver' },
    { spec: pools(['10.0.0.0/24', '224.1.0.0/16']), names: 'multicast' },
    { spec: pools(['10.1.0.0/24', '10.1.0.128/25']), names: '10.1.0.0/24 and 10.1.0.128/25' },
    { spec: pools(['10.1.0.0/24', '10.2.0.0/24'], ['fd00::/64']), names: '1 of IPv6 (fd00::/64)' },
    { spec: pools([]), names: 'IPv4 or IPv6' },
  ],
});

t.test('where an endpoint may not be', async (t) => {
  const facts = await host().facts();
  const presence = overlay.presence?.(network, facts, { netnsDir: '/run/cnm/netns' }) ?? [];
  const refusal = (more: Partial<EndpointSpec>) => () =>
    overlay.endpoint({ ...network, presence }, { ...endpoint, ...more, mac: mac('02:42:0a:09:00:02') });
  t.throws(refusal({ address: prefix('10.9.0.2/24') }), {
    code: 'address-invalid',
    message: /10\.9\.0\.2.*10\.1\.0\.0\/24/,
  });
  t.throws(refusal({ address: prefix('10.1.0.70/24') }), {
    code: 'address-invalid',
    message: /10\.1\.0\.70.*10\.1\.0\.0\/26.*--ip-range/,
  });
  t.throws(refusal({ address: prefix('10.2.0.2/24') }), { code: 'address-invalid', message: /two segments/ });
  t.throws(refusal({ options: { color: 'red' } }), { code: 'option-invalid', message: /"color"/ });
});
