import t from 'tap';
import { ip } from '../../address/ip.ts';
import { mac } from '../../address/mac.ts';
import { prefix } from '../../address/prefix.ts';
import type { EndpointSpec, NetworkSpec } from '../../cnm/model.ts';
import { driverCompliance } from '../../tests/driver-compliance.ts';
import { bridge } from './index.ts';
import { endpointSpec, networkSpec, subnet } from '../../tests/specs.ts';

const network = networkSpec('cnm-bridge', {
  options: { 'com.docker.network.driver.mtu': '1400' },
  enableIpv6: true,
  ipv6: [subnet('fd00:1::/64', 'fd00:1::1/64')],
});

const other: NetworkSpec = {
  ...network,
  id: 'b2'.repeat(32),
  internal: true,
  enableIpv6: false,
  options: {},
  ipv4: [subnet('10.2.0.0/24', '10.2.0.1/24')],
  ipv6: [],
};

const endpoint = endpointSpec({ addressV6: prefix('fd00:1::2/64') });

const option = (name: string, value: string): NetworkSpec => ({ ...network, options: { [name]: value } });
const pool = (text: string): NetworkSpec => ({
  ...network,
  ipv4: [subnet(text)],
});

driverCompliance(t, bridge, {
  network,
  other,
  endpoints: [
    endpoint,
    { ...endpoint, id: 'e2'.repeat(32), address: prefix('10.1.0.3/24'), addressV6: prefix('fd00:1::3/64') },
  ],
  refused: [
    // B09
    { spec: option('com.docker.network.driver.mtu', '67'), names: 'mtu' },
    { spec: option('com.docker.network.driver.mtu', 'abc'), names: '"abc"' },
    { spec: option('com.docker.network.driver.mtu', '70000'), names: '70000' },
    { spec: option('com.docker.network.driver.mtu', '1234'), names: 'at least 1280' },
    // E05
    { spec: option('com.docker.network.bridge.name', 'x;touch /tmp/p'), names: 'x;touch /tmp/p' },
    { spec: option('com.docker.network.bridge.name', '../a'), names: '../a' },
    { spec: option('com.docker.network.bridge.name', 'abcdefghijklmnop'), names: 'abcdefghijklmnop' },
    { spec: option('com.docker.network.bridge.name', '--help'), names: '--help' },
    { spec: option('com.docker.network.bridge.name', '.x'), names: '.x' },
    { spec: option('com.docker.network.bridge.name', 'all'), names: '"all"' },
    { spec: option('com.docker.network.bridge.name', 'a\nb'), names: 'a\\nb' },
    { spec: option('com.docker.network.bridge.name', 'a\0b'), names: 'a\\u0000b' },
    { spec: option('com.docker.network.bridge.enable_ip_masquerade', 'yes'), names: '"yes"' },
    {
      spec: option('com.docker.network.container_iface_prefix', 'much-too-long-a-prefix'),
      names: 'much-too-long-a-prefix',
    },
    // P10: an unknown option is refused, every time, by name.
    { spec: option('opt1', 'drv1'), names: '"opt1"' },
    // E06
    { spec: pool('0.0.0.0/0'), names: 'null IPAM driver' },
    { spec: pool('224.1.0.0/16'), names: 'multicast' },
    { spec: { ...network, ipv4: [...network.ipv4, ...other.ipv4] }, names: '10.2.0.0/24' },
    { spec: { ...network, ipv4: [], ipv6: [] }, names: 'IPv4 or IPv6' },
  ],
});

t.test('an endpoint outside the subnet is refused with address and subnet', (t) => {
  const outside = { ...endpoint, address: prefix('10.9.0.2/24'), mac: mac('02:42:0a:09:00:02') };
  t.throws(() => bridge.endpoint(network, outside), {
    code: 'address-invalid',
    message: /10\.9\.0\.2.*10\.1\.0\.0\/24/,
  });
  t.end();
});

t.test(
  'what Join answers: gateways, none on an internal network, none for a family the endpoint lacks',
  (t) => {
    t.match(bridge.join(network, endpoint), {
      gateway: ip('10.1.0.1'),
      gatewayV6: ip('fd00:1::1'),
      disableGatewayService: false,
    });
    const internal = bridge.join(other, endpoint);
    t.notOk('gateway' in internal || 'gatewayV6' in internal);
    t.equal(internal.disableGatewayService, true);
    const v4Only: EndpointSpec = {
      id: endpoint.id,
      network: network.id,
      address: prefix('10.1.0.2/24'),
      options: {},
      ports: [],
    };
    t.notOk('gatewayV6' in bridge.join(network, v4Only));
    t.equal(
      bridge.join(option('com.docker.network.container_iface_prefix', 'foo'), endpoint).dstPrefix,
      'foo',
    );
    t.end();
  },
);
