import t from 'tap';
import { ip } from '../../address/ip.ts';
import { mac } from '../../address/mac.ts';
import { prefix } from '../../address/prefix.ts';
import type { EndpointSpec, NetworkSpec, Subnet } from '../../cnm/model.ts';
import { type FakeKernel, fakeKernel } from '../../kernel/fake.ts';
import { driverCompliance } from '../../tests/driver-compliance.ts';
import { macvlan } from './index.ts';
import { endpointSpec, networkSpec, subnet } from '../../tests/specs.ts';

const network = networkSpec('cnm-macvlan', {
  options: { parent: 'eth0.100', 'com.docker.network.driver.mtu': '1400' },
  enableIpv6: true,
  ipv4: [subnet('10.1.0.0/24', '10.1.0.1/24'), subnet('10.3.0.0/24', '10.3.0.1/24')],
  ipv6: [subnet('fd00:1::/64', 'fd00:1::1/64')],
});

/** On the same VLAN, so that they share it. */
const other: NetworkSpec = {
  ...network,
  id: 'b2'.repeat(32),
  enableIpv6: false,
  options: { parent: 'eth0', vlan: '100' },
  ipv4: [subnet('10.2.0.0/24')],
  ipv6: [],
};

const endpoint = endpointSpec({ addressV6: prefix('fd00:1::2/64') });
const second: EndpointSpec = {
  ...endpoint,
  id: 'e2'.repeat(32),
  address: prefix('10.3.0.2/24'),
  addressV6: prefix('fd00:1::3/64'),
};

const options = (changes: Readonly<Record<string, string>>): NetworkSpec => ({
  ...network,
  options: { parent: 'eth0', ...changes },
});
const pools = (...ipv4: readonly Subnet[]): NetworkSpec => ({ ...network, ipv4 });

function kernel(): FakeKernel {
  return fakeKernel({
    links: [
      { name: 'eth0', mac: mac('52:54:00:00:00:01') },
      { name: 'br0', kind: 'bridge', mac: mac('52:54:00:00:00:02') },
      { name: 'eth1', mac: mac('52:54:00:00:00:03'), master: 'br0' },
      { name: 'tun0', kind: 'tun' },
    ],
  });
}

const FIXTURE = {
  kernel,
  network,
  other,
  endpoints: [endpoint, second] as const,
  refused: [
    // M08
    {
      spec: options({ parent: 'eth9' }),
      names: 'there is no interface eth9 on this host (it has eth0, br0, eth1, tun0)',
    },
    { spec: options({ parent: 'eth9.100' }), names: 'there is no interface eth9' },
    { spec: options({ parent: 'lo' }), names: 'lo leads nowhere' },
    { spec: options({ parent: 'lo.5' }), names: 'no Ethernet interface' },
    {
      spec: options({ macvlan_mode: 'foo' }),
      names: '"foo": it must be one of bridge, vepa, private, passthru',
    },
    // E05
    { spec: options({ parent: 'x;touch /tmp/p' }), names: 'x;touch /tmp/p' },
    { spec: options({ parent: '../a' }), names: '../a' },
    { spec: options({ parent: 'a\0b' }), names: 'a\\u0000b' },
    { spec: options({ parent: 'sixteen-bytes-ab' }), names: '1 to 15 bytes' },
    { spec: options({ parent: 'twelve-bytes.100' }), names: '1 to 15 bytes' },
    { spec: options({ parent: 'eth0.0' }), names: '"0" is not a VLAN id: a number from 1 to 4094' },
    { spec: options({ parent: 'eth0.4095' }), names: '"4095" is not' },
    { spec: options({ parent: 'eth0.abc' }), names: '"abc" is not' },
    { spec: options({ parent: 'eth0.010' }), names: '"010" is not' },
    { spec: options({ parent: 'eth0.10.4095' }), names: '"4095" is not' },
    { spec: options({ vlan: '0' }), names: 'vlan cannot be "0"' },
    { spec: options({ vlan: '4095' }), names: 'vlan cannot be "4095"' },
    { spec: options({ vlan: 'abc' }), names: 'vlan cannot be "abc"' },
    { spec: options({ parent: '', vlan: '5' }), names: 'add parent=' },
    {
      spec: options({ vlan_protocol: '802.1x', vlan: '5' }),
      names: '"802.1x": it must be 802.1q or 802.1ad',
    },
    { spec: options({ vlan_protocol: '802.1ad' }), names: 'there are 0 VLANs to make on eth0' },
    { spec: options({ parent: 'eth1' }), names: 'a port of br0, which takes all its frames; use parent=br0' },
    { spec: options({ parent: 'tun0' }), names: 'no Ethernet interface' },
    { spec: options({ macvlan_flag: 'nopromisc' }), names: 'for the mode passthru alone' },
    { spec: options({ macvlan_flag: 'yes', macvlan_mode: 'passthru' }), names: 'nopromisc' },
    // M12
    {
      spec: options({ 'com.docker.network.driver.mtu': '1501' }),
      names: 'at most 1500, which its parent eth0 has',
    },
    { spec: options({ 'com.docker.network.driver.mtu': '67' }), names: 'mtu' },
    { spec: options({ 'com.docker.network.driver.mtu': '1234' }), names: 'at least 1280' },
    { spec: options({ opt1: 'drv1' }), names: '"opt1"' },
    { spec: options({ 'cnm.routes': '10.9.0.0/16 via 10.2.0.7' }), names: '10.1.0.0/24 or 10.3.0.0/24' },
    // E06
    { spec: pools(subnet('0.0.0.0/0')), names: 'null IPAM driver' },
    { spec: pools(subnet('224.1.0.0/16')), names: 'multicast' },
    { spec: pools(subnet('10.1.0.0/24'), subnet('10.1.0.0/25')), names: '10.1.0.0/25' },
    { spec: { ...network, ipv4: [], ipv6: [] }, names: 'IPv4 or IPv6' },
  ],
};

t.test('on a VLAN that is made, shared by two networks', (t) => {
  driverCompliance(t, macvlan, FIXTURE);
  t.end();
});

t.test('on an interface that is there', (t) => {
  const onEth0 = (spec: NetworkSpec): NetworkSpec => ({ ...spec, options: { parent: 'eth0' } });
  driverCompliance(t, macvlan, { ...FIXTURE, network: onEth0(network), other: onEth0(other), refused: [] });
  t.end();
});

t.test('with the host among the neighbours', (t) => {
  const own = { parent: 'eth0', host_access: 'true' };
  driverCompliance(t, macvlan, {
    ...FIXTURE,
    network: { ...network, options: own },
    other: { ...other, options: { parent: 'eth0', promiscuous: '1' } },
    refused: [],
  });
  t.end();
});

t.test('without a parent', (t) => {
  const on = (spec: NetworkSpec): NetworkSpec => ({ ...spec, options: {} });
  driverCompliance(t, macvlan, { ...FIXTURE, network: on(network), other: on(other), refused: [] });
  t.end();
});

t.test('an endpoint outside of the subnets is refused with address and subnets', (t) => {
  const outside = { ...endpoint, address: prefix('10.9.0.2/24'), mac: mac('02:42:0a:09:00:02') };
  t.throws(() => macvlan.endpoint(network, outside), {
    code: 'address-invalid',
    message: /10\.9\.0\.2.*10\.1\.0\.0\/24, 10\.3\.0\.0\/24/,
  });
  t.end();
});

t.test(
  'what Join answers: the gateway of the subnet that the address is in, and never docker_gwbridge',
  (t) => {
    t.match(macvlan.join(network, endpoint), { gateway: ip('10.1.0.1'), gatewayV6: ip('fd00:1::1') });
    t.match(macvlan.join(network, second), { gateway: ip('10.3.0.1') });
    for (const none of [
      { ...network, internal: true },
      { ...network, options: {} },
    ]) {
      const info = macvlan.join(none, endpoint);
      t.notOk('gateway' in info || 'gatewayV6' in info);
      t.equal(info.disableGatewayService, true);
    }
    t.notOk(
      'gateway' in macvlan.join({ ...network, ipv4: [subnet('10.1.0.0/24')] }, endpoint),
      'M10: none was given',
    );
    t.equal(macvlan.join(network, endpoint).disableGatewayService, true);
    t.equal(
      macvlan.join(options({ 'com.docker.network.container_iface_prefix': 'lan' }), endpoint).dstPrefix,
      'lan',
    );
    t.end();
  },
);
